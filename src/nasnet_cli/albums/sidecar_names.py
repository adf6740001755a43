"""Names of the XMP sidecars of an image: photo.jpg.xmp, or photo.xmp."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator

from nasnet_cli.images.formats import has_image_suffix

_SUFFIXES = (".xmp", ".XMP")


def full_name(image: str, suffix: str = ".xmp") -> str:
    """Return photo.jpg.xmp for photo.jpg."""
    return f"{image}{suffix}"


def stem_name(image: str, suffix: str = ".xmp") -> str:
    """Return photo.xmp for photo.jpg."""
    folder, name = os.path.split(image)
    return os.path.join(folder, f"{_stem(name)}{suffix}")


class Stems:
    """The images of a folder by their stems, listed once where images come folder by folder."""

    def __init__(self) -> None:
        self._folder: str | None = None
        self._stems: Counter[str] = Counter()

    def is_shared(self, image: str) -> bool:
        """Return whether another image in the folder would have the same photo.xmp."""
        folder, name = os.path.split(image)
        if folder != self._folder:
            self._folder = folder
            try:
                names = os.listdir(folder or ".")
            except OSError:  # it can be entered, but not listed
                names = []
            self._stems = Counter(map(_stem, filter(has_image_suffix, names)))
        is_listed = has_image_suffix(name) and os.path.lexists(image)
        return self._stems[_stem(name)] - is_listed > 0

    def sidecars(self, image: str) -> Iterator[tuple[str, str, bool]]:
        """Yield each sidecar that an image has, its suffix, and whether it has the full name."""
        for suffix in _SUFFIXES:
            full, stem = full_name(image, suffix), stem_name(image, suffix)
            if os.path.lexists(full):
                yield full, suffix, True
            if os.path.lexists(stem) and not self.is_shared(image):
                yield stem, suffix, False


def _stem(name: str) -> str:
    return os.path.splitext(name)[0]
