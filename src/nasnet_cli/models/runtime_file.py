"""A model in a runtime's own file: ONNX, OpenVINO's .xml with its .bin, TFLite.

OpenVINO reads all three, and tells of all three in the same way. What export wrote has the card
and the labels with it; of others' files we know what their shapes say.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from nasnet_cli.errors import ModelError
from nasnet_cli.labels import Label, read_labels
from nasnet_cli.models import files
from nasnet_cli.models.card import CARD, LABELS, Card, Output, read_card_file
from nasnet_cli.models.detect import DetectedModel
from nasnet_cli.models.extras import read_texts
from nasnet_cli.models.formats import onnx
from nasnet_cli.models.info import OpenedModel
from nasnet_cli.models.multiply_adds import MultiplyAdds
from nasnet_cli.models.runtime_network import read_network
from nasnet_cli.models.savedmodel.reader import Shape, Signature, Tensor
from nasnet_cli.models.savedmodel.signatures import Choice
from nasnet_cli.network.spec import NASNetA

INFO = "nasnet"
"""The entry of an .xml file's rt_info that holds the card and the labels."""

CARD_SUFFIX, LABELS_SUFFIX = ".nasnet.json", ".labels.tsv"
"""What stands beside a .tflite, after its name."""


@dataclass(frozen=True, eq=False)
class RuntimeFile(OpenedModel):
    """A file that has been read: kind is its format, network an openvino.Model."""

    kind: str
    network: Any
    signature: Signature

    @property
    def format(self) -> str:
        return self.kind

    @property
    def tag_sets(self) -> list[list[str]]:
        return []

    @property
    def signatures(self) -> dict[str, Signature]:
        return {self.signature.name: self.signature}

    @cached_property
    def classification(self) -> Choice | None:
        return self._choice("logits")

    @cached_property
    def features(self) -> Choice | None:
        return self._choice("features")

    def _choice(self, output: str) -> Choice | None:
        """The output of that key, with the one input that there is."""
        found = self.signature.outputs.get(output)
        picture = next(iter(self.signature.inputs.values()))
        return Choice(self.signature, picture, found) if found else None

    @property
    def output(self) -> Output | None:
        if self.classification is None:
            return None
        if self.card is not None:
            return self.card.output
        index = output_index(self.classification.output.tensor)
        before = self.network.outputs[index].get_node().input_value(0).get_node()
        return "probabilities" if before.get_type_name() == "Softmax" else "logits"

    @cached_property
    def parameters(self) -> int:
        constants = (op.output(0) for op in self.network.get_ops() if _kind(op) == "Constant")
        sizes = (math.prod(c.get_shape()) for c in constants if c.get_element_type().is_real())
        # Single numbers are the graph's own: the epsilon of a normalisation, a factor.
        return sum(size for size in sizes if size > 1)

    @cached_property
    def multiply_adds(self) -> MultiplyAdds | None:
        sizes = _sizes(self.network.inputs[0])
        if self.image_size is None or sizes is None:
            return None
        network = self.network.clone()
        try:
            network.reshape({0: [1, *sizes[1:]]})
            counts = [_products(op) for op in network.get_ops()]
        except RuntimeError:  # a shape that only a run would tell
            return None
        return MultiplyAdds(sum(map(sum, counts)), sum(depthwise for _, depthwise in counts))

    @property
    def unsafe_operations(self) -> list[str]:
        # OpenVINO has no operation that does more than compute, and reads none that it hasn't.
        return []

    @cached_property
    def file_sizes(self) -> dict[str, int]:
        parts = _parts(self.folder, self.kind).values()
        return files.sizes(self.folder.parent, [path.name for path in parts])

    @cached_property
    def digest(self) -> str:
        # What the file is called doesn't count, as a folder's name doesn't.
        parts = _parts(self.folder, self.kind)
        sizes = self.file_sizes
        return files.digest_of([(role, path, sizes[path.name]) for role, path in parts.items()])


def open_file(found: DetectedModel) -> RuntimeFile:
    """Opens a file that was recognised as onnx, openvino or tflite.

    It has one input of pictures, [batch, height, width, 3] or [batch, 3, height, width] in [0, 1],
    and outputs [batch, length]: "logits" and "features", or as a card tells, or one of classes.
    Raises ModelError when it can't be read or isn't such a model.
    """
    path, kind = found.path, found.kind
    # Looked at before OpenVINO does: an ONNX file may name other files to read.
    metadata = onnx.texts(onnx.read_onnx(path)) if kind == "onnx" else {}
    network = read_network(found)
    if kind == "tflite":
        card, labels = _beside(path)
    else:
        card, labels = read_texts(metadata or _texts_inside(network), path)
    if len(network.inputs) != 1:
        raise _misfit(path, f"{len(network.inputs)} inputs")
    picture = _picture(path, network.inputs[0])
    outputs = _outputs(path, kind, network.outputs, card)
    assert picture.shape is not None
    height, width = picture.shape[1:3]
    size = (height, width) if height and width else None
    signature = Signature("default", {picture.key: picture}, outputs)
    model = RuntimeFile(path, card, labels, size, kind, network, signature)
    model.check_labels(path)
    return model


