"""A model as the rest of the program sees it: one description, whatever its format."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nasnet_cli.errors import ModelError
from nasnet_cli.labels import Label
from nasnet_cli.models import files
from nasnet_cli.models.card import CARD, LABELS, Card, Output, read_card, read_module_labels
from nasnet_cli.models.savedmodel.graph import producer
from nasnet_cli.models.savedmodel.reader import (
    Format,
    SavedModelFile,
    Signature,
    Tensor,
    read_saved_model,
)
from nasnet_cli.models.savedmodel.signatures import Choice, Purpose, pick_signature

if TYPE_CHECKING:
    from nasnet_cli.models.multiply_adds import MultiplyAdds

PUBLISHED_PREPROCESSING = {"resize": "stretch", "crop_fraction": 0.875, "resample": "bilinear"}
"""How NASNet's published figures were measured: for modules whose card says nothing else."""

INPUT_RANGE = (0.0, 1.0)
"""The range of the pixels in every module with tensorflow-hub's image signatures."""


@dataclass(frozen=True, eq=False)
class OpenedModel(ABC):
    """What every model is that can be run: a module's folder, or a file of a runtime's own.

    folder is where it is; for a file, the file. image_size is (height, width) in pixels, None
    when neither the model nor its card says it. labels are in the order of the classes, None when
    the model has none.
    """

    folder: Path
    card: Card | None
    labels: tuple[Label, ...] | None
    image_size: tuple[int, int] | None

    @property
    @abstractmethod
    def format(self) -> str:
        """The name of its format, as `nasnet export --format` has it."""

    @property
    @abstractmethod
    def tag_sets(self) -> list[list[str]]:
        """The tag sets of its graphs, in the order of the file; a runtime's own file has none."""

    @property
    @abstractmethod
    def signatures(self) -> dict[str, Signature]:
        """The signatures for inference by name."""

    @property
    @abstractmethod
    def classification(self) -> Choice | None:
        """What gives the logits, if anything does."""

    @property
    @abstractmethod
    def features(self) -> Choice | None:
        """What gives the feature vector, if anything does."""

    @property
    @abstractmethod
    def output(self) -> Output | None:
        """What classification gives: logits, or probabilities when it ends in a softmax.

        The card's word counts before the graph's. None without classification.
        """

    @property
    @abstractmethod
    def parameters(self) -> int:
        """How many numbers its variables hold, or its constants where it has no variables."""

    @property
    @abstractmethod
    def multiply_adds(self) -> MultiplyAdds | None:
        """Multiply-adds for one picture, None when the graph has operations we don't know."""

    @property
    @abstractmethod
    def unsafe_operations(self) -> list[str]:
        """Operations that could touch files, the network or run code, with their places."""

    @property
    @abstractmethod
    def file_sizes(self) -> dict[str, int]:
        """The sizes of its files in bytes, by relative name."""

    @property
    @abstractmethod
    def digest(self) -> str:
        """The SHA-256 over its files (files.digest says how)."""

    @property
    def classes(self) -> int | None:
        """How many classes it has; None when it has none or doesn't say."""
        return _length(self.classification)

    @property
    def feature_depth(self) -> int | None:
        """The length of its feature vector; None when it has none or doesn't say."""
        return _length(self.features)

    @property
    def preprocessing(self) -> dict[str, Any]:
        """How its pictures are made: resize, crop_fraction, resample and, if known, size.

        It is as images.preprocess.Preprocessing.from_dict takes it: the card's values where it
        has them, else the published ones; size is [height, width].
        """
        said = self.card.preprocessing if self.card else {}
        chosen = {key: said.get(key, value) for key, value in PUBLISHED_PREPROCESSING.items()}
        return {"size": list(self.image_size), **chosen} if self.image_size else chosen

    def check_labels(self, where: Path) -> None:
        """Raises ModelError, naming the file of the labels, if they are not as many as classes."""
        if self.labels is None or self.classes is None or len(self.labels) == self.classes:
            return
        raise ModelError(
            f"{where} has {len(self.labels)} labels for {self.classes} classes.",
            "Correct or remove the file.",
        )


