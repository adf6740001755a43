"""The common base of ONNX, TFLite and OpenVINO files: OpenVINO reads all three as they are.

What export wrote has its card and its labels with it; of other files, the shapes say what they are.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from nasnet_cli.errors import ModelError, describe_error
from nasnet_cli.models import files
from nasnet_cli.models.card import Card, Labels
from nasnet_cli.models.formats.base import Format
from nasnet_cli.models.info import OpenedModel
from nasnet_cli.models.openvino_graph import count_parameters, operations_before, select_outputs
from nasnet_cli.models.savedmodel.reader import Shape, Signature, Tensor
from nasnet_cli.models.savedmodel.signatures import Choice

# OpenVINO's words for a missing operation: of TFLite, of ONNX, of its own files (twice).
_MISSING_OPERATION = re.compile(
    r"No translator found for (\S+) node|No conversion rule found for operations: (.+)"
    r"|Cannot create (\S+) layer|doesn't contain the operation with type: (\S+)"
)


class UnknownOutputsError(ModelError):
    """A model's outputs could be anything."""


@dataclass(frozen=True, eq=False)
class OpenedFile(OpenedModel):
    """A file that OpenVINO has read: graph is an openvino.Model, parts its files by their role."""

    graph: Any
    signature: Signature
    parts: Mapping[str, Path]

    @property
    def channels_first(self) -> bool:
        return _is_channels_first(_sizes(self.graph.inputs[0]))

    @property
    def signatures(self) -> dict[str, Signature]:
        return {self.signature.name: self.signature}

    @cached_property
    def classification(self) -> Choice | None:
        return self._choice("logits")

    @cached_property
    def features(self) -> Choice | None:
        return self._choice("features")

    def _choice(self, key: str) -> Choice | None:
        output = self.signature.outputs.get(key)
        images = next(iter(self.signature.inputs.values()))
        return Choice(self.signature, images, output) if output else None

    def operations_before(self, tensor: str) -> Iterable[str]:
        return operations_before(self.graph.outputs[_index(tensor)])

    @cached_property
    def parameters(self) -> int:
        return count_parameters(self.graph)

    @property
    def unsafe_operations(self) -> list[str]:
        # OpenVINO has no operation that does more than compute, and reads no others.
        return []

    @cached_property
    def file_sizes(self) -> dict[str, int]:
        return files.sizes(self.path.parent, [part.name for part in self.parts.values()])

    @cached_property
    def digest(self) -> str:
        # By role: the file's name does not count, as a folder's name does not.
        return files.digest_of(self.parts)

    @contextmanager
    def openvino_model(self, tensors: Sequence[str]) -> Iterator[Any]:
        yield select_outputs(self.graph.clone(), [_index(tensor) for tensor in tensors])


def open_file(
    entry: Format, path: Path, graph: Any, card: Card | None, labels: Labels | None
) -> OpenedFile:
    """Return the model in a file of a format, given what OpenVINO read and its card and labels.

    It has one input of images, [batch, height, width, 3] or [batch, 3, height, width] in [0, 1], and
    outputs [batch, length]: "logits" and "features", or as a card tells, or one of classes. Raises
    ModelError when it is not such a model.
    """
    if len(graph.inputs) != 1:
        raise _misfit(path, f"{len(graph.inputs)} inputs")
    images = _image_input(path, graph.inputs[0])
    outputs = _named_outputs(path, graph.outputs, card)
    assert images.shape is not None
    height, width = images.shape[1:3]
    size = (height, width) if height and width else None
    signature = Signature("default", {images.key: images}, outputs)
    parts = {role: part for role, part in entry.files(path).items() if part.is_file()}
    model = OpenedFile(path, entry.name, card, labels, size, graph, signature, parts)
    model.check_labels(path)
    return model


def read_graph(
    entry: Format,
    path: Path,
    file: Path,
    *,
    if_damaged: str = "Get it again, or name the model that it was made from.",
    if_incomplete: str = "Name the model that it was made from.",
) -> Any:
    """Return the openvino.Model of a file, which errors call path.

    Raises ModelError when it is damaged, or when OpenVINO lacks an operation of it. Which other
    files it names is for the caller to check first.
    """
    from nasnet_cli.quiet import openvino

    try:
        return openvino.Core().read_model(file)
    except Exception as error:  # OpenVINO's own exceptions share no base but Exception
        reason = error
    if missing := _MISSING_OPERATION.search(str(reason)):
        names = next(name for name in missing.groups() if name)
        raise ModelError(f"{path} has operations that OpenVINO cannot run: {names}.", if_incomplete)
    if "FlatBuffer verification failed" in str(reason):
        raise ModelError(f"{path} is damaged or cut off.", if_damaged)
    problem = describe_error(reason, -1).rstrip("!.")
    raise ModelError(f"{path} cannot be read as {entry.title}: {problem}.", if_damaged)


def _index(tensor: str) -> int:
    """Return the number of the graph's output that a Tensor of a signature stands for."""
    return int(tensor.rpartition(":")[2])


def _image_input(path: Path, port: Any) -> Tensor:
    sizes = _sizes(port)
    if sizes is not None and _is_channels_first(sizes):
        batch, channels, *sides = sizes
        sizes = (batch, *sides, channels)
    if sizes is None or len(sizes) != 4 or sizes[3] != 3:
        raise _misfit(path, f"an input of shape {port.get_partial_shape()}")
    return Tensor("images", "input:0", _dtype(port), sizes)


def _is_channels_first(sizes: Shape) -> bool:
    return sizes is not None and len(sizes) == 4 and sizes[1] == 3 and sizes[3] != 3


def _named_outputs(path: Path, ports: Sequence[Any], card: Card | None) -> dict[str, Tensor]:
    """Return the outputs under the keys logits and features, as far as they can be told."""
    outputs = {}
    for i, port in enumerate(ports):
        key = min(port.get_names(), default=f"output {i}")
        outputs[key] = Tensor(key, f"output:{i}", _dtype(port), _sizes(port))
    if outputs.keys() & {"logits", "features"}:
        return outputs
    vectors = {key: tensor for key, tensor in outputs.items() if len(tensor.shape or ()) == 2}
    renamed = _renamed_by_length(vectors, card)
    if not renamed and len(vectors) == 1:
        renamed = dict.fromkeys(vectors, "logits")
    if not renamed:
        names = ", ".join(map(repr, outputs))
        raise _misfit(path, f"the outputs {names}", UnknownOutputsError)
    return {
        renamed.get(key, key): replace(tensor, key=renamed.get(key, key))
        for key, tensor in outputs.items()
    }


def _renamed_by_length(vectors: Mapping[str, Tensor], card: Card | None) -> dict[str, str]:
    """Return new keys for the outputs that a card's network tells by their lengths."""
    if card is None or card.network is None:
        return {}
    from nasnet_cli.network.spec import NASNetA

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


def _sizes(port: Any) -> Shape:
    shape = port.get_partial_shape()
    if shape.rank.is_dynamic:
        return None
    return tuple(d.get_length() if d.is_static else None for d in shape)


def _dtype(port: Any) -> str:
    name: str = port.get_element_type().to_dtype().name
    return name


def _misfit(path: Path, problem: str, kind: type[ModelError] = ModelError) -> ModelError:
    return kind(
        f"The model {path} has {problem}, which doesn't say what to run.",
        'It needs an input of color images, [batch, height, width, 3], and outputs "logits" or '
        '"features", [batch, length], as nasnet export writes them.',
    )
