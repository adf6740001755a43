"""Paths of a result file, as seen from where the images are now."""

from __future__ import annotations

import os

from nasnet_cli.errors import NasnetError
from nasnet_cli.images.source import is_remote, member_of


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
        """Return whether a located path exists, as the function exists does."""
        return exists(path)

    def nothing_exists(self, path: str) -> NasnetError:
        """Return the error to raise when none of the located paths exists; path is one of them."""
        folder = "the current folder" if self._folder is None else self._folder
        return NasnetError(
            f"None of the images exists, as seen from {folder}: {path} does not, for example.",
            "Run this in the folder where nasnet classify ran, or name that folder with --base.",
        )


def exists(path: str) -> bool:
    """Return whether the file behind a located path, or its archive, exists. URLs count so."""
    if is_remote(path):
        return True
    member = None if os.path.lexists(path) else member_of(path)
    return os.path.lexists(path if member is None else member[0])
