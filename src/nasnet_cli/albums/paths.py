"""Paths of a result file, as seen from where the images are now."""

# Paths stay the strings that results have: Path would turn "a/./b" into "a/b".
# ruff: noqa: PTH112, PTH118

from __future__ import annotations

import os

from nasnet_cli.errors import NasnetError
from nasnet_cli.images.source import ARCHIVE_SUFFIXES, is_remote


class Base:
    """The folder that relative paths start from: folder, or the current one without it."""

    def __init__(self, folder: str | None) -> None:
        self._folder = folder

    @property
    def is_current(self) -> bool:
        """True where relative paths start from the current folder, so that locate changes none."""
        return self._folder is None

    def locate(self, path: str) -> str:
        """Return a path of a result so that it can be opened from here; URLs stay as they are."""
        if self._folder is None or is_remote(path):
            return path
        return os.path.join(self._folder, path)

    def exists(self, path: str) -> bool:
        """Return whether the file behind a located path, or its archive, exists. URLs count so."""
        if is_remote(path):
            return True
        archive = archive_of(path)
        return os.path.lexists(path if archive is None else archive)

    def nothing_exists(self, path: str) -> NasnetError:
        """Return the error to raise when none of the located paths exists; path is one of them."""
        folder = "the current folder" if self._folder is None else self._folder
        return NasnetError(
            f"None of the images exists, as seen from {folder}: {path} does not, for example.",
            "Run this in the folder where nasnet classify ran, or name that folder with --base.",
        )


def archive_of(path: str) -> str | None:
    """Return the archive that a path names a member of (photos.zip!/a.jpg), or None.

    A file that has such a name itself is no member.
    """
    start = 0
    while (end := path.find("!/", start)) >= 0:
        archive = path[:end]
        if archive.lower().endswith(ARCHIVE_SUFFIXES) and not os.path.isdir(archive + "!"):
            return archive
        start = end + 1
    return None
