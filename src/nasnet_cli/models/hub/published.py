"""The published NASNet-A modules, as data: their names, where each can be had, what is known.

Sources: the pages of google/imagenet/nasnet_{mobile,large} on the hub, TF-Slim's README,
keras.applications.nasnet.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, Literal

PlaceKind = Literal["slim", "hub", "kaggle", "keras"]

PLACE_NAMES: dict[PlaceKind, str] = {
    "slim": "TF-Slim's checkpoint",
    "hub": "the hub's module",
    "kaggle": "Kaggle's copy of the hub",
    "keras": "Keras' weights",
}

_SLIM = (
    "https://storage.googleapis.com/download.tensorflow.org/models/nasnet-a_{}_04_10_2017.tar.gz"
)
_HUB = "https://tfhub.dev/google/imagenet/nasnet_{}/{}/{}"
_KAGGLE = "google/nasnet/tensorFlow2/{}-{}/2"
_KERAS = "https://storage.googleapis.com/tensorflow/keras-applications/nasnet/NASNet-{}{}.h5"
# In the order in which they are looked for in tensorflow-hub's own cache. 1 and 3 are TF1 modules,
# 4 and 5 TF2; all have the same weights.
_HUB_VERSIONS = (1, 3, 5, 4)
_KERAS_MD5 = {
    ("mobile", True): "020fb642bf7360b370c678b08e0adf61",
    ("mobile", False): "1ed92395b5b598bdda52abe5c0dbfd63",
}
_TOP_1_AND_5 = {"mobile": (0.740, 0.916), "large": (0.827, 0.962)}


@dataclass(frozen=True)
class Place:
    """Where a module can be had. address is a URL, for Kaggle a handle of kagglehub.

    md5 is the published checksum of the file, where there is one.
    """

    kind: PlaceKind
    address: str
    md5: str | None = None


@dataclass(frozen=True)
class Published:
    """A published module: its name, size, kind, and its places in the order to be tried.

    handles are the hub's, by which tensorflow-hub's own cache may have it.
    """

    name: str
    size: Literal["mobile", "large"]
    classification: bool
    places: tuple[Place, ...]
    handles: tuple[str, ...]

    @property
    def accuracy(self) -> dict[str, Any] | None:
        """The published figures, as a card has them; a feature vector has none."""
        if not self.classification:
            return None
        top1, top5 = _TOP_1_AND_5[self.size]
        return {
            "dataset": "ImageNet (ILSVRC 2012)",
            "pictures": 50_000,
            "top1": top1,
            "top5": top5,
            "how": "as published by TF-Slim for this checkpoint, on the validation pictures",
        }


def hub_cache_name(handle: str) -> str:
    """The folder that tensorflow-hub keeps a handle's module in, within its cache."""
    return hashlib.sha1(handle.encode(), usedforsecurity=False).hexdigest()


def _published(size: Literal["mobile", "large"], classification: bool) -> Published:
    kind = "classification" if classification else "feature_vector"
    handles = tuple(_HUB.format(size, kind, version) for version in _HUB_VERSIONS)
    top = "" if classification else "-no-top"
    return Published(
        name=f"imagenet-{size}" + ("" if classification else "-features"),
        size=size,
        classification=classification,
        places=(
            Place("slim", _SLIM.format(size)),
            Place("hub", handles[0]),
            Place("kaggle", _KAGGLE.format(size, kind.replace("_", "-"))),
            Place("keras", _KERAS.format(size, top), _KERAS_MD5.get((size, classification))),
        ),
        handles=handles,
    )


PUBLISHED: dict[str, Published] = {
    module.name: module
    for module in (
        _published("mobile", True),
        _published("mobile", False),
        _published("large", True),
        _published("large", False),
    )
}
"""All published modules by their names."""
