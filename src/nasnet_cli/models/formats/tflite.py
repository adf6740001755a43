"""TFLite files: the card in a file beside them, labels there or in the file's metadata."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nasnet_cli.errors import ModelError
from nasnet_cli.kept_files import parse_json, read_kept
from nasnet_cli.labels import read_labels
from nasnet_cli.models.card import CARD, LABELS, read_card_file
from nasnet_cli.models.files import reading
from nasnet_cli.models.formats.base import Format, Network, Outputs
from nasnet_cli.models.formats.names import Precision
from nasnet_cli.models.formats.openvino_file import (
    Facts,
    OpenedFile,
    UnknownOutputsError,
    describe_file,
    is_channels_first,
    open_file,
    output_index,
    read_graph,
)
from nasnet_cli.models.info import OpenedModel
from nasnet_cli.models.openvino_graph import select_outputs
from nasnet_cli.models.outputs import Operation
from nasnet_cli.models.savedmodel.reader import Tensor
from nasnet_cli.models.tflite_graph import LiteGraph, LiteTensor, labels_in_file, read_lite_graph
from nasnet_cli.models.values import BYTES, RANGES, InputValues, nearest, whole_range
from nasnet_cli.systems import link_or_copy, temporary_folder

if TYPE_CHECKING:
    import numpy as np

# No range of images but that of bytes goes so high.
_HIGH = 50
# TFLite's own tools for metadata are not maintained.
_CARD_SUFFIX, _LABELS_SUFFIX = ".nasnet.json", ".labels.tsv"


class TFLite(Format):
    """The format of .tflite files."""

    name = "tflite"
    title = "a TFLite file"
    expected = "a .tflite"
    suffixes = (".tflite",)
    is_runnable = True
    is_writable = True
    suffix = ".tflite"
    companions = (f"NAME{_LABELS_SUFFIX}", f"NAME{_CARD_SUFFIX}")
    precisions = ("f32", "f16")

    def detect(self, path: Path, head: bytes | None) -> Path | None:
        return path if head is not None and head[4:8] == b"TFL3" else None

    def files(self, path: Path) -> dict[str, Path]:
        beside = {suffix: _beside(path, suffix) for suffix in (_CARD_SUFFIX, _LABELS_SUFFIX)}
        return {"": path, **beside}

    def open(self, path: Path) -> OpenedModel:
        data, lite = _read(path)
        card = read_card_file(_beside(path, _CARD_SUFFIX))
        found = lite.normalization
        values = InputValues(
            found.range, found.channels, "its metadata" if found.range else "assumed"
        )
        list_file = _beside(path, _LABELS_SUFFIX)
        facts = Facts(card, values=values)
        if list_file.exists():
            facts = facts._replace(labels=read_labels(list_file), labels_from=list_file.name)
        else:
            facts = facts._replace(label_texts=tuple(labels_in_file(data, lite)))
        try:
            if lite.is_quantized:
                return _open_quantized(self, path, lite, facts)
            return open_file(self, path, self.read_graph(path), facts)
        except UnknownOutputsError as error:
            if card is None:
                beside = path.name + _CARD_SUFFIX
                error.remedy = f"If nasnet export wrote it, put its {beside} beside it again."
            raise

    def read_graph(self, path: Path) -> Any:
        """Return the openvino.Model of a file, whatever it is called."""
        if_incomplete = (
            "Convert it again without custom operations and those of TensorFlow (SELECT_TF_OPS), or "
            "name the model that it was made from."
        )
        if path.suffix == ".tflite":
            return read_graph(self, path, path, if_incomplete=if_incomplete)
        # OpenVINO recognizes TFLite by the file's name alone.
        with temporary_folder() as folder:
            link = folder / "model.tflite"
            link_or_copy(path.absolute(), link)
            return read_graph(self, path, link, if_incomplete=if_incomplete)

    def write(
        self, path: Path, network: Network, texts: Mapping[str, str], precision: Precision
    ) -> None:
        """Write a file with the signature serving_default: images [batch, size, size, 3] to logits
        [batch, classes] and features [batch, depth]. f16 keeps the weights as float16."""
        from nasnet_cli.network.layers.function import make_variables, network_function
        from nasnet_cli.quiet import silence, tf

        variables = make_variables(network.weights)
        module = tf.Module()
        module.kept = list(variables.values())
        function: Any = network_function(
            network.spec, variables, classification=network.classification
        )
        with silence():
            converter = tf.lite.TFLiteConverter.from_concrete_functions(
                [function.get_concrete_function()], module
            )
            if precision == "f16":
                converter.optimizations = [tf.lite.Optimize.DEFAULT]
                converter.target_spec.supported_types = [tf.float16]
            content: bytes = converter.convert()
        path.write_bytes(content)
        for name, suffix in ((CARD, _CARD_SUFFIX), (LABELS, _LABELS_SUFFIX)):
            if text := texts.get(name.as_posix()):
                _beside(path, suffix).write_text(text, encoding="utf-8")

    def run(self, path: Path, images: np.ndarray, *, classification: bool) -> Outputs:
        """Run a file by TensorFlow's interpreter."""
        import numpy as np

        from nasnet_cli.quiet import silence, tf

        with silence():
            interpreter = tf.lite.Interpreter(model_path=str(path))
            runner: Any = interpreter.get_signature_runner("serving_default")
            return {name: np.array(value) for name, value in runner(images=images).items()}

    def record_check(self, path: Path, result: dict[str, Any]) -> None:
        beside = _beside(path, _CARD_SUFFIX)
        card = {**parse_json(read_kept(beside)), "export": result}
        text = json.dumps(card, indent=1, ensure_ascii=False) + "\n"
        beside.write_text(text, encoding="utf-8")


