"""Selection of the entries of folders, archives and stores, by their names alone."""

from __future__ import annotations

import fnmatch
import functools
import os
import re
from collections.abc import Sequence
from typing import NamedTuple

from nasnet_cli.systems import with_slashes

# Folders of thumbnails, deleted files and snapshots that file servers and systems keep beside
# photos, and of packages; compared in lower case.
SKIPPED_FOLDERS = frozenset((
    "@eadir", "@recycle", "@recently-snapshot", "#recycle", "#snapshot", "$recycle.bin", "recycler",
    "system volume information", "lost+found", "node_modules", "__macosx",
))  # fmt: skip


class Selection(NamedTuple):
    """The entries that are looked at: recursive enters subfolders, exclude leaves names out.

    own are the resolved paths of the run's own files and folders, which are neither inputs nor
    counted.

    A pattern without a slash is compared with the name of each file and folder, one with a slash
    with the path below the folder, archive or prefix that the user named. * and ? match slashes
    too; letters' case counts.
    """

    recursive: bool = True
    exclude: Sequence[str] = ()
    own: Sequence[str] = ()

    def is_own(self, path: str) -> bool:
        """Return whether a path is that of one of the run's own."""
        name = with_slashes(path).rpartition("/")[2]
        return any(own.endswith(name) for own in self.own) and os.path.realpath(path) in self.own

    def reason(self, relative: str, *, is_folder: bool) -> str | None:
        """Return the kind under which an entry is skipped for its name; None where it is not.

        relative is its path below what the user named; the folders in it have been asked about.
        """
        name = relative.rpartition("/")[2]
        if name.startswith(".") and name not in (".", ".."):
            return "hidden"
        if is_folder and name.lower() in SKIPPED_FOLDERS:
            return name
        if self.exclude and any(
            _pattern(glob).match(relative if "/" in glob.rstrip("/") else name)
            for glob in self.exclude
            if is_folder or not glob.endswith("/")
        ):
            return "excluded"
        return None

    def path_reason(self, relative: str) -> str | None:
        """Return reason's answer for the first part of a file's path that has one."""
        end = relative.find("/")
        while end >= 0:
            if reason := self.reason(relative[:end], is_folder=True):
                return reason
            end = relative.find("/", end + 1)
        return self.reason(relative, is_folder=False)


@functools.cache
def _pattern(glob: str) -> re.Pattern[str]:
    return re.compile(fnmatch.translate(glob.strip("/")))
