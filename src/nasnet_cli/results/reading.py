"""Read the labels of a finished run back, whatever format they were written in.

The format is found by the file's content. Rows are read while they are asked for, except those of
a JSON document.
"""

from __future__ import annotations

import codecs
import csv
import itertools
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any, BinaryIO, Literal

from nasnet_cli.errors import NasnetError, describe_error
from nasnet_cli.kept_files import parse_json
from nasnet_cli.results.records import (
    Classified,
    recorded_everyday,
    recorded_failure,
    recorded_path,
    recorded_prediction,
)
from nasnet_cli.results.writers import strip_formula_mark

Found = Literal["sqlite", "parquet", "jsonl", "json", "csv"]

_REMEDY = "Name a file that nasnet classify has written: jsonl, json, csv, parquet or sqlite."
_WRONG = (KeyError, TypeError, ValueError, OverflowError, AttributeError, csv.Error)
_HEADS: dict[bytes, Found] = {b"SQLite format 3\0": "sqlite", b"PAR1": "parquet"}


GROUPS_HEAD = b"group,row,path,similarity"
"""The start of the CSV of nasnet duplicates, which only a report reads."""


class LabelFile:
    """Labels that nasnet classify has written to a file, or that come through a stream.

    stream is for what has no name of its own, like standard input; name is what messages call it.
    A path may be that of a pipe, which is read once: /dev/stdin. Raises NasnetError, here and while
    rows are read, when the file cannot be read or is not one of nasnet classify.
    """

    def __init__(self, path: str, stream: BinaryIO | None = None) -> None:
        self.name = path if stream is None else "Standard input"
        self.path = path
        self._stream = stream
        self.has_everyday = True
        """False if rows lack the everyday label, as earlier versions wrote them; set while rows are
        read."""
        with self.errors():
            opened = self._open()
            self.first_line = opened.readline(1 << 24).removeprefix(codecs.BOM_UTF8)
            if stream is None and stat.S_ISREG(os.fstat(opened.fileno()).st_mode):
                opened.close()
            else:
                self._stream = opened
        self.format: Found = self._detect(self.first_line)
        if self.is_stream and self.format in ("sqlite", "parquet"):
            raise NasnetError(
                f"{self.name} is {self.format}, which cannot be read from a pipe.",
                "Name the file instead.",
            )

    @property
    def is_stream(self) -> bool:
        """True for what can be read once only."""
        return self._stream is not None

    def rows(self) -> Iterator[Classified]:
        """Yield the rows in order. A stream has them once."""
        read = {
            "sqlite": self._sqlite,
            "parquet": self._parquet,
            "jsonl": self._json_lines,
            "json": self._json,
            "csv": self._csv,
        }[self.format]
        with self.errors():
            yield from read()

    def _detect(self, first: bytes) -> Found:
        for head, format_ in _HEADS.items():
            if first.startswith(head):
                return format_
        line = first.strip()
        if line.startswith((b"path,status,", GROUPS_HEAD)):
            return "csv"
        if line.startswith(b"{"):
            return "json" if _is_document(line) else "jsonl"
        if not line:
            raise NasnetError(f"{self.name} has no rows.", _REMEDY)
        raise self._foreign()

    def _foreign(self, why: str = "") -> NasnetError:
        reason = f": {why}" if why else ""
        return NasnetError(f"{self.name} does not hold the labels of images{reason}.", _REMEDY)

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Turn errors of reading the file in the block into NasnetError."""
        try:
            yield
        except OSError as error:
            reason = error.strerror or describe_error(error)
            raise NasnetError(f"Cannot read {self.name}: {reason}.", _REMEDY) from error
        except _WRONG as error:
            raise self._foreign(_describe(error)) from error

    def _open(self) -> BinaryIO:
        return open(self.path, "rb") if self._stream is None else self._stream  # noqa: PTH123

    def lines(self) -> Iterator[bytes]:
        """Yield the lines from the beginning: of a stream, the first one has been read."""
        if self._stream is not None:
            yield from itertools.chain([self.first_line], self._stream)
            if self.name == self.path:  # opened here
                self._stream.close()
            return
        with self._open() as stream:
            yield from stream

    def _sqlite(self) -> Iterator[Classified]:
        from nasnet_cli.results.sqlite import open_labels, read_labels

        with open_labels(self.path) as database:
            yield from read_labels(database)

    def _parquet(self) -> Iterator[Classified]:
        from nasnet_cli.results.parquet import ROWS, require

        require()
        import pyarrow.parquet as pq

        with pq.ParquetFile(self.path) as file:
            for batch in file.iter_batches(ROWS):
                yield from map(self._record, batch.to_pylist())

    def _json_lines(self) -> Iterator[Classified]:
        for number, line in enumerate(self.lines(), start=1):
            if not line.strip():
                continue
            try:
                yield self._record(parse_json(line))
            except _WRONG as error:
                raise ValueError(f"line {number}, {_describe(error)}") from error

    @cached_property
    def document(self) -> dict[str, Any]:
        """The whole of a JSON document. Raises ValueError."""
        document: dict[str, Any] = parse_json(b"".join(self.lines()))
        return document

    def _json(self) -> Iterator[Classified]:
        yield from map(self._record, self.document["results"])

    def _record(self, row: Mapping[str, Any]) -> Classified:
        path = recorded_path(row)
        if row["status"] == "error":
            return Classified(path, None, recorded_failure(**row["error"]))
        if row.get("predictions") is None:
            raise ValueError("there are no predictions")
        self.has_everyday = self.has_everyday and "sure" in row
        sure = row.get("sure")
        return Classified(
            path,
            tuple(recorded_prediction(**found) for found in row["predictions"]),
            sure=None if sure is None else recorded_everyday(**sure),
        )

    def _csv(self) -> Iterator[Classified]:
        reader = csv.reader(self.text_lines(), strict=True)
        columns = next(reader)
        _check_columns(columns)
        self.has_everyday = "sure_wnid" in columns
        lines = (_cells(columns, cells, reader.line_num) for cells in reader if cells)
        for _, group in itertools.groupby(lines, _Images()):
            yield _of_csv(list(group))

    def text_lines(self) -> Iterator[str]:
        """Yield the lines of CSV. Raises ValueError for a last one that is cut off."""
        line = b""
        for line in self.lines():
            yield line.decode("utf-8-sig")
        if not line.endswith(b"\n"):
            raise ValueError("its last line has no end, as if it were cut off")


def _is_document(line: bytes) -> bool:
    """Return whether the first line of JSON is a document or begins one, and is no row."""
    if not line.endswith(b"}"):
        return True
    try:
        return not {"results", "mistakes"}.isdisjoint(parse_json(line))
    except ValueError:
        return False


def _describe(error: Exception) -> str:
    """Return in words what is wrong with a file that is read."""
    if isinstance(error, UnicodeDecodeError):
        return "its text is not UTF-8"
    if isinstance(error, KeyError):
        return f"there is no {describe_error(error)}"
    if isinstance(error, (TypeError, AttributeError)):
        return "a value is of a wrong kind"
    return describe_error(error)


class _Images:
    """The number of the image that a line of CSV belongs to: each begins at rank 1 or without."""

    def __init__(self) -> None:
        self._count = 0

    def __call__(self, line: Mapping[str, str]) -> int:
        self._count += line["rank"] in ("", "1")
        return self._count


def _check_columns(columns: Sequence[str]) -> None:
    needed = ("path", "status", "rank", "index", "wnid", "label", "probability", "error_kind")
    if missing := [name for name in needed if name not in columns]:
        raise ValueError(f"there is no column {missing[0]}")


def _cells(columns: Sequence[str], cells: Sequence[str], number: int) -> dict[str, str]:
    if len(cells) != len(columns):
        raise ValueError(f"line {number} has {len(cells)} cells, not {len(columns)}")
    return dict(zip(columns, cells, strict=True))


def _of_csv(lines: Sequence[Mapping[str, str]]) -> Classified:
    first = lines[0]
    if first["status"] == "error":
        return Classified(
            first["path"], None, recorded_failure(first["error_kind"], first["error"])
        )
    predictions = tuple(
        recorded_prediction(
            rank=int(line["rank"]),
            index=int(line["index"]),
            wnid=strip_formula_mark(line["wnid"]),
            label=strip_formula_mark(line["label"]),
            probability=_cell(line["probability"]),
            logit=float(line["logit"]) if line.get("logit") else None,
        )
        for line in lines
        if line["rank"]
    )
    sure = None
    if wnid := first.get("sure_wnid"):
        probability = _cell(first["sure_probability"])
        sure = recorded_everyday(wnid, strip_formula_mark(first["sure_label"]), probability)
    return Classified(first["path"], predictions, sure=sure)


def _cell(text: str) -> float | None:
    """Return the number in a cell of CSV, None where it is empty."""
    return float(text) if text else None
