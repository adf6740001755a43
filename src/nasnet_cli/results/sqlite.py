"""SQLite files of labels: images, predictions and run as tables with indexes.

Rows are written in their order, in one transaction, to a file that was empty: the same rows give
the same bytes for one version of SQLite, which the table run and the file's header record.
"""

from __future__ import annotations

import errno
import io
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import BinaryIO
from urllib.parse import quote

from nasnet_cli.kept_files import MAX_DOCUMENT_BYTES, parse_json
from nasnet_cli.results.atomic import in_words
from nasnet_cli.results.meta import SECTIONS
from nasnet_cli.results.records import (
    Classified,
    recorded_everyday,
    recorded_failure,
    recorded_path,
    recorded_prediction,
)
from nasnet_cli.results.text import json_text, readable, rounded, undecodable

PAGE_BYTES = 4096
"""SQLite's own default has changed before, so the size is fixed."""

_TABLES = """
CREATE TABLE run (
    sqlite_version TEXT NOT NULL,
    {sections}
);
CREATE TABLE images (
    id INTEGER PRIMARY KEY,
    path TEXT NOT NULL,
    path_bytes BLOB,
    status TEXT NOT NULL,
    error_kind TEXT,
    error TEXT,
    sure_wnid TEXT,
    sure_label TEXT,
    sure_probability REAL
);
CREATE TABLE predictions (
    image_id INTEGER NOT NULL REFERENCES images (id),
    rank INTEGER NOT NULL,
    "index" INTEGER NOT NULL,
    wnid TEXT NOT NULL,
    label TEXT NOT NULL,
    probability REAL,{logit}
    PRIMARY KEY (image_id, rank)
) WITHOUT ROWID;
"""
_INDEXES = """
CREATE INDEX images_by_path ON images (path);
CREATE INDEX images_by_error ON images (error_kind) WHERE error_kind IS NOT NULL;
CREATE INDEX images_by_sure ON images (sure_label, sure_wnid);
CREATE INDEX predictions_by_label ON predictions (label, wnid, probability);
"""
_ERRNO = {
    sqlite3.SQLITE_FULL: errno.ENOSPC,
    sqlite3.SQLITE_CANTOPEN: errno.EACCES,
    sqlite3.SQLITE_READONLY: errno.EACCES,
    sqlite3.SQLITE_PERM: errno.EACCES,
}


def write_labels(
    stream: BinaryIO, rows: Iterator[Classified], meta: bytes, *, logits: bool
) -> None:
    """Write labels to the empty file behind a stream of open_outputs; meta is OUT.meta.json's.

    images are numbered from 1, in the order of the rows. Probabilities have six decimals. Raises
    OutputError when the file cannot be written.
    """
    assert isinstance(stream, io.BufferedWriter)
    path, shown = os.fsdecode(stream.raw.name), getattr(stream.raw, "display_name", "")
    with _output_errors(shown), closing(sqlite3.connect(path, isolation_level=None)) as database:
        # The file is hidden and dropped after an error, so it needs no journal.
        database.execute("PRAGMA journal_mode = OFF")
        database.execute("PRAGMA synchronous = OFF")
        database.execute(f"PRAGMA page_size = {PAGE_BYTES}")
        sections = ",\n    ".join(f"{name} TEXT NOT NULL" for name in SECTIONS)
        logit = "\n    logit REAL," if logits else ""
        # Not executescript, which commits before it begins.
        _execute(database, "BEGIN;" + _TABLES.format(sections=sections, logit=logit))
        described = parse_json(meta)
        values = [sqlite3.sqlite_version, *(json_text(described[name]) for name in SECTIONS)]
        database.execute(f"INSERT INTO run VALUES ({_marks(len(values))})", values)
        _insert(database, rows, logits)
        _execute(database, _INDEXES + "COMMIT;")