def channels_first(shape: Any) -> bool:
    """Whether a picture input's partial shape is [batch, 3, height, width]."""
    known = [d.get_length() if d.is_static else None for d in shape]
    return len(known) == 4 and known[1] == 3 and known[3] != 3


def output_index(tensor: str) -> int:
    """Which output of the network it is that a Tensor of a RuntimeFile stands for."""
    return int(tensor.rpartition(":")[2])


def _beside(path: Path) -> tuple[Card | None, tuple[Label, ...] | None]:
    """The card and the labels that stand beside a .tflite, as far as there are any."""
    labels = path.with_name(path.name + LABELS_SUFFIX)
    card = read_card_file(path.with_name(path.name + CARD_SUFFIX))
    return card, read_labels(labels) if labels.exists() else None


def _texts_inside(network: Any) -> dict[str, str]:
    """The card and the labels in an .xml, by their names in a module's folder."""
    return {
        place.as_posix(): network.get_rt_info([INFO, place.name]).astype(str)
        for place in (CARD, LABELS)
        if network.has_rt_info([INFO, place.name])
    }


def _parts(path: Path, kind: str) -> dict[str, Path]:
    """The files that it consists of, by what they are to it."""
    parts = {"": path}
    if kind == "openvino":
        parts[".bin"] = path.with_suffix(".bin")
    elif kind == "tflite":
        beside = (CARD_SUFFIX, LABELS_SUFFIX)
        parts |= {suffix: path.with_name(path.name + suffix) for suffix in beside}
    return {role: place for role, place in parts.items() if place.is_file()}


def _picture(path: Path, port: Any) -> Tensor:
    sizes = _sizes(port)
    if sizes is not None and channels_first(port.get_partial_shape()):
        batch, channels, *sides = sizes
        sizes = (batch, *sides, channels)
    if sizes is None or len(sizes) != 4 or sizes[3] != 3:
        raise _misfit(path, f"an input of shape {port.get_partial_shape()}")
    return Tensor("images", "input:0", _dtype(port), sizes)


def _outputs(path: Path, kind: str, ports: list[Any], card: Card | None) -> dict[str, Tensor]:
    """The outputs under the keys logits and features, as far as it is known which they are."""
    found = {}
    for i, port in enumerate(ports):
        key = min(port.get_names(), default=f"output {i}")
        found[key] = Tensor(key, f"output:{i}", _dtype(port), _sizes(port))
    if found.keys() & {"logits", "features"}:
        return found
    vectors = {key: tensor for key, tensor in found.items() if len(tensor.shape or ()) == 2}
    renamed = _by_length(vectors, card) or (
        dict(zip(vectors, ("logits",), strict=True)) if len(vectors) == 1 else {}
    )
    if not renamed:
        misfit = _misfit(path, "the outputs " + ", ".join(map(repr, found)))
        if kind == "tflite" and card is None:
            beside = path.name + CARD_SUFFIX
            misfit.remedy = f"If nasnet export wrote it, put its {beside} beside it again."
        raise misfit
    return {
        renamed.get(key, key): Tensor(renamed.get(key, key), t.tensor, t.dtype, t.shape)
        for key, t in found.items()
    }


def _by_length(vectors: dict[str, Tensor], card: Card | None) -> dict[str, str]:
    """New keys for the outputs that a card's network tells by their lengths."""
    if card is None or card.network is None:
        return {}
    try:
        spec = NASNetA.from_dict(card.network)
        lengths = {"features": spec.feature_depth, "logits": spec.classes}
    except (TypeError, KeyError, ValueError):
        return {}
    renamed: dict[str, str] = {}
    for wanted, length in lengths.items():
        # TFLite numbers its outputs in the order of their names, should two be of one length.
        for key in sorted(vectors):
            shape = vectors[key].shape
            if key not in renamed and shape and shape[-1] == length:
                renamed[key] = wanted
                break
    return renamed


def _products(op: Any) -> tuple[int, int]:
    """An operation's multiply-adds: those of products and those of depthwise convolutions."""
    kind = _kind(op)
    if kind not in ("Convolution", "GroupConvolution", "MatMul"):
        return 0, 0
    size = math.prod(op.output(0).get_shape())
    if kind == "MatMul":
        return size * op.input_value(0).get_shape()[-1], 0
    kernel = op.input_value(1).get_shape()
    if kind == "Convolution":
        return size * math.prod(kernel[1:]), 0
    each = size * math.prod(kernel[2:])
    return (0, each) if kernel[2] == 1 else (each, 0)


def _kind(op: Any) -> str:
    name: str = op.get_type_name()
    return name


def _sizes(port: Any) -> Shape:
    shape = port.get_partial_shape()
    if shape.rank.is_dynamic:
        return None
    return tuple(d.get_length() if d.is_static else None for d in shape)


def _dtype(port: Any) -> str:
    name: str = port.get_element_type().to_dtype().name
    return name


def _misfit(path: Path, has: str) -> ModelError:
    return ModelError(
        f"The model {path} has {has}, which doesn't say what to run.",
        'It needs an input of colour pictures, [batch, height, width, 3], and outputs "logits" or '
        '"features", [batch, length], as nasnet export writes them.',
    )
