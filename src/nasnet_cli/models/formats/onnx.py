"""ONNX files, read by OpenVINO and, for their metadata and weights, by us."""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nasnet_cli.errors import ModelError
from nasnet_cli.models.card import Card, Labels, network_of_card, read_texts
from nasnet_cli.models.formats.base import Format, Network, Outputs
from nasnet_cli.models.formats.names import Precision
from nasnet_cli.models.formats.openvino_file import Facts, OpenedGraph, open_file, read_graph
from nasnet_cli.models.values import InputValues

if TYPE_CHECKING:
    import numpy as np

# Old enough for every runtime in use, and new enough for all that is needed.
_OPSET_VERSION = 17
_IR_VERSION = 8

_METADATA_PREFIX = "nasnet/"
"""Keys of metadata_props: this and the file's name in a module's folder."""

# ONNX' own metadata of images (MetadataProps.md), and the keys under which others keep labels.
_PIXEL_RANGES = {
    "NominalRange_0_255": "0..255",
    "Normalized_0_1": "0..1",
    "Normalized_1_1": "-1..1",
}
_CHANNELS = {"rgb": "rgb", "bgr": "bgr"}
_LABEL_KEYS = ("labels", "names", "classes", "class_names", "class_labels", "id2label", "label_map")

# Field numbers and values in ONNX' protobuf schema.
_IR_VERSION_FIELD, _GRAPH_FIELD, _OPSETS_FIELD = 1, 7, 8
_FLOAT = 1
_EXTERNAL = 1
_MAX_FIELDS = 10_000


class ONNX(Format):
    """The format of .onnx files."""

    name = "onnx"
    title = "an ONNX file"
    expected = "an .onnx"
    suffixes = (".onnx",)
    is_runnable = True
    is_writable = True
    suffix = ".onnx"

    def detect(self, path: Path, head: bytes | None) -> Path | None:
        """Recognize a file by the heads of its fields: a large one costs no more than a small one."""
        if head is None:
            return None
        try:
            with (
                path.open("rb") as file,
                mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped,
                memoryview(mapped) as data,
            ):
                numbers = dict.fromkeys(_fields(data))
        except (OSError, ValueError):
            return None
        is_model = next(iter(numbers), None) == _IR_VERSION_FIELD
        return path if is_model and {_GRAPH_FIELD, _OPSETS_FIELD} <= numbers.keys() else None

    def open(self, path: Path) -> OpenedGraph:
        # Before OpenVINO reads it: an ONNX file may name other files to read.
        model = _read(path)
        facts = _facts(model, path)
        return open_file(self, path, read_graph(self, path, path), facts)

    def read_network(self, path: Path) -> Network:
        from nasnet_cli.network.weights import check_weights, weight_shapes

        model = _read(path)
        card, labels = _card_in(model, path)
        if card is None or card.network is None:
            raise ModelError(
                f"{path} does not say which network it is: nasnet export did not write it.",
                "Name the model that it was made from.",
            )
        tensors = _weights(model)
        spec = network_of_card(card, None, path)
        classification = "final_layer/FC/weights" in tensors
        wanted = weight_shapes(spec, classification=classification)
        # The graph has constants of its own beside the weights.
        weights = {name: tensors[name] for name in wanted if name in tensors}
        check_weights(weights, wanted, str(path))
        return Network(path.stem, spec, weights, classification, card, labels)

    def check_packages(self) -> None:
        try:
            import onnx  # noqa: F401
            import onnxruntime  # noqa: F401
        except ImportError as error:
            raise ModelError(
                f"ONNX files need the package {error.name}, which is not installed.",
                "Install it with: pip install 'nasnet-cli[onnx]'.",
            ) from error

    def write(
        self, path: Path, network: Network, texts: Mapping[str, str], precision: Precision
    ) -> None:
        """Write a model from images [batch, size, size, 3] in [0, 1] to logits [batch, classes] and
        features [batch, depth], any batch. The texts go into its metadata."""
        import onnx
        from onnx import helper

        from nasnet_cli.network.builder import build_network
        from nasnet_cli.network.layers.onnx import OnnxLayers, Value, tensor_info

        spec, classification = network.spec, network.classification
        layers = OnnxLayers(spec, network.weights)
        images = Value("images", spec.image_size, 3)
        endpoints = build_network(spec, layers, images, classification=classification)
        outputs = []
        if classification:
            layers.output(endpoints["Logits"], "logits")
            outputs.append(tensor_info("logits", "batch", spec.classes))
        layers.output(endpoints["global_pool"], "features")
        outputs.append(tensor_info("features", "batch", spec.feature_depth))
        graph = helper.make_graph(
            layers.nodes,
            "nasnet_a",
            [tensor_info("images", "batch", spec.image_size, spec.image_size, 3)],
            outputs,
            list(layers.initializers.values()),
        )
        model = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", _OPSET_VERSION)],
            ir_version=_IR_VERSION,
            producer_name="nasnet-cli",
        )
        metadata = {_METADATA_PREFIX + name: text for name, text in texts.items()}
        helper.set_model_props(model, metadata)
        onnx.checker.check_model(model, full_check=True)
        onnx.save(model, path)

    def run(self, path: Path, images: np.ndarray, *, classification: bool) -> Outputs:
        """Run a file by ONNX Runtime on the CPU."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        names = [output.name for output in session.get_outputs()]
        return dict(zip(names, session.run(None, {"images": images}), strict=True))


def _read(path: Path) -> Any:
    """Return the OnnxModel message (schema.py) of a file. Raises ModelError when it is damaged.

    A file whose weights lie in other files is refused: it may name any file. So is one with
    constants that are not whole.
    """
    from nasnet_cli.models.safety.constants import check_onnx
    from nasnet_cli.models.savedmodel import schema

    try:
        model = schema.parse("OnnxModel", path.read_bytes())
    except ValueError:
        raise ModelError(
            f"{path} is damaged: it ends early or is not ONNX.", "Get it again."
        ) from None
    tensors = list(_messages(model, "OnnxTensor"))
    if any(tensor.data_location == _EXTERNAL for tensor in tensors):
        raise ModelError(
            f"{path} has weights in other files, which are not read.",
            "Save it as one file: onnx.save(onnx.load(path), new_path).",
        )
    check_onnx(path, tensors, _messages(model, "OnnxSparseTensor"))
    return model


def _card_in(model: Any, path: Path) -> tuple[Card | None, Labels | None]:
    """Return the card and the labels that export put into the metadata."""
    return read_texts(
        {
            entry.key.removeprefix(_METADATA_PREFIX): entry.value
            for entry in model.metadata_props
            if entry.key.startswith(_METADATA_PREFIX)
        },
        path,
    )


def _facts(model: Any, path: Path) -> Facts:
    """Return what the metadata says: export's card, and what others write there."""
    card, labels = _card_in(model, path)
    given = {entry.key: entry.value for entry in model.metadata_props}
    found = _PIXEL_RANGES.get(given.get("Image.NominalPixelRange", ""))
    channels = _CHANNELS.get(given.get("Image.BitmapPixelFormat", "")[:3].lower())
    values = InputValues(found, channels, "its metadata" if found else "assumed")
    texts = tuple((key, given[key]) for key in _LABEL_KEYS if key in given)
    return Facts(card, labels, values=values, label_texts=texts)


