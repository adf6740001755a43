"""The models that have a name: the built-in one and the published ones, here or not."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nasnet_cli.models.hub.published import LICENCE, PUBLISHED, Published
from nasnet_cli.models.listener import SILENT, ProgressListener
from nasnet_cli.models.resolve import BUILTIN, resolve

_BYTES_PER_WEIGHT = 4


@dataclass(frozen=True)
class Entry:
    """Facts about a model that are known without fetching it.

    image_size is [height, width] in pixels; classes is None for a feature vector. download_bytes is
    the size of the float32 weights to fetch, 0 for the built-in model; an archive of them is a
    little larger. accuracy is as in a model card. origins are the addresses that are tried. path is
    the model's folder, None when it is not here.
    """

    name: str
    classes: int | None
    image_size: list[int] | None
    download_bytes: int
    accuracy: dict[str, Any] | None
    licence: str
    origins: list[str]
    path: str | None


def entries() -> list[Entry]:
    """Return all models that have a name."""
    return [builtin(), *(published(model) for model in PUBLISHED.values())]


def builtin() -> Entry:
    """Return the entry of the built-in model. Raises ModelError when the package lacks it."""
    opened = resolve(BUILTIN).open()
    size, card = opened.image_size, opened.card
    return Entry(
        name=BUILTIN,
        classes=opened.classes,
        image_size=list(size) if size else None,
        download_bytes=0,
        accuracy=card.accuracy if card else None,
        licence=card.licence if card else "",
        origins=[],
        path=str(opened.path),
    )


def published(model: Published, listener: ProgressListener = SILENT) -> Entry:
    """Return the entry of a published model. listener learns what is damaged in a cache."""
    from nasnet_cli.models.hub.fetch import find_published
    from nasnet_cli.network.spec import SIZES
    from nasnet_cli.network.weights import weight_shapes

    network = SIZES[model.size]
    shapes = weight_shapes(network, classification=model.classification)
    path: Path | None = find_published(model, listener)
    return Entry(
        name=model.name,
        classes=network.classes if model.classification else None,
        image_size=[network.image_size] * 2,
        download_bytes=_BYTES_PER_WEIGHT * sum(map(math.prod, shapes.values())),
        accuracy=model.accuracy,
        licence=LICENCE,
        origins=[origin.address for origin in model.origins],
        path=None if path is None else str(path),
    )
