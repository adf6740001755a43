"""The published NASNet-A models as data: their names, where to get them, their accuracy.

Sources: the pages of google/imagenet/nasnet_{mobile,large} on the hub, TF-Slim's README,
keras.applications.nasnet.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

Size = Literal["mobile", "large"]
OriginKind = Literal["slim", "hub", "kaggle", "keras", "file"]

LICENCE = "Apache-2.0"
"""The licence of all published models."""

_DESCRIPTIONS: dict[OriginKind, str] = {
    "slim": "TF-Slim's checkpoint",
    "hub": "the hub's module",
    "kaggle": "Kaggle's copy of the hub",
    "keras": "Keras' weights",
    "file": "a file",
}

_SLIM = (
    "https://storage.googleapis.com/download.tensorflow.org/models/nasnet-a_{}_04_10_2017.tar.gz"
)
_HUB = "https://tfhub.dev/google/imagenet/nasnet_{}/{}/{}"
_KAGGLE = "google/nasnet/tensorFlow2/{}-{}/2"
_KERAS = "https://storage.googleapis.com/tensorflow/keras-applications/nasnet/NASNet-{}{}.h5"
# In the order in which tensorflow-hub's cache is searched for them. 1 and 3 are TF1 modules,
# 4 and 5 TF2; all have the same weights.
_HUB_VERSIONS = (1, 3, 5, 4)
_KERAS_MD5 = {
    ("mobile", True): "020fb642bf7360b370c678b08e0adf61",
    ("mobile", False): "1ed92395b5b598bdda52abe5c0dbfd63",
}
_TOP_1_AND_5 = {"mobile": (0.740, 0.916), "large": (0.827, 0.962)}


class Origin(NamedTuple):
    """The place that a model is from.

    address is a URL, for Kaggle a handle of kagglehub, for a user's own file its format in words.

    md5 is the published checksum of the file, where there is one.
    """

    kind: OriginKind
    address: str
    md5: str | None = None

    @property
    def description(self) -> str:
        """The model's name in messages."""
        return _DESCRIPTIONS[self.kind]


@dataclass(frozen=True)
class Published:
    """A published model, with its origins in the order in which they are tried.

    handles are the hub's, by which tensorflow-hub's own cache may have it.
    """

    name: str
    size: Size
    classification: bool
    origins: tuple[Origin, ...]
    handles: tuple[str, ...]

    @property
    def accuracy(self) -> dict[str, Any] | None:
        """The published figures as a model card holds them; None for a feature vector."""
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
    """Return the name of the folder in which tensorflow-hub caches the model of a handle."""
    return hashlib.sha1(handle.encode(), usedforsecurity=False).hexdigest()


def _published(size: Size, classification: bool) -> Published:
    kind = "classification" if classification else "feature_vector"
    handles = tuple(_HUB.format(size, kind, version) for version in _HUB_VERSIONS)
    top = "" if classification else "-no-top"
    return Published(
        name=f"imagenet-{size}" + ("" if classification else "-features"),
        size=size,
        classification=classification,
        origins=(
            Origin("slim", _SLIM.format(size)),
            Origin("hub", handles[0]),
            Origin("kaggle", _KAGGLE.format(size, kind.replace("_", "-"))),
            Origin("keras", _KERAS.format(size, top), _KERAS_MD5.get((size, classification))),
        ),
        handles=handles,
    )


_SIZES: tuple[Size, ...] = ("mobile", "large")
PUBLISHED: dict[str, Published] = {
    model.name: model
    for model in (_published(size, top) for size in _SIZES for top in (True, False))
}
"""All published models by their names."""