def _weights(model: Any) -> dict[str, np.ndarray]:
    """Return the graph's float32 initializers by name, in TensorFlow's order of axes.

    ONNX has kernels as [out, in, height, width]; depthwise ones, [channels, 1, height, width], are
    told by their TF-Slim names.
    """
    import numpy as np

    found = {}
    for tensor in model.graph.initializer:
        if tensor.data_type != _FLOAT:
            continue
        data = tensor.raw_data
        values = np.frombuffer(data, "<f4") if data else np.array(tensor.float_data, np.float32)
        if values.size != np.prod(tensor.dims, dtype=np.int64):
            raise ModelError(f"The weight {tensor.name} in it is damaged.", "Get the file again.")
        values = values.reshape(tuple(tensor.dims))
        if values.ndim == 4:
            is_depthwise = tensor.name.endswith("/depthwise_weights")
            values = values.transpose((2, 3, 0, 1) if is_depthwise else (2, 3, 1, 0))
        found[tensor.name] = np.ascontiguousarray(values)
    return found


def _messages(model: Any, kind: str) -> Iterator[Any]:
    """Yield all messages of a kind, wherever they are. No recursion: the model may be hostile."""
    waiting = [model]
    while waiting:
        for field, value in waiting.pop().ListFields():
            if field.message_type is None:
                continue
            messages = [value] if hasattr(value, "ListFields") else value
            if field.message_type.name == kind:
                yield from messages
            else:
                waiting.extend(messages)


def _fields(data: memoryview) -> Iterator[int]:
    """Yield the numbers of a message's fields in order. Raises ValueError for anything else."""
    from nasnet_cli.models.savedmodel.schema import read_varint

    at = 0
    for _ in range(_MAX_FIELDS):
        if at >= len(data):
            return
        key, at = read_varint(data, at)
        number, kind = key >> 3, key & 7
        if not number or kind not in (0, 1, 2, 5):
            raise ValueError("not a message")
        size = {1: 8, 5: 4}.get(kind, 0)
        if kind in (0, 2):
            value, at = read_varint(data, at)
            size = value if kind == 2 else 0
        at += size
        if at > len(data):
            raise ValueError("it ends early")
        yield number
