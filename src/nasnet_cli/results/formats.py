"""The formats of results, in one table. CONTRIBUTING.md says how to add one."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, NamedTuple

from nasnet_cli.results.meta import meta_path

if TYPE_CHECKING:
    from pathlib import Path

    from nasnet_cli.results.npy import Shape
    from nasnet_cli.results.records import Summary

ResultKind = Literal["labels", "vectors", "neighbours", "groups"]
FormatName = Literal["table", "jsonl", "json", "csv", "parquet", "sqlite", "npy", "npz"]


class Results(NamedTuple):
    """The labels or vectors of a finished job, and what else a file says of it.

    rows returns the records (Classified or Embedded) in order, at each call. head is what a JSON
    document has before them, meta the content of OUT.meta.json. logits and everyday (whether the
    model has everyday labels) are for labels, shape for vectors.
    """

    kind: ResultKind
    rows: Callable[[], Iterator[Any]]
    summary: Summary
    meta: bytes
    head: Mapping[str, Mapping[str, object]] = {}
    logits: bool = False
    everyday: bool = False
    shape: Shape | None = None


class ResultFormat(NamedTuple):
    """One format of result files.

    kinds are the results that it can hold, endings those of its files. holds_meta tells that a
    file itself holds the content of OUT.meta.json; mergeable, that the files of shards can be
    joined. write fills the streams of a job's files, without the one for OUT.meta.json.
    """

    name: FormatName
    kinds: tuple[ResultKind, ...]
    endings: tuple[str, ...]
    write: Callable[[Results, Sequence[BinaryIO]], None]
    holds_meta: bool = False
    mergeable: bool = False

    def files(self, path: Path, *, with_meta: bool = True) -> tuple[Path, ...]:
        """Return path and its companions: the lines beside a .npy, and OUT.meta.json."""
        lines = [path.with_suffix(".jsonl")] if self.name == "npy" else []
        meta = [meta_path(path)] if with_meta and not self.holds_meta else []
        return (path, *lines, *meta)

    def read_meta(self, path: Path) -> bytes:
        """Return the description in or beside a file. Raises OSError, ValueError or KeyError."""
        if not self.holds_meta:
            from nasnet_cli.kept_files import read_kept

            return read_kept(meta_path(path), follow=True)
        from nasnet_cli.results import npy, parquet, sqlite

        readers = {"parquet": parquet.read_meta, "sqlite": sqlite.read_meta}
        return readers.get(self.name, npy.read_npz_meta)(path)

    @property
    def is_readable(self) -> bool:
        """True if read gives the rows back; a table is for people."""
        return self.name != "table"

    def read(self, path: Path, kind: ResultKind) -> Iterator[Any]:
        """Yield the records that were written to a file, Classified or Embedded, in order.

        Written once more, they give the same bytes: numbers and names are as the format has them.
        Raises NasnetError, OSError, ValueError or KeyError.
        """
        if kind == "labels":
            from nasnet_cli.results.reading import LabelFile

            return LabelFile(os.fspath(path)).rows()
        from nasnet_cli.results import npy, parquet

        if self.name == "parquet":
            return parquet.read_vectors(path)
        return npy.read_npz(path) if self.name == "npz" else npy.read_npy(path)


def _write_labels(format_: FormatName) -> Callable[[Results, Sequence[BinaryIO]], None]:
    def write(results: Results, streams: Sequence[BinaryIO]) -> None:
        from nasnet_cli.results.writers import open_label_writer

        writer = open_label_writer(
            format_,
            streams[0],
            head=results.head,
            logits=results.logits,
            everyday=results.everyday,
        )
        for row in results.rows():
            writer.write(row)
        writer.finish(results.summary.counts())

    return write


def _write_parquet(results: Results, streams: Sequence[BinaryIO]) -> None:
    from nasnet_cli.results import parquet

    if results.kind == "labels":
        parquet.write_labels(streams[0], results.rows(), results.meta, logits=results.logits)
    else:
        assert results.shape is not None
        parquet.write_vectors(streams[0], results.rows(), results.shape, results.meta)


def _write_sqlite(results: Results, streams: Sequence[BinaryIO]) -> None:
    from nasnet_cli.results import sqlite

    sqlite.write_labels(streams[0], results.rows(), results.meta, logits=results.logits)


def _write_npy(results: Results, streams: Sequence[BinaryIO]) -> None:
    from nasnet_cli.results import npy

    assert results.shape is not None
    npy.write_npy(streams[0], results.rows(), results.shape)
    npy.write_lines(streams[1], results.rows())


def _write_npz(results: Results, streams: Sequence[BinaryIO]) -> None:
    from nasnet_cli.results import npy

    assert results.shape is not None
    npy.write_npz(streams[0], results.rows, results.shape, results.meta)


def _format(name: FormatName, *kinds: ResultKind, **fields: Any) -> ResultFormat:
    return ResultFormat(name, kinds, **{"endings": (f".{name}",), **fields})


_TEXT: tuple[ResultKind, ...] = ("labels", "neighbours", "groups")

FORMATS: dict[FormatName, ResultFormat] = {
    format_.name: format_
    for format_ in (
        _format("table", *_TEXT, endings=(), write=_write_labels("table")),
        _format("json", *_TEXT, write=_write_labels("json")),
        _format(
            "jsonl",
            *_TEXT,
            endings=(".jsonl", ".ndjson"),
            write=_write_labels("jsonl"),
            mergeable=True,
        ),
        _format("csv", *_TEXT, write=_write_labels("csv"), mergeable=True),
        _format("npy", "vectors", write=_write_npy, mergeable=True),
        _format("npz", "vectors", write=_write_npz, holds_meta=True),
        _format(
            "parquet", "labels", "vectors", write=_write_parquet, holds_meta=True, mergeable=True
        ),
        _format(
            "sqlite",
            "labels",
            endings=(".sqlite", ".db"),
            write=_write_sqlite,
            holds_meta=True,
        ),
    )
}


def formats_of(kind: ResultKind) -> tuple[FormatName, ...]:
    """Return the names of the formats for a kind of results, in the table's order."""
    return tuple(name for name, format_ in FORMATS.items() if kind in format_.kinds)


def mergeable_formats(kind: ResultKind) -> tuple[FormatName, ...]:
    """Return the names of the formats for shards of a kind of results, the default first."""
    return tuple(name for name in formats_of(kind) if FORMATS[name].mergeable)


def format_by_ending(
    path: str | os.PathLike[str], names: Sequence[FormatName] = tuple(FORMATS)
) -> FormatName | None:
    """Return the one of names that a file's ending names, in any case, or None."""
    from pathlib import PurePath

    ending = PurePath(path).suffix.lower()
    return next((name for name in names if ending in FORMATS[name].endings), None)
