"""Conversion of any model in its weights' own format to a TF1 Hub module, kept in the cache.

The same weights give the same module, byte for byte, wherever they lay: a card says nothing of
paths and dates.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

from nasnet_cli.cache import CacheError
from nasnet_cli.errors import ModelError
from nasnet_cli.labels import labels_for
from nasnet_cli.models.card import PUBLISHED_PREPROCESSING, Card, card_texts
from nasnet_cli.models.detect import ARCHIVE, search
from nasnet_cli.models.files import add_file, reading
from nasnet_cli.models.formats.base import DetectedModel, Network
from nasnet_cli.models.formats.saved_model import SavedModel
from nasnet_cli.models.formats.tf1_hub import TF1Hub
from nasnet_cli.models.hub.published import LICENCE, Origin, Published
from nasnet_cli.models.hub.store import Kind, entry_name, keep, known_name
from nasnet_cli.models.listener import ProgressListener
from nasnet_cli.models.savedmodel.reader import read_saved_model
from nasnet_cli.network.spec import SIZES, NASNetA

VERSION = 3
"""Counts the changes after which a module that was converted before is converted again."""

_IMAGENET_CLASSES = (1000, 1001)


def cached_module(detected: DetectedModel, shown: str, listener: ProgressListener) -> Path:
    """Return the folder of the module that is made of a model, kept by its content.

    shown is what the user called it. Raises ModelError when no module can be made of it, CacheError
    when it cannot be kept.
    """
    with reading(shown, "Check it."):
        sha256 = _content_sha256(detected)

    def build(work: Path) -> tuple[Path, Kind, str]:
        return *build_module(detected, work, shown, listener), sha256

    # A checkpoint is mostly called model.ckpt, with no file of that name; its folder says more.
    path = detected.path
    label = path.name if path.exists() else "-".join(path.parts[-2:])
    identity = f"{detected.format.name} {sha256} {VERSION}"
    name = known_name(identity) or entry_name(label, identity)
    return keep(name, label, str(path.absolute()), build, listener)


def build_module(
    detected: DetectedModel,
    work: Path,
    shown: str,
    listener: ProgressListener,
    origin: Origin | None = None,
    published: Published | None = None,
) -> tuple[Path, Kind]:
    """Make the module of a model in the folder work; return its folder and how it was made.

    origin is where it was fetched from, published which model it must be. Errors call the model
    shown, since the names in work mean nothing to the user. Raises ModelError when it is broken or
    of a format that no module can be made of.
    """
    try:
        return _build(detected, work, shown, listener, origin, published)
    except CacheError:
        raise
    except ModelError as error:
        problem = error.problem
        for path in (work / "unpacked", work, detected.path):
            problem = problem.replace(str(path), shown)
        raise ModelError(problem, error.remedy) from error


def _build(
    detected: DetectedModel,
    work: Path,
    shown: str,
    listener: ProgressListener,
    origin: Origin | None,
    published: Published | None,
) -> tuple[Path, Kind]:
    kind: Kind = "converted"
    if detected.format is ARCHIVE:
        from nasnet_cli.models.hub.unpack import unpack

        unpack(detected.path, work / "unpacked")
        detected, kind = search(work / "unpacked", shown), "unpacked"
    entry = detected.format
    if isinstance(entry, SavedModel):
        read_saved_model(detected.path)
        return detected.path, kind
    if entry.is_runnable:
        raise ModelError(
            f"{shown} is {entry.title}, not a SavedModel or a TF1 Hub module.",
            "Name it by its path.",
        )
    listener.note(f"{shown}: converting it to a TF1 Hub module, which the cache keeps.")
    network = entry.read_network(detected.path)
    write_module(network, work / "module", origin or Origin("file", entry.title), published)
    return work / "module", "converted"


def write_module(
    network: Network, folder: Path, origin: Origin, published: Published | None = None
) -> None:
    """Write the TF1 Hub module of a network into folder, which must be empty or absent.

    Raises ModelError when it is not the published network that it is said to be.
    """
    # A file that export wrote has a card that knows the preprocessing too.
    if network.card is None or network.card.network is None or published is not None:
        network = _with_card(network, origin, published)
    assert network.card is not None
    TF1Hub().write(folder, network, card_texts(network.card, network.labels), "f32")


def without_classification(network: Network) -> Network:
    """Return a network without its classification layer and its labels."""
    weights = {k: v for k, v in network.weights.items() if not k.startswith("final_layer/FC/")}
    return replace(network, weights=weights, classification=False, labels=None)


def _with_card(network: Network, origin: Origin, published: Published | None) -> Network:
    from nasnet_cli import __version__

    spec = network.spec
    if published is not None:
        _check_published(network, published)
        if not published.classification:
            network = without_classification(network)
    card = Card(
        name=published.name if published else _size_name(spec),
        preprocessing={
            "size": [spec.image_size, spec.image_size],
            **PUBLISHED_PREPROCESSING,
            **({"input_range": network.input_range} if network.input_range else {}),
        },
        activation=network.activation,
        network=spec.to_dict(),
        # The figures are the published checkpoint's.
        accuracy=published.accuracy if published and origin.kind == "slim" else None,
        source=origin.address,
        licence=LICENCE if published else "",
        tool=f"nasnet-cli {__version__}",
    )
    labels = labels_for(spec.classes) if network.classification else None
    return replace(network, card=card, labels=labels)


def _check_published(network: Network, published: Published) -> None:
    """Check that what gets a published module's name and figures is at least of its size."""
    if published.classification and not network.classification:
        raise ModelError(
            "It has no classification layer, only features.", "Use its -features form instead."
        )
    name, classes = _size_name(network.spec), network.spec.classes
    has_other_classes = network.classification and classes not in _IMAGENET_CLASSES
    if name != f"nasnet-a-{published.size}" or has_other_classes:
        raise ModelError(
            f"It isn't the published network: {name} with {classes} classes, "
            f"not nasnet-a-{published.size} with ImageNet's.",
            "Name the file itself to use it as it is.",
        )


def _size_name(spec: NASNetA) -> str:
    """Return nasnet-a-mobile for a network of that size, whatever its classes."""
    shape = (spec.normal_cells, spec.filters, spec.stem)
    for name, size in SIZES.items():
        if shape == (size.normal_cells, size.filters, size.stem):
            return f"nasnet-a-{name}"
    return "nasnet-a"


def _content_sha256(detected: DetectedModel) -> str:
    """Return the SHA-256 of the content of a model's files, one after the other."""
    total = hashlib.sha256()
    for path in detected.format.files(detected.path).values():
        add_file(total, path)
    return total.hexdigest()
