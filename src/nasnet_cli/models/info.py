"""A model as the rest of the program sees it: one description, whatever its format."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from nasnet_cli import cache
from nasnet_cli.errors import ModelError
from nasnet_cli.labels import Label, labels_for
from nasnet_cli.models.card import PUBLISHED_PREPROCESSING, Activation, Card, Output
from nasnet_cli.models.outputs import Head, Operation, UnclearOutputError, is_pooled, read_head
from nasnet_cli.models.savedmodel.reader import Signature, Tensor
from nasnet_cli.models.savedmodel.signatures import Choice
from nasnet_cli.models.values import BYTES, UNIT, InputValues, limits
from nasnet_cli.results.text import shortened

_INTEGERS = ("uint8", "int8", "uint16", "int16", "int32", "int64")

_GRAPH_VERSION = 1
"""To be raised when openvino_graph finds something else in the same graph."""

# Types of outputs that are indices or counts.
_COUNTS = (*_INTEGERS, "uint32", "uint64", "bool", "string")


class MultiplyAdds(NamedTuple):
    """Multiply-adds per image: total, and the share of the depthwise convolutions."""

    total: int
    depthwise: int


@dataclass(frozen=True, eq=False)
class OpenedModel(ABC):
    """A model that was opened and can be run: the folder of a module, or a file.

    format is the name of its format in formats/table.py. image_size is (height, width) in pixels,
    None when neither the model nor its card gives it. labels are in the order of the classes, None
    when the model has none.
    """

    path: Path
    format: str
    card: Card | None
    labels: tuple[Label, ...] | None
    image_size: tuple[int, int] | None

    @property
    def labels_from(self) -> str | None:
        """The place of its labels, None when it has none."""
        return None if self.labels is None else "the model"

    @property
    def tag_sets(self) -> list[list[str]]:
        """The tag sets of its graphs, in the order of the file; only SavedModels have any."""
        return []

    @property
    def channels_first(self) -> bool:
        """True if its images are [batch, 3, height, width]."""
        return False

    @property
    def runs_on_tensorflow(self) -> bool:
        """True if TensorFlow can run it too."""
        return False

    @property
    @abstractmethod
    def signatures(self) -> dict[str, Signature]:
        """The signatures for inference by name."""

    @property
    @abstractmethod
    def classification(self) -> Choice | None:
        """The signature, input and output that give logits or probabilities, if any."""

    @property
    @abstractmethod
    def features(self) -> Choice | None:
        """The signature, input and output that give the feature vector, if any."""

    @abstractmethod
    def operation_before(self, tensor: str) -> Operation | None:
        """Return the operation that computes a tensor; None where the graph cannot be followed."""

    @cached_property
    def head(self) -> Head | None:
        """The kind of classification's output, logits or probabilities, with its activation.

        The card has precedence over the graph. None without classification. Raises ModelError when
        it is neither.
        """
        if self.classification is None:
            return None
        if self.card is not None:
            return Head(self.card.output, self.card.activation)
        output = self.classification.output
        if output.dtype in _COUNTS and not self.is_quantized:
            raise _unclear(self.path, f"gives {output.dtype}, which are no scores of classes")
        try:
            return read_head(self.operation_before(output.tensor))
        except UnclearOutputError as error:
            problem = f"cannot be understood: {error.problem}"
            if self.unsafe_operations:
                problem += f"; it also has {name_unsafe(self.unsafe_operations)}"
            raise _unclear(self.path, problem) from None

    def is_feature_vector(self, choice: Choice | None) -> bool:
        """Tell whether an output is pooled features (outputs.is_pooled), and nothing says that it
        has classes."""
        if choice is None or self.card is not None or self.labels is not None:
            return False
        length = _length(choice)
        if choice.output.key in ("logits", "Logits") or (length and labels_for(length)):
            return False
        return is_pooled(self.operation_before(choice.output.tensor))

    @property
    def output(self) -> Output | None:
        """The kind of classification's output: logits, or probabilities. None without classification."""
        return self.head.output if self.head else None

    @property
    def activation(self) -> Activation:
        """The activation that makes or has made probabilities of the output."""
        return self.head.activation if self.head else "softmax"

    @property
    def is_quantized(self) -> bool:
        """True if it computes in integers, as only TensorFlow Lite's interpreter does rightly."""
        return False

    @property
    def batch(self) -> int | None:
        """The number of images in a request, where the model takes no other."""
        choice = self.classification or self.features
        shape = choice.input.shape if choice else None
        return shape[0] if shape else None

    def read_values(self) -> InputValues:
        """Return what the model itself says of the values of its input, without the card."""
        return InputValues()

    @cached_property
    def values(self) -> InputValues:
        """Knowledge of the values of its input."""
        card = self.card
        choice = self.classification or self.features
        if choice is not None and choice.input.dtype in _INTEGERS and not self.is_quantized:
            if choice.input.dtype == "int8":
                raise _unclear(self.path, "takes int8 images without a scale and a zero point")
            of_card = card.preprocessing.get("channels") if card else None
            channels = of_card or self.read_values().channels or "rgb"
            return InputValues(BYTES, channels, f"its input of {choice.input.dtype}")
        if card is not None and {"input_range", "channels"} & card.preprocessing.keys():
            return InputValues(
                card.preprocessing.get("input_range", UNIT),
                card.preprocessing.get("channels", "rgb"),
                "its card",
            )
        if card is not None and (card.network is not None or card.tool.startswith("nasnet")):
            return InputValues(UNIT, "rgb", "its card")
        return self.read_values()

    @property
    @abstractmethod
    def parameters(self) -> int:
        """The count of numbers in its variables, or in its constants where it has no variables."""

    @property
    @abstractmethod
    def unsafe_operations(self) -> list[str]:
        """Operations that could touch files, the network or run code, with their places."""

    def check_constants(self) -> None:  # noqa: B027
        """Raise ModelError when a constant has other bytes than its shape needs.

        A file is checked before it is opened.
        """

    @property
    @abstractmethod
    def file_sizes(self) -> dict[str, int]:
        """The sizes of its files in bytes, by relative name."""

    @property
    @abstractmethod
    def digest(self) -> str:
        """The SHA-256 over its files (files.digest says how)."""

    @abstractmethod
    def openvino_model(self, tensors: Sequence[str]) -> AbstractContextManager[Any]:
        """Return an openvino.Model, which the caller may change, with these outputs in this order.

        tensors are names as in Tensor.tensor. The weights may lie in a file that is gone after the
        block. Errors are OpenVINO's own.
        """

    @property
    def classes(self) -> int | None:
        """The count of classes; None when it has none or doesn't say."""
        length = _length(self.classification)
        return 2 if length == 1 and self.activation == "sigmoid" else length

    @property
    def has_independent_outputs(self) -> bool:
        """True where each class has a probability of its own, and all need not add up to 1."""
        return self.activation == "sigmoid" and self.classes != 2

    @property
    def feature_depth(self) -> int | None:
        """The length of its feature vector; None when it has none or doesn't say."""
        return _length(self.features)

    @property
    def preprocessing(self) -> dict[str, Any]:
        """The preprocessing of its images: resize, crop_fraction, resample and, if known, size.

        It is as images.preprocess.Preprocessing.from_dict takes it: the card's values where it
        has them, else the published ones; size is [height, width].
        """
        of_card = self.card.preprocessing if self.card else {}
        chosen = {key: of_card.get(key, value) for key, value in PUBLISHED_PREPROCESSING.items()}
        if (self.values.range or UNIT) != UNIT:
            chosen["input_range"] = self.values.range
        if self.values.channels == "bgr":
            chosen["channels"] = "bgr"
        return {"size": list(self.image_size), **chosen} if self.image_size else chosen

    @cached_property
    def multiply_adds(self) -> MultiplyAdds | None:
        """Multiply-adds for one image, as read_graph finds them; None for a model of open size."""
        if self.image_size is None:
            return None
        from nasnet_cli.models.openvino_graph import count_multiply_adds

        shape = (1, 3, *self.image_size) if self.channels_first else (1, *self.image_size, 3)
        found = self.read_graph("products", lambda graph: count_multiply_adds(graph, shape))
        return MultiplyAdds(*found) if found else None

    def read_graph(self, name: str, find: Callable[[Any], Sequence[Any]]) -> Sequence[Any] | None:
        """Return what find says of the openvino.Model: plain data, kept by the digest and the name.

        None for a model with unsafe operations, or that OpenVINO cannot read. Raises ModelError
        when a constant is not whole.
        """
        choice = self.classification or self.features
        if choice is None or self.unsafe_operations:
            return None
        key = f"{_GRAPH_VERSION} {name} {self.digest} {choice.output.tensor}"
        record = cache.subfolder("scanned") / hashlib.sha256(key.encode()).hexdigest()
        if (kept := cache.load(record)) is not None:
            known: list[Any] = json.loads(bytes(kept))
            return known
        self.check_constants()
        try:
            with self.openvino_model([choice.output.tensor]) as graph:
                found = find(graph)
        except Exception:  # OpenVINO's own exceptions share no base but Exception
            return None
        cache.store(record, json.dumps(found).encode())
        return found

    def check_whole(self) -> None:  # noqa: B027  # most formats have no checksums
        """Raise ModelError when the checksums of its weights are wrong."""

    def check_head(self) -> None:
        """Raise ModelError for a single output that is not a sigmoid, which says nothing."""
        if self.classes == 1:
            raise ModelError(
                f"The model {self.path} has a single output that is not a sigmoid, which gives no "
                "probability.",
                "Use a model that ends in a sigmoid or has an output for each class.",
            )

    def check_values(self, changes: Mapping[str, Any]) -> str | None:
        """Return a sentence on what is assumed of the values of its input; None where it is known.

        changes are those that the user has made to the preprocessing. Raises ModelError when they
        cannot be.
        """
        named = changes.get("input_range")
        if self.values.source.startswith("its input of") and named not in (None, BYTES):
            raise ModelError(
                f"The model {self.path} takes bytes, not values of {named}.",
                "Leave out --input-range.",
            )
        if self.values.range or named:
            return None
        unknown = "values of 0 to 1"
        if not (self.values.channels or "channels" in changes):
            unknown += " and RGB"
        return (
            f"{self.path} doesn't say what it takes for pixels: {unknown} assumed. If that is "
            "wrong, use --input-range and --channels."
        )

    def check_labels(self, source: Path) -> None:
        """Raise ModelError, naming the source of the labels, unless there is one for each class."""
        if self.labels is None or self.classes is None or len(self.labels) == self.classes:
            return
        raise ModelError(
            f"{source} has {len(self.labels)} labels for {self.classes} classes.",
            "Correct or remove the file.",
        )


