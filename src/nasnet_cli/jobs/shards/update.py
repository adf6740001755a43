"""Bring a manifest up to date with the images as they are now.

New images become a segment at the end. An image whose file has another size or modification time
gets a new line in its old place, so that only its own shard's slice changes and only that shard is
run again. An image that is gone stays in the manifest: finished shards keep its row, and when its
shard is run again the row says not_found.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from nasnet_cli.errors import NasnetError
from nasnet_cli.images.source import SkipCounter, Source
from nasnet_cli.jobs.shards.entries import entry_lines
from nasnet_cli.jobs.shards.manifest import (
    Manifest,
    add_segment,
    remove_old,
    save,
    write_slices,
)
from nasnet_cli.jobs.shards.slices import Segment
from nasnet_cli.kept_files import parse_json
from nasnet_cli.results.atomic import open_output
from nasnet_cli.results.text import counted


@dataclass(frozen=True)
class Changes:
    """Numbers of images that are new, have changed or are gone since the last run."""

    added: int = 0
    changed: int = 0
    gone: int = 0

    def __str__(self) -> str:
        """The changes in words, or an empty string."""
        counts = ((self.added, "new"), (self.changed, "changed"), (self.gone, "missing"))
        return ", ".join(counted(count, f"{how} image") for count, how in counts if count)


def extend(
    manifest: Manifest, sources: Iterable[Source], skips: SkipCounter
) -> tuple[Manifest, Changes]:
    """Return the manifest brought up to date with sources, saved if it has changed.

    Nothing is kept in memory: as long as the list is the same as before, it is compared line by
    line; from the first difference on, in a database that SQLite keeps in a temporary file (in
    SQLITE_TMPDIR). Raises NasnetError and OutputError.
    """
    try:
        with _KnownLines(manifest) as known:
            new = (line for line in entry_lines(sources) if not known.take(line))
            grown = add_segment(manifest, new, manifest.cut.for_more(manifest.segments[0].pictures))
            changes = known.changes(grown.images - manifest.images)
            if changes.changed:
                segments = list(grown.segments)
                for number, segment in enumerate(manifest.segments):
                    segments[number] = _rewritten(manifest, segment, known)
                grown = replace(grown, segments=tuple(segments))
    except sqlite3.Error as error:
        raise NasnetError(
            f"The list of images cannot be compared with the last one: {error}.",
            "Make space for temporary files, or set SQLITE_TMPDIR.",
        ) from error
    if changes.added or changes.changed:
        grown = replace(grown, revision=manifest.revision + 1)
    # Paths start from where the images have been listed now.
    grown = replace(grown, passed_over=skips.count, start=str(Path.cwd()))
    if grown != manifest:
        save(grown)
        remove_old(grown)
    return grown, changes


def _rewritten(manifest: Manifest, segment: Segment, known: _KnownLines) -> Segment:
    """Write the segment with its changed lines to files of the next revision, if it has some."""
    changed = known.changed_lines(segment.number)
    at, text = next(changed, (-1, b""))
    if at < 0:
        return segment
    new = replace(segment, revision=manifest.revision + 1)
    with (
        (manifest.folder / segment.images_name).open("rb") as old,
        open_output(manifest.folder / new.images_name, overwrite=True) as stream,
    ):
        for number, line in enumerate(old):
            if number == at:
                stream.write(text)
                at, text = next(changed, (-1, b""))
            else:
                stream.write(line)
    sizes = (
        piece.images
        for piece in manifest.slices()
        if segment.first_shard <= piece.shard < segment.first_shard + segment.shards
    )
    return write_slices(manifest.folder, new, sizes)


class _KnownLines:
    """The lines of a manifest, each to be taken once by a line that is listed now."""

    def __init__(self, manifest: Manifest) -> None:
        for _ in manifest.slices():  # raises where the manifest is damaged
            pass
        self._manifest = manifest
        self._stack = ExitStack()
        self._heads: list[_Head] = []
        self._database: sqlite3.Connection | None = None

    def __enter__(self) -> _KnownLines:
        for segment in self._manifest.segments:
            stream = (self._manifest.folder / segment.images_name).open("rb")
            self._heads.append(_Head(segment.number, self._stack.enter_context(stream)))
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def take(self, line: bytes) -> bool:
        """Return whether the image is in the manifest, and remember its line if that differs."""
        if self._database is None:
            for head in self._heads:
                if head.line == line:
                    head.advance()
                    return True
            self._database = self._fill_database()
        path = _path(line)
        row = self._database.execute(
            "SELECT segment, line, text FROM known WHERE path = ? LIMIT 1", (path,)
        ).fetchone()
        if row is None:
            return False
        segment, number, text = row
        if text != line:
            # A name may be listed twice: prefer the line that is the same.
            same = self._database.execute(
                "SELECT segment, line FROM known WHERE path = ? AND text = ?", (path, line)
            ).fetchone()
            if same is None:
                change = (segment, number, line)
                self._database.execute("INSERT INTO changed VALUES (?, ?, ?)", change)
            else:
                segment, number = same
        self._database.execute(
            "DELETE FROM known WHERE path = ? AND segment = ? AND line = ?",
            (path, segment, number),
        )
        return True

    def changes(self, added: int) -> Changes:
        """Return the changes, when all that is listed now has been taken."""
        if self._database is None:
            # The list ended early, with nothing new: the rest is gone.
            return Changes(added, 0, sum(1 for head in self._heads for _ in head.rest()))
        (changed,) = self._database.execute("SELECT count(*) FROM changed").fetchone()
        (gone,) = self._database.execute("SELECT count(*) FROM known").fetchone()
        return Changes(added, changed, gone)

    def changed_lines(self, segment: int) -> Iterator[tuple[int, bytes]]:
        """Yield the number and the new text of each changed line of a segment, in order."""
        if self._database is not None:
            yield from self._database.execute(
                "SELECT line, text FROM changed WHERE segment = ? ORDER BY line", (segment,)
            )

    def _fill_database(self) -> sqlite3.Connection:
        # An empty name stands for a private database in a temporary file.
        database = self._stack.enter_context(closing(sqlite3.connect("", isolation_level=None)))
        database.executescript(
            "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;"
            "CREATE TABLE known (path BLOB, segment INTEGER, line INTEGER, text BLOB,"
            " PRIMARY KEY (path, segment, line)) WITHOUT ROWID;"
            "CREATE TABLE changed (segment INTEGER, line INTEGER, text BLOB,"
            " PRIMARY KEY (segment, line)) WITHOUT ROWID; BEGIN"
        )
        for head in self._heads:
            rows = ((_path(line), head.segment, n, line) for n, line in head.rest())
            database.executemany("INSERT INTO known VALUES (?, ?, ?, ?)", rows)
        return database


class _Head:
    """The reading position in a segment. line is the next one; empty at the end."""

    def __init__(self, segment: int, stream: BinaryIO) -> None:
        self.segment = segment
        self._stream = stream
        self._number = 0
        self.line = stream.readline()

    def advance(self) -> None:
        self._number += 1
        self.line = self._stream.readline()

    def rest(self) -> Iterator[tuple[int, bytes]]:
        while self.line:
            yield self._number, self.line
            self.advance()


def _path(line: bytes) -> bytes:
    path: str = parse_json(line)["path"]
    return path.encode("utf-8", "surrogatepass")
