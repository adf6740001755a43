"""Write keywords of a result file into sidecars: which sidecar an image has, and what it gets."""

from __future__ import annotations

import errno
import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

from nasnet_cli.albums.contents import is_file
from nasnet_cli.albums.keywords import NONE, Keywords, keywords_of
from nasnet_cli.albums.moves import FATAL
from nasnet_cli.albums.paths import Base
from nasnet_cli.albums.planning import IN_ARCHIVE, NOT_FOUND, REMOTE
from nasnet_cli.albums.sidecar import Sidecar
from nasnet_cli.albums.sidecar_names import Stems, full_name, stem_name
from nasnet_cli.atomic import leftovers
from nasnet_cli.errors import ErrorKind, NasnetError, OutputError
from nasnet_cli.images.source import is_remote
from nasnet_cli.kept_files import read_kept
from nasnet_cli.results.atomic import in_words, open_output
from nasnet_cli.results.reading import LabelFile

Naming = Literal["full", "stem"]
Change = Literal["new", "changed", "unchanged", "removed", "none"]
"""The change to a sidecar, or none for an image that has no sidecar and gets none."""
SHARED = "shares its stem"
_REMEDY = "Sidecars lie beside their images: make that folder writable, or free some space."


class Tag(NamedTuple):
    """An image and the keywords that its sidecar gets."""

    image: str
    sidecar: str
    keywords: Keywords


@dataclass
class Tagging:
    """The sidecars of the images in a result file.

    naming full is photo.jpg.xmp, stem photo.xmp. With remove, all keywords are taken away. rows
    counts the images, not_sure those without an everyday label, errors those of each kind; skipped
    has the reason for each image that gets no sidecar.
    """

    file: LabelFile
    base: Base
    naming: Naming
    remove: bool
    rows: int = 0
    not_sure: int = 0
    errors: Counter[ErrorKind] = field(default_factory=Counter)
    skipped: dict[str, str] = field(default_factory=dict)
    _stems: Stems = field(default_factory=Stems)

    def plan(self) -> list[Tag]:
        """Read the results and return what is to be done; writes nothing.

        Raises NasnetError if the file has no everyday labels, or none of its images exists.
        """
        tags: dict[str, Tag] = {}
        for row in self.file.rows():
            self.rows += 1
            if row.error is not None:
                self.errors[row.error.kind] += 1
                continue
            self.not_sure += row.sure is None
            image = self.base.locate(row.path)
            if reason := self._problem(image):
                self.skipped[image] = reason
                continue
            sidecar = (full_name if self.naming == "full" else stem_name)(image)
            keywords = NONE if self.remove else keywords_of(row.sure)
            tags.setdefault(image, Tag(image, sidecar, keywords))
        if not self.file.has_everyday and not self.remove:
            raise NasnetError(
                f"{self.file.name} has no everyday labels: an earlier version wrote it.",
                "Run nasnet classify again.",
            )
        if self.skipped and not tags and set(self.skipped.values()) == {NOT_FOUND}:
            raise self.base.nothing_exists(next(iter(self.skipped)))
        return list(tags.values())

    def _problem(self, image: str) -> str | None:
        if not is_file(image):
            return REMOTE if is_remote(image) else IN_ARCHIVE
        if not os.path.exists(image):
            return NOT_FOUND
        return SHARED if self.naming == "stem" and self._stems.is_shared(image) else None


def remove_leftovers(tags: list[Tag]) -> None:
    """Remove what a killed process has left beside the sidecars."""
    for path in leftovers(*(Path(tag.sidecar) for tag in tags)):
        path.unlink(missing_ok=True)


def planned_change(tag: Tag) -> Change:
    """Return what write_tag would do; writes nothing. Raises NasnetError."""
    return _change(tag)[0]


def write_tag(tag: Tag) -> Change:
    """Bring a sidecar up to date; it is replaced whole, or removed where we had made it.

    Raises NasnetError where that cannot be done; OutputError where no other sidecar could be
    written either, because the disk is full or read-only.
    """
    change, sidecar = _change(tag)
    try:
        if change == "removed":
            os.unlink(tag.sidecar)
        elif change in ("new", "changed"):
            with open_output(tag.sidecar, overwrite=True) as stream:
                stream.write(sidecar.data())
    except OSError as error:
        raise in_words(tag.sidecar, error) from error
    except OutputError as error:
        cause = error.__cause__
        is_fatal = isinstance(cause, OSError) and cause.errno in FATAL
        raise (OutputError if is_fatal else NasnetError)(error.problem, _REMEDY) from error
    return change


def _change(tag: Tag) -> tuple[Change, Sidecar]:
    data = _read(Path(tag.sidecar))
    sidecar = Sidecar(data, tag.sidecar)
    if not sidecar.set_keywords(tag.keywords):
        return "none" if data is None else "unchanged", sidecar
    if sidecar.is_empty:
        return "removed", sidecar
    return "new" if data is None else "changed", sidecar


def _read(path: Path) -> bytes | None:
    try:
        return read_kept(path, follow=True)
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise NasnetError(f"Cannot read {path}: {error}.", "Remove it.") from None
    except OSError as error:
        is_long = error.errno == errno.ENAMETOOLONG
        remedy = "Use --naming stem." if is_long else "Make it readable."
        raise NasnetError(f"Cannot read {path}: {error.strerror}.", remedy) from error
