"""The page of a report, written as a stream: template, style and script, and the data in chunks.

Nothing in it comes from elsewhere: its content security policy allows the one style and the one
script by their hashes, images from the page itself and from the disk, and nothing else.
"""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from importlib.resources import files
from itertools import islice
from typing import Any, BinaryIO

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from nasnet_cli.report.entries import Entry
from nasnet_cli.report.thumbnails import Thumbnail
from nasnet_cli.report.vocabulary import Vocabulary
from nasnet_cli.results.text import json_text, printable, readable

SCRIPTS = ("words.js", "album.js", "grid.js", "viewer.js", "map.js", "app.js")
"""The parts of the page's script, in order."""

# Entries in one element of data: the page decodes the thumbnails of one at a time.
_CHUNK = 100


@dataclass
class Page:
    """A page to write. title is shown as text; place gives an image's [x, y] on the map, and
    method says how they were found, empty without a map. link gives the link to an image, or "".
    """

    title: str
    source: str
    is_groups: bool = False
    method: str = ""
    place: Callable[[str], list[float] | None] = lambda path: None
    link: Callable[[str], str] = lambda path: ""
    _vocabulary: Vocabulary = field(default_factory=Vocabulary)

    def write(self, entries: Iterable[tuple[Entry, Thumbnail | None]], stream: BinaryIO) -> int:
        """Write the page to a stream while entries come, with their thumbnails.

        Return the number of bytes.
        """
        environment = Environment(
            loader=PackageLoader("nasnet_cli.report", "."),
            autoescape=True,
            undefined=StrictUndefined,
            keep_trailing_newline=True,
        )
        environment.filters["data"] = script_data
        script = "\n".join(map(_read, SCRIPTS))
        style = _read("style.css")
        template = environment.get_template("page.html")
        parts = template.generate(
            title=printable(self.title),
            policy=_policy(script, style),
            # The files of this package, as they are.
            script=Markup(script),
            style=Markup(style),
            chunks=self._chunks(entries),
            about=self._about,
        )
        return sum(stream.write(part.encode()) for part in parts)

    def _about(self) -> dict[str, Any]:
        """Return what the page's script knows beside the entries, once all have been written."""
        about = {"source": printable(self.source), "groups": self.is_groups, "map": self.method}
        return {**about, **self._vocabulary.table()}

    def _chunks(
        self, entries: Iterable[tuple[Entry, Thumbnail | None]]
    ) -> Iterator[tuple[list[dict[str, Any]], list[str | None]]]:
        for chunk in _in_chunks(entries):
            rows = [self._row(entry, thumbnail) for entry, thumbnail in chunk]
            yield rows, [_base64(thumbnail) for _, thumbnail in chunk]

    def _row(self, entry: Entry, thumbnail: Thumbnail | None) -> dict[str, Any]:
        """Return an entry as the page's script reads it (album.js), without what is empty."""
        row, number = entry.row, self._vocabulary.number
        fields: dict[str, Any] = {
            "p": printable(row.path),
            "u": self.link(row.path),
            "k": [
                [number(found.wnid, readable(found.label)), _finite(found.probability)]
                for found in row.predictions or ()
            ],
            "m": self.place(row.path) if self.method else None,
        }
        if sure := row.sure:
            fields["s"] = [number(sure.wnid, readable(sure.label)), _finite(sure.probability)]
        if entry.true_class:
            fields["c"] = printable(entry.true_class)
        if row.error is not None:
            fields["e"] = [row.error.kind, printable(row.error.message)]
        if grouped := entry.grouped:
            fields["g"] = [grouped.group, _finite(grouped.similarity)]
            fields["r"] = printable(grouped.role)
        if thumbnail is not None:
            fields["t"] = printable(thumbnail.reason)
        return {name: value for name, value in fields.items() if value not in (None, "", [])}


def script_data(value: object) -> Markup:
    """Return a value as JSON that can stand in an element script, whatever its texts hold."""
    return Markup(json_text(value).replace("<", "\\u003c"))


def _in_chunks(
    entries: Iterable[tuple[Entry, Thumbnail | None]],
) -> Iterator[tuple[tuple[Entry, Thumbnail | None], ...]]:
    rest = iter(entries)
    while chunk := tuple(islice(rest, _CHUNK)):
        yield chunk


def _base64(thumbnail: Thumbnail | None) -> str | None:
    if thumbnail is None or thumbnail.webp is None:
        return None
    return base64.b64encode(thumbnail.webp).decode()


def _finite(value: float) -> float | None:
    return round(value, 4) if math.isfinite(value) else None


def _read(name: str) -> str:
    return files("nasnet_cli.report").joinpath(name).read_text(encoding="utf-8")


def _policy(script: str, style: str) -> str:
    """Return the content security policy; file: lets the page show an image from the disk."""
    return "; ".join((
        "default-src 'none'",
        f"script-src {_hash(script)}",
        f"style-src {_hash(style)}",
        "img-src data: file:",
        "base-uri 'none'",
        "form-action 'none'",
    ))  # fmt: skip


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
