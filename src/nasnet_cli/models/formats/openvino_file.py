"""The common base of ONNX, TFLite and OpenVINO files: OpenVINO reads all three as they are.

What export wrote has its card and its labels with it; of other files, the shapes say what they are.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from nasnet_cli.errors import ModelError, describe_error
from nasnet_cli.models import files
from nasnet_cli.models.card import Card, Labels
from nasnet_cli.models.formats.base import Format
from nasnet_cli.models.found_labels import labels_beside, labels_in
from nasnet_cli.models.info import OpenedModel
from nasnet_cli.models.openvino_graph import (
    count_parameters,
    operation_before,
    select_outputs,
    stated_values,
)
from nasnet_cli.models.outputs import Operation
from nasnet_cli.models.savedmodel.reader import Shape, Signature, Tensor
from nasnet_cli.models.savedmodel.signatures import Choice
from nasnet_cli.models.values import InputValues

# OpenVINO's words for a missing operation: of TFLite, of ONNX, of its own files (twice).
_MISSING_OPERATION = re.compile(
    r"No translator found for (\S+) node|No conversion rule found for operations: (.+)"
    r"|Cannot create (\S+) layer|doesn't contain the operation with type: (\S+)"
)


class UnknownOutputsError(ModelError):
    """A model's outputs could be anything."""


class Facts(NamedTuple):
    """Statements of a file and those beside it: the card, the labels with their place, and
    the values that it takes.

    label_texts are texts in it that may be its labels, with the names of their places.
    """

    card: Card | None = None
    labels: Labels | None = None
    labels_from: str | None = None
    values: InputValues = InputValues()
    label_texts: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, eq=False)
class OpenedFile(OpenedModel):
    """A file with one signature; parts are its files by their role, facts what it says."""

    signature: Signature
    parts: Mapping[str, Path]
    facts: Facts

    @property
    def labels_from(self) -> str | None:
        return self.facts.labels_from

    @property
    def signatures(self) -> dict[str, Signature]:
        return {self.signature.name: self.signature}

    @cached_property
    def classification(self) -> Choice | None:
        choice = choice_of(self.signature, "logits")
        return None if self.is_feature_vector(choice) else choice

    @cached_property
    def features(self) -> Choice | None:
        found = choice_of(self.signature, "features")
        return found if self.classification else found or choice_of(self.signature, "logits")

    @property
    def unsafe_operations(self) -> list[str]:
        # OpenVINO and TensorFlow Lite have no operation that does more than compute, and read no
        # others.
        return []

    @cached_property
    def file_sizes(self) -> dict[str, int]:
        return files.sizes(self.path.parent, [part.name for part in self.parts.values()])

    @cached_property
    def digest(self) -> str:
        # By role: the file's name does not count, as a folder's name does not.
        return files.digest_of(self.parts)


@dataclass(frozen=True, eq=False)
class OpenedGraph(OpenedFile):
    """A file that OpenVINO has read: graph is an openvino.Model."""

    graph: Any

    @property
    def channels_first(self) -> bool:
        return is_channels_first(_sizes(self.graph.inputs[0]))

    def read_values(self) -> InputValues:
        return self.facts.values.or_stated(*stated_values(self.graph))

    def operation_before(self, tensor: str) -> Operation | None:
        return operation_before(self.graph.outputs[output_index(tensor)])

    @cached_property
    def parameters(self) -> int:
        return count_parameters(self.graph)

    @contextmanager
    def openvino_model(self, tensors: Sequence[str]) -> Iterator[Any]:
        yield select_outputs(self.graph.clone(), [output_index(tensor) for tensor in tensors])


File = TypeVar("File", bound=OpenedFile)


def open_file(entry: Format, path: Path, graph: Any, facts: Facts) -> OpenedGraph:
    """Return the model in a file of a format, given what OpenVINO read and what is known of it.

    It has one input of images, [batch, height, width, 3] or [batch, 3, height, width], and outputs
    [batch, length]: "logits" and "features", or as a card tells, or one of classes. Raises
    ModelError when it is not such a model.
    """
    inputs = [_tensor(f"input {i}", f"input:{i}", port) for i, port in enumerate(graph.inputs)]
    outputs = [
        _tensor(min(port.get_names(), default=f"output {i}"), f"output:{i}", port)
        for i, port in enumerate(graph.outputs)
    ]
    return describe_file(OpenedGraph, entry, path, inputs, outputs, facts, graph)