@dataclass(frozen=True, eq=False)
class OpenedSavedModel(OpenedModel):
    """A module that has been read and checked; what takes time is found out when asked for."""

    model: SavedModelFile

    @property
    def format(self) -> Format:
        return self.model.format

    @property
    def tag_sets(self) -> list[list[str]]:
        return [list(graph.tags) for graph in self.model.meta_graphs]

    @property
    def signatures(self) -> dict[str, Signature]:
        return self.model.inference.signatures

    def choose(self, purpose: Purpose) -> Choice:
        """The signature, input and output to run. Raises ModelError when there is none."""
        return pick_signature(self.model.inference, purpose)

    @cached_property
    def classification(self) -> Choice | None:
        return _if_any(self.model, "classification")

    @cached_property
    def features(self) -> Choice | None:
        return _if_any(self.model, "feature_vector")

    @cached_property
    def output(self) -> Output | None:
        if self.classification is None:
            return None
        if self.card is not None:
            return self.card.output
        last = producer(self.model.inference.proto, self.classification.output.tensor)
        return "probabilities" if last == "Softmax" else "logits"

    @property
    def parameters(self) -> int:
        return self.model.inference.parameters

    @cached_property
    def file_sizes(self) -> dict[str, int]:
        return files.module_files(self.folder)

    @cached_property
    def digest(self) -> str:
        return files.digest(self.folder)

    @cached_property
    def unsafe_operations(self) -> list[str]:
        from nasnet_cli.models.safety.scan import unsafe_operations

        return unsafe_operations(self.model)

    @cached_property
    def multiply_adds(self) -> MultiplyAdds | None:
        from nasnet_cli.models.multiply_adds import multiply_adds

        choice = self.classification or self.features
        if choice is None or self.image_size is None:
            return None
        graph = self.model.inference.proto
        return multiply_adds(graph, choice.input.tensor, choice.output.tensor, self.image_size)


def open_saved_model(folder: Path) -> OpenedSavedModel:
    """Opens a TF1 Hub module or a TF2 SavedModel, in tens of milliseconds.

    Raises ModelError when it can't be read, when it has no signature for pictures, and when what
    it says doesn't fit together: two image sizes, a count of labels that isn't that of classes.
    NasnetError when its labels can't be read.
    """
    model = read_saved_model(folder)
    card = read_card(folder)
    size = _image_size(model, card)
    module = OpenedSavedModel(folder, card, read_module_labels(folder), size, model)
    if module.features is None:
        module.choose("classification")  # so that its error says what is missing
    module.check_labels(folder / LABELS)
    return module


def _image_size(model: SavedModelFile, card: Card | None) -> tuple[int, int] | None:
    """The one size that the attachment, the signatures and the card agree on."""
    said: dict[str, tuple[int, int]] = {}
    if model.inference.image_size:
        said["its attachment"] = model.inference.image_size
    for choice in (_if_any(model, "classification"), _if_any(model, "feature_vector")):
        size = choice and _static_size(model.folder, choice.input)
        if choice and size:
            said[f"its signature {choice.signature.name!r}"] = size
    if card is not None and "size" in card.preprocessing:
        height, width = card.preprocessing["size"]
        said[f"its card ({CARD})"] = (height, width)
    if len(set(said.values())) > 1:
        sizes = ", ".join(f"{h}x{w} in {where}" for where, (h, w) in said.items())
        raise ModelError(
            f"The module {model.folder} gives more than one image size: {sizes}.",
            "Get the module again, or correct its card.",
        )
    return next(iter(said.values()), None)


def _static_size(folder: Path, picture: Tensor) -> tuple[int, int] | None:
    if picture.shape is None:
        return None
    if len(picture.shape) != 4 or picture.shape[3] not in (3, None):
        raise ModelError(
            f"The module {folder} takes {picture.key!r} of shape {picture.shape}.",
            "Use a module for colour pictures, [batch, height, width, 3].",
        )
    _, height, width, _ = picture.shape
    return (height, width) if height and width else None


def _length(choice: Choice | None) -> int | None:
    return choice.output.shape[-1] if choice and choice.output.shape else None


def _if_any(model: SavedModelFile, purpose: Purpose) -> Choice | None:
    try:
        return pick_signature(model.inference, purpose)
    except ModelError:
        return None