@dataclass(frozen=True, eq=False)
class OpenedLite(OpenedFile):
    """A file that computes in integers, which only TensorFlow Lite's interpreter runs rightly."""

    lite: LiteGraph

    @property
    def is_quantized(self) -> bool:
        return True

    @property
    def images(self) -> LiteTensor:
        """The tensor of the images."""
        return self.lite.tensors[self.lite.inputs[0]]

    @property
    def batch(self) -> int:
        return (self.images.shape and self.images.shape[0]) or 1

    @property
    def channels_first(self) -> bool:
        return is_channels_first(self.images.shape)

    @property
    def input_quantization(self) -> tuple[float, int] | None:
        """The scale and the zero point of the images; None for floats."""
        images = self.images
        return (images.scales[0], images.zero_point) if images.is_quantized else None

    def takes_bytes(self, input_range: str) -> bool:
        """Return whether the images are bytes as they are, where a range of values is meant.

        That is so where the range is all that the type of the images can hold.
        """
        if self.images.dtype not in ("uint8", "int8"):
            return False
        return not self.images.is_quantized or input_range == self._whole_range

    @cached_property
    def _whole_range(self) -> str | None:
        found = self.lite.entry_quantization()
        if found is None:
            return None
        dtype, scale, _ = found
        if dtype == "int16":  # as many below 0 as above, whatever the images have
            return BYTES if scale * 2**15 > _HIGH else None
        return whole_range(*found)

    def read_values(self) -> InputValues:
        found = self.facts.values
        if self._whole_range is None:
            return found.or_stated(*self.lite.stated_values())
        meant = nearest(self._whole_range)
        if self.input_quantization is None:
            if found.range is not None or meant not in RANGES:
                return found
        elif found.range is not None and nearest(self._whole_range, found.range) == found.range:
            return found
        # Metadata of other values than the integers can hold is for images of floats.
        return InputValues(meant, found.channels, "its quantization")

    def operation_before(self, tensor: str) -> Operation:
        return self.lite.before(self.lite.outputs[output_index(tensor)])

    @property
    def parameters(self) -> int:
        return self.lite.parameters

    @contextmanager
    def openvino_model(self, tensors: Sequence[str]) -> Iterator[Any]:
        graph = TFLite().read_graph(self.path)
        yield select_outputs(graph, [output_index(tensor) for tensor in tensors])


def _read(path: Path) -> tuple[bytes, LiteGraph]:
    """Return the content of a file and what it says. Raises ModelError when it is damaged."""
    from nasnet_cli.models.safety.tflite import check_tflite

    with reading(path, "Check it."):
        data = path.read_bytes()
    try:
        check_tflite(path, data)
        return data, read_lite_graph(data)
    except (ValueError, RecursionError) as error:
        raise ModelError(
            f"{path} is damaged or cut off: {error}.",
            "Get it again, or name the model that it was made from.",
        ) from None


def _open_quantized(entry: TFLite, path: Path, lite: LiteGraph, facts: Facts) -> OpenedLite:
    """Return the model in a file that computes in integers."""
    inputs = [_described(lite, number, "input", i) for i, number in enumerate(lite.inputs)]
    outputs = [_described(lite, number, "output", i) for i, number in enumerate(lite.outputs)]
    return describe_file(OpenedLite, entry, path, inputs, outputs, facts, lite)


def _described(lite: LiteGraph, number: int, key: str, index: int) -> Tensor:
    tensor = lite.tensors[number]
    return Tensor(tensor.name or f"{key} {index}", f"{key}:{index}", tensor.dtype, tensor.shape)


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)