def describe(model: OpenedModel) -> dict[str, Any]:
    """Return what `nasnet inspect --json` prints of a model, except for its name and digest.

    Shapes are lists with None for an open size. parameters counts numbers, multiply_adds is for
    one image, file_sizes are bytes.
    """
    card = model.card
    counted = model.multiply_adds
    return {
        "tag_sets": model.tag_sets,
        "signatures": {name: _describe_signature(s) for name, s in model.signatures.items()},
        "image_size": list(model.image_size) if model.image_size else None,
        "image_range": list(limits(model.values.range or UNIT)),
        "input_range": model.values.range or UNIT,
        "channels": model.values.channels or "rgb",
        "input_range_from": model.values.source,
        "batch": model.batch,
        "output": model.output,
        "activation": model.activation if model.head else None,
        "classes": model.classes,
        "labels": len(model.labels) if model.labels is not None else None,
        "labels_from": model.labels_from,
        "feature_depth": model.feature_depth,
        "parameters": model.parameters,
        "multiply_adds": counted.total if counted else None,
        "multiply_adds_depthwise": counted.depthwise if counted else None,
        "file_sizes": model.file_sizes,
        "unsafe_operations": model.unsafe_operations,
        **{
            name: getattr(card, name, None) for name in ("network", "accuracy", "source", "licence")
        },
        "written_by": card.tool if card else None,
    }


def name_unsafe(operations: Sequence[str]) -> str:
    """Return unsafe operations in words: a few of them, as a hostile model may have thousands."""
    named = shortened(operations, 5)
    return f"operations that could touch files, the network or run code: {named}"


def _unclear(path: Path, problem: str) -> ModelError:
    return ModelError(
        f"The model {path} {problem}.",
        "Use a model that takes images of floats or of bytes, and ends in logits, a softmax or "
        "sigmoids.",
    )


def _describe_signature(signature: Signature) -> dict[str, Any]:
    return {
        "inputs": {key: _describe_tensor(tensor) for key, tensor in signature.inputs.items()},
        "outputs": {key: _describe_tensor(tensor) for key, tensor in signature.outputs.items()},
    }


def _describe_tensor(tensor: Tensor) -> dict[str, Any]:
    return {
        "tensor": tensor.tensor,
        "dtype": tensor.dtype,
        "shape": None if tensor.shape is None else list(tensor.shape),
    }


def _length(choice: Choice | None) -> int | None:
    return choice.output.shape[-1] if choice and choice.output.shape else None
