"""Turns checkpoints and Keras files into TF1 Hub modules, each with its card.

The same weights give the same module, byte for byte, wherever they lay: a card says nothing of
paths and dates. Imports TensorFlow.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nasnet_cli.errors import ModelError
from nasnet_cli.labels import labels_for
from nasnet_cli.models.card import Card, write_card
from nasnet_cli.models.info import PUBLISHED_PREPROCESSING
from nasnet_cli.network.spec import SIZES, NASNetA
from nasnet_cli.network.weights import Weights, weight_shapes

_IMAGENET_CLASSES = (1000, 1001)
VERSION = 2
"""Counts the changes after which a module converted before is to be converted anew."""


@dataclass(frozen=True)
class About:
    """What is known beforehand of a module to be; nothing for a file of the user's own.

    size is the published size that it must be of, with ImageNet's classes. classification False
    leaves the classification layer out; True demands it; None takes what there is.
    """

    name: str | None = None
    size: str | None = None
    classification: bool | None = None
    accuracy: dict[str, Any] | None = None
    source: str = ""
    licence: str = ""


def convert_slim(prefix: Path, folder: Path, about: About = About()) -> None:
    """Writes the module of a TF-Slim checkpoint into folder, which must be empty or absent.

    Raises ModelError when it is no checkpoint of a NASNet-A.
    """
    from nasnet_cli.models.formats.slim import read_slim_checkpoint

    spec, weights = read_slim_checkpoint(prefix)
    _write(folder, spec, weights, True, about, "a TF-Slim checkpoint")


def convert_keras(path: Path, folder: Path, about: About = About()) -> None:
    """Writes the module of a Keras file with NASNet weights (.h5, .keras) into folder.

    Raises ModelError when it is no such file.
    """
    from nasnet_cli.models.extras import read_keras
    from nasnet_cli.models.formats.tf1_hub import write_tf1_hub

    spec, weights, classification, card, labels = read_keras(path)
    if card is None or card.network is None or about.name is not None:
        _write(folder, spec, weights, classification, about, "a Keras file")
        return
    # A file that export wrote: its card knows the preprocessing too.
    write_tf1_hub(folder, spec, weights, classification=classification)
    write_card(folder, card, labels)


def _write(
    folder: Path, spec: NASNetA, weights: Weights, has_classes: bool, about: About, origin: str
) -> None:
    from nasnet_cli import __version__
    from nasnet_cli.models.formats.tf1_hub import write_tf1_hub

    if about.classification and not has_classes:
        raise ModelError(
            "It has no classification layer, only features.", "Use its -features form instead."
        )
    _check_size(spec, has_classes, about)
    classification = has_classes and about.classification is not False
    shapes = weight_shapes(spec, classification=classification)
    if has_classes and not classification:
        weights = {name: value for name, value in weights.items() if name in shapes}
    write_tf1_hub(folder, spec, weights, classification=classification)
    card = Card(
        name=about.name or _size_name(spec),
        preprocessing={"size": [spec.image_size, spec.image_size], **PUBLISHED_PREPROCESSING},
        network=spec.to_dict(),
        accuracy=about.accuracy,
        source=about.source or origin,
        licence=about.licence,
        tool=f"nasnet-cli {__version__}",
    )
    write_card(folder, card, labels_for(spec.classes) if classification else None)


def _check_size(spec: NASNetA, has_classes: bool, about: About) -> None:
    """Whatever bears a published module's name and figures must at least be of its size."""
    fits = _size_name(spec) == f"nasnet-a-{about.size}"
    if about.size and not (fits and (not has_classes or spec.classes in _IMAGENET_CLASSES)):
        raise ModelError(
            f"It isn't the published network: {_size_name(spec)} with {spec.classes} classes, "
            f"not nasnet-a-{about.size} with ImageNet's.",
            "Name the file itself to use it as it is.",
        )


def _size_name(spec: NASNetA) -> str:
    """nasnet-a-mobile for a network of that size, whatever its classes."""
    for name, size in SIZES.items():
        same = (spec.normal_cells, spec.filters, spec.stem) == (
            size.normal_cells,
            size.filters,
            size.stem,
        )
        if same:
            return f"nasnet-a-{name}"
    return "nasnet-a"
