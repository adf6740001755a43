"""Sort images into folders by their labels: where each of them goes."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import unquote, urlsplit

from nasnet_cli.albums.paths import Base
from nasnet_cli.errors import ErrorKind, NasnetError
from nasnet_cli.images.source import is_remote
from nasnet_cli.results.reading import LabelFile
from nasnet_cli.results.records import Classified, Everyday, Prediction
from nasnet_cli.systems import with_slashes
from nasnet_cli.wordnet import load_hierarchy

NOT_SURE = "_not_sure"
_LONGEST = 100  # bytes of a folder's name
# Names of devices on Windows, also with a suffix.
_DEVICES = {
    "CON",
    "PRN",
    "AUX",
    "NUL",
    *(f"{port}{n}" for port in ("COM", "LPT") for n in range(10)),
}
# What names on the disks of other systems cannot hold, and what a terminal would obey.
_NOT_IN_NAMES = re.compile(r'[\x00-\x1f\x7f-\x9f/\\:*?"<>|\ud800-\udfff]')


@dataclass
class Sorting:
    """The images of a result file and the folders that they go to.

    by is the label that decides: sure, the everyday label, or top1, the best one. The counts are
    complete once all pairs have been taken: rows, errors by kind, and folders with the number of
    their images.
    """

    file: LabelFile
    base: Base
    by: Literal["sure", "top1"]
    rows: int = 0
    errors: Counter[ErrorKind] = field(default_factory=Counter)
    folders: Counter[str] = field(default_factory=Counter)

    def pairs(self) -> Iterator[tuple[str, str]]:
        """Yield each image's path, as seen from here, and where it goes: dog/a.jpg.

        Images with errors go nowhere. Raises NasnetError, after the last row, if the file lacks
        the labels asked for.
        """
        for row in self.file.rows():
            self.rows += 1
            if row.error is not None:
                self.errors[row.error.kind] += 1
                continue
            folder = self._folder(row)
            self.folders[folder] += 1
            yield self.base.locate(row.path), f"{folder}/{_name(row.path)}"
        if self.by == "sure" and not self.file.has_everyday:
            raise NasnetError(
                f"{self.file.name} has no everyday labels: an earlier version wrote it.",
                "Use --by top1, or run nasnet classify again.",
            )

    def _folder(self, row: Classified) -> str:
        label: Everyday | Prediction | None = row.sure
        if self.by == "top1":
            label = row.predictions[0] if row.predictions else None
        if label is None:
            return NOT_SURE
        return folder_name(load_hierarchy().display_name(label.wnid, label.label))


def folder_name(label: str) -> str:
    """Return a label as a name that a folder can have on any system: ac_dc for ac/dc."""
    name = _NOT_IN_NAMES.sub("_", label).encode()[:_LONGEST].decode(errors="ignore")
    # Hidden names, NOT_SURE and what looks like an option are no labels' names.
    name = name.strip(" .").lstrip("_-. ")
    stem, dot, rest = name.partition(".")
    if stem.rstrip().upper() in _DEVICES:
        name = f"{stem}_{dot}{rest}"
    return name or "unnamed"


def _name(path: str) -> str:
    if is_remote(path):
        path = unquote(urlsplit(path).path)
    name = with_slashes(path).rstrip("/").rpartition("/")[2]
    return "image" if name in ("", ".", "..") else name.replace("\0", "_")