def describe_file(
    kind: Callable[..., File],
    entry: Format,
    path: Path,
    inputs: Sequence[Tensor],
    outputs: Sequence[Tensor],
    facts: Facts,
    content: Any,
) -> File:
    """Return a file of a format as a kind of OpenedFile, which content is the last field of.

    Raises ModelError when it is not a model for images, or its labels are not those of its classes.
    """
    signature, size = _image_signature(path, inputs, outputs, facts.card)
    facts = _with_labels(facts, path, signature)
    parts = {role: part for role, part in entry.files(path).items() if part.is_file()}
    model = kind(path, entry.name, facts.card, facts.labels, size, signature, parts, facts, content)
    model.check_labels(path)
    return model


def choice_of(signature: Signature, key: str) -> Choice | None:
    """Return the output under a key, logits or features, with the images that it is made of."""
    output = signature.outputs.get(key)
    images = next(iter(signature.inputs.values()))
    return Choice(signature, images, output) if output else None


def _with_labels(facts: Facts, path: Path, signature: Signature) -> Facts:
    """Return the facts with the labels in the file's texts or beside it, where they have none."""
    if facts.labels is not None:
        return facts._replace(labels_from=facts.labels_from or "the model")
    choice = choice_of(signature, "logits")
    length = choice.output.shape[-1] if choice and choice.output.shape else None
    count = 2 if length == 1 else length  # a single sigmoid is two classes
    for place, text in facts.label_texts if count else ():
        if labels := labels_in(text, count):
            return facts._replace(labels=labels, labels_from=f"{place} in its metadata")
    if beside := labels_beside(path, count):
        return facts._replace(labels=beside[0], labels_from=beside[1])
    return facts


def _image_signature(
    path: Path, inputs: Sequence[Tensor], outputs: Sequence[Tensor], card: Card | None
) -> tuple[Signature, tuple[int, int] | None]:
    """Return the signature of a model for images, and their (height, width) if they have one.

    Raises ModelError when it is not a model for images.
    """
    if len(inputs) != 1:
        raise _misfit(path, f"{len(inputs)} inputs")
    images = _image_input(path, inputs[0])
    assert images.shape is not None
    height, width = images.shape[1:3]
    size = (height, width) if height and width else None
    outputs = list(map(_as_vector, outputs))
    named = _named_outputs(path, outputs, card)
    return Signature("default", {images.key: images}, named), size


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


def output_index(tensor: str) -> int:
    """Return the number of the graph's output that a Tensor of a signature stands for."""
    return int(tensor.rpartition(":")[2])


def _image_input(path: Path, port: Tensor) -> Tensor:
    sizes = port.shape
    if sizes is not None and is_channels_first(sizes):
        batch, channels, *sides = sizes
        sizes = (batch, *sides, channels)
    if sizes is None or len(sizes) != 4 or sizes[3] != 3:
        raise _misfit(path, f"an input of shape {_shown(sizes)}")
    return Tensor("images", "input:0", port.dtype, sizes)


def _as_vector(port: Tensor) -> Tensor:
    """Return an output of shape [batch, length, 1, 1] as [batch, length], which is the same."""
    shape = port.shape
    if shape is None or len(shape) < 3:
        return port
    batch, *rest = shape
    lengths = [size for size in rest if size != 1]
    return port._replace(shape=(batch, *(lengths or [1]))) if len(lengths) < 2 else port


def _shown(shape: Shape) -> str:
    return "unknown" if shape is None else f"[{', '.join(str(n or '?') for n in shape)}]"


def is_channels_first(sizes: Shape) -> bool:
    """Return whether images of this shape are [batch, 3, height, width]."""
    return sizes is not None and len(sizes) == 4 and sizes[1] == 3 and sizes[3] != 3


def _named_outputs(path: Path, ports: Sequence[Tensor], card: Card | None) -> dict[str, Tensor]:
    """Return the outputs under the keys logits and features, as far as they can be told."""
    outputs = {port.key: port for port in ports}
    vectors = {key: tensor for key, tensor in outputs.items() if len(tensor.shape or ()) == 2}
    if vectors.keys() & {"logits", "features"}:
        return vectors
    renamed = _renamed_by_length(vectors, card)
    if not renamed and len(vectors) == len(outputs) == 1:
        renamed = dict.fromkeys(vectors, "logits")
    if not renamed:
        listed = ", ".join(f"{key!r} {_shown(port.shape)}" for key, port in outputs.items())
        raise _misfit(path, f"the outputs {listed}", UnknownOutputsError)
    return {renamed.get(key, key): tensor for key, tensor in outputs.items()}


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


def _tensor(key: str, tensor: str, port: Any) -> Tensor:
    name: str = port.get_element_type().to_dtype().name
    return Tensor(key, tensor, name, _sizes(port))


def _misfit(path: Path, problem: str, kind: type[ModelError] = ModelError) -> ModelError:
    return kind(
        f"The model {path} has {problem}, which doesn't say what to run.",
        'It needs an input of color images, [batch, height, width, 3], and outputs "logits" or '
        '"features", [batch, length], as nasnet export writes them.',
    )