def _insert(database: sqlite3.Connection, rows: Iterator[Classified], logits: bool) -> None:
    image = f"INSERT INTO images VALUES ({_marks(9)})"
    prediction = f"INSERT INTO predictions VALUES ({_marks(7 if logits else 6)})"
    for number, row in enumerate(rows, start=1):
        error, sure = row.error, row.sure
        failure = (None, None) if error is None else (error.kind, readable(error.message))
        everyday = (
            (sure.wnid, readable(sure.label), rounded(sure.probability)) if sure else (None,) * 3
        )
        status = "ok" if error is None else "error"
        name = (readable(row.path), undecodable(row.path))
        database.execute(image, (number, *name, status, *failure, *everyday))
        database.executemany(
            prediction,
            (
                (
                    number,
                    found.rank,
                    found.index,
                    readable(found.wnid),
                    readable(found.label),
                    rounded(found.probability),
                    *((rounded(found.logit),) if logits else ()),
                )
                for found in row.predictions or ()
            ),
        )


def _execute(database: sqlite3.Connection, statements: str) -> None:
    for statement in statements.split(";"):
        database.execute(statement)


def _marks(count: int) -> str:
    return ", ".join("?" * count)


@contextmanager
def _output_errors(name: str) -> Iterator[None]:
    """Turn errors of SQLite into errors about the output that the user calls name."""
    try:
        yield
    except sqlite3.OperationalError as error:
        raise in_words(name, system_error(error)) from error


def error_code(error: sqlite3.Error) -> int:
    """Return SQLite's code of an error, without the extended part; 0 where it has none."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def system_error(error: sqlite3.Error) -> OSError:
    """Return the error of the system that an error of SQLite stands for."""
    number = _ERRNO.get(error_code(error), errno.EIO)
    return OSError(number, os.strerror(number))


def read_meta(path: str | os.PathLike[str]) -> bytes:
    """Return the description in a file that was written here.

    Raises OSError, ValueError or KeyError.
    """
    with open_labels(path) as database:
        columns = ", ".join(SECTIONS)
        row = database.execute(f"SELECT {columns} FROM run").fetchone()
    sections = [parse_json(section) for section in row]
    return json_text(dict(zip(SECTIONS, sections, strict=True))).encode()


@contextmanager
def open_labels(path: str | os.PathLike[str]) -> Iterator[sqlite3.Connection]:
    """Open a file to read it; nothing is written beside it. Raises OSError or ValueError."""
    os.stat(path)  # noqa: PTH116  (says more than SQLite does)
    name = quote(os.fsencode(os.path.abspath(path)))  # noqa: PTH100
    try:
        # Its rows may be read by one thread after another.
        opened = sqlite3.connect(f"file:{name}?mode=ro", uri=True, check_same_thread=False)
        with closing(opened) as database:
            database.execute("PRAGMA mmap_size = 4294967296")
            _check_tables(database)
            yield database
    except sqlite3.Error as error:
        raise ValueError(f"SQLite says {str(error)!r}") from error


def _check_tables(database: sqlite3.Connection) -> None:
    """Raise ValueError where a view has the name of a table: it could compute without end."""
    database.execute("PRAGMA trusted_schema = OFF")
    database.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MAX_DOCUMENT_BYTES)
    kinds = dict(database.execute("SELECT name, type FROM sqlite_schema"))
    for name in ("run", "images", "predictions"):
        if kinds.get(name) != "table":
            raise ValueError(f"it has no table {name}")


def read_labels(database: sqlite3.Connection) -> Iterator[Classified]:
    """Yield the rows of a file that was written here, in order. Raises sqlite3.Error."""
    columns = {name for _, name, *_ in database.execute("PRAGMA table_info(predictions)")}
    logit = "logit" if "logit" in columns else "NULL"
    found = iter(
        database.execute(
            f'SELECT image_id, rank, "index", wnid, label, probability, {logit} FROM predictions'
            " ORDER BY image_id, rank"
        )
    )
    images = database.execute(
        "SELECT id, path, path_bytes, error_kind, error, sure_wnid, sure_label, sure_probability"
        " FROM images ORDER BY id"
    )
    ahead = next(found, None)
    for number, path, raw, kind, message, *everyday in images:
        own = []
        while ahead is not None and ahead[0] == number:
            own.append(recorded_prediction(*ahead[1:]))
            ahead = next(found, None)
        name = recorded_path({"path": path, "path_bytes": raw})
        if kind is not None:
            yield Classified(name, None, recorded_failure(kind, message))
        else:
            sure = None if everyday[0] is None else recorded_everyday(*everyday)
            yield Classified(name, tuple(own), sure=sure)
