"""Make a report: entries, thumbnails and, with vectors, a map, written to a file as a page."""

# Paths stay the strings that results have: Path would turn "a/./b" into "a/b".
# ruff: noqa: PTH119, PTH120

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from nasnet_cli.albums.paths import Base
from nasnet_cli.errors import ErrorKind, NasnetError
from nasnet_cli.report.entries import Entry, has_groups, read_entries
from nasnet_cli.report.links import link
from nasnet_cli.report.page import Page
from nasnet_cli.report.thumbnails import Thumbnail, Thumbnails
from nasnet_cli.results.atomic import open_output
from nasnet_cli.results.reading import LabelFile
from nasnet_cli.runtime.base import available_cores


@dataclass(frozen=True)
class ReportOptions:
    """Settings of a report.

    title is its heading; base says where the images are. vectors is a .npy file of nasnet embed,
    for a map. workers threads decode, two more than CPUs if None.
    """

    title: str
    base: Base
    vectors: str | None = None
    workers: int | None = None
    overwrite: bool = False


@dataclass
class ReportCounts:
    """Counts of a finished report. without are the images with labels, but without a thumbnail."""

    images: int = 0
    errors: Counter[ErrorKind] = field(default_factory=Counter)
    without: int = 0
    bytes: int = 0


def make_report(
    file: LabelFile,
    out: str,
    options: ReportOptions,
    advance: Callable[[int], None] = lambda images: None,
) -> ReportCounts:
    """Write the page for a file of results to out; advance is called with finished images.

    Raises NasnetError, and leaves no file then: also when none of the images exists.
    """
    counts = ReportCounts()
    images = _Images(options.base)
    folder = os.path.dirname(out) or "."
    name = file.name if file.is_stream else os.path.basename(file.path)
    page = Page(options.title, name, has_groups(file))
    page.link = lambda path: link(options.base.locate(path), folder)
    with (
        open_output(out, overwrite=options.overwrite) as stream,
        Thumbnails(options.workers or available_cores() + 2) as thumbnails,
    ):
        image_map = None
        if options.vectors is not None:
            from nasnet_cli.report.projection import ImageMap

            image_map = ImageMap(options.vectors)
            page.method, page.place = image_map.method, image_map.place

        def counted() -> Iterator[tuple[Entry, Thumbnail | None]]:
            for entry, thumbnail in thumbnails.of(read_entries(file), images.path):
                counts.images += 1
                if entry.row.error is not None:
                    counts.errors[entry.row.error.kind] += 1
                counts.without += thumbnail is not None and thumbnail.webp is None
                yield entry, thumbnail
                advance(1)

        counts.bytes = page.write(counted(), stream)
        images.check()
        if image_map is not None and counts.images and not image_map.used:
            raise NasnetError(
                f"None of the images has a vector in {options.vectors}.",
                "Name the vectors of these images, made with the same paths.",
            )
    return counts


class _Images:
    """The images of a report, and whether any of them exists."""

    def __init__(self, base: Base) -> None:
        self._base = base
        self._first: str | None = None
        self._any_exists = False

    def path(self, entry: Entry) -> str | None:
        """Return the path of an entry's image as seen from here; None for one with an error."""
        if entry.row.error is not None:
            return None
        path = self._base.locate(entry.row.path)
        self._first = self._first or path
        self._any_exists = self._any_exists or self._base.exists(path)
        return path

    def check(self) -> None:
        """Raise NasnetError where there are images, of which none exists."""
        if self._first is not None and not self._any_exists:
            raise self._base.nothing_exists(self._first)
