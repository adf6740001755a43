"""The outputs of a job: its targets, and the files that are made of its rows."""

from __future__ import annotations

import codecs
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, TextIO, cast

from nasnet_cli.errors import OutputError
from nasnet_cli.jobs.rows import Row, classified_rows, embedded_rows
from nasnet_cli.jobs.spec import JobSpec, Kind, check_same_settings
from nasnet_cli.results.atomic import check_free, is_direct, open_outputs, remove_leftovers
from nasnet_cli.results.meta import META_SUFFIX, meta_document, meta_path
from nasnet_cli.results.records import Classified, Embedded, Summary

if TYPE_CHECKING:
    from nasnet_cli.model import Model
    from nasnet_cli.results.writers import Format, Writer

TargetFormat = Literal["jsonl", "json", "csv", "table", "parquet", "npy", "npz"]

# Formats that hold the content of OUT.meta.json themselves.
_WITH_META_INSIDE = ("parquet", "npz")


@dataclass(frozen=True)
class Target:
    """An output: a kind of results, in a format, in the file path.

    Labels are jsonl, json, csv, table or parquet; vectors are npy, npz or parquet.
    """

    kind: Kind
    format: TargetFormat
    path: Path

    def files(self, *, with_meta: bool = True) -> tuple[Path, ...]:
        """Return the file and its companions: the lines beside a .npy, and OUT.meta.json."""
        files = [self.path]
        if self.format == "npy":
            files.append(self.path.with_suffix(".jsonl"))
        if with_meta and self.format not in _WITH_META_INSIDE:
            files.append(meta_path(self.path))
        return tuple(files)


@dataclass(frozen=True)
class Records:
    """The rows of a job, in order, as often as they are asked for."""

    rows: Callable[[], Iterator[Row]]
    summary: Summary
    spec: JobSpec
    model: Model

    def labels(self) -> Iterator[Classified]:
        """Yield the labels of each input."""
        return classified_rows(self.rows(), self.spec, self.model)

    def vectors(self) -> Iterator[Embedded]:
        """Yield the vector of each input."""
        return embedded_rows(self.rows(), self.spec)


def prepare(targets: Sequence[Target], *, overwrite: bool, with_meta: bool) -> None:
    """Raise NasnetError if the targets cannot be written: before hours of work, not after."""
    seen: set[Path] = set()
    for target in targets:
        if target.format == "parquet":
            from nasnet_cli.results.parquet import require

            require()
        if is_direct(target.path):
            raise OutputError(
                f"{target.path} is a pipe or a device, which cannot hold {target.format}.",
                "Name a file.",
            )
        for path in target.files(with_meta=with_meta):
            if path.resolve() in seen:
                raise OutputError(
                    f"Two outputs would be written to {path}.", "Give one of them another name."
                )
            seen.add(path.resolve())
            # A description whose result is gone is in nobody's way.
            check_free(str(path), overwrite or path.name.endswith(META_SUFFIX))


def publish(
    targets: Sequence[Target], records: Records, *, overwrite: bool, with_meta: bool
) -> None:
    """Write all files of the targets, and give them their names when all are on disk.

    Raises OutputError, and leaves none of them then.
    """
    files = [target.files(with_meta=with_meta) for target in targets]
    meta = meta_document(**records.spec.identity(records.model), summary=records.summary.counts())
    names = [path for some in files for path in some]
    for path in names:
        remove_leftovers(path)
    with open_outputs(*names, overwrite=overwrite) as opened:
        streams = iter(opened)
        for target, some in zip(targets, files, strict=True):
            _write(target, [next(streams) for _ in some], records, meta)


def finished(
    targets: Sequence[Target], identity: Mapping[str, Any], *, with_meta: bool
) -> Summary | None:
    """Return the summary of the run that wrote the targets; None when a file is missing.

    Raises NasnetError when they are another job's, or do not say whose.
    """
    if not all(path.exists() for t in targets for path in t.files(with_meta=with_meta)):
        return None
    summary = None
    for target in targets:
        if not with_meta and target.format not in _WITH_META_INSIDE:
            return None
        try:
            meta = json.loads(_read_meta(target))
            summary = Summary(**meta.pop("summary"))
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise OutputError(
                f"{target.path} does not say how it was made.",
                "Use --overwrite to replace it, or name another file.",
            ) from error
        check_same_settings(meta, identity, str(target.path))
    return summary


def _read_meta(target: Target) -> bytes:
    """Return the description in or beside an output. Raises OSError, ValueError or KeyError."""
    if target.format == "parquet":
        from nasnet_cli.results.parquet import read_meta

        return read_meta(target.path)
    if target.format == "npz":
        from nasnet_cli.results.npy import read_npz_meta

        return read_npz_meta(target.path)
    return meta_path(target.path).read_bytes()


def _write(target: Target, streams: Sequence[BinaryIO], records: Records, meta: bytes) -> None:
    """Fill the streams of a target's files."""
    if target.kind == "labels":
        _write_labels(target.format, streams[0], records, meta)
    else:
        _write_vectors(target.format, streams, records, meta)
    if target.format not in _WITH_META_INSIDE and len(streams) == len(target.files()):
        streams[-1].write(meta)


def _write_labels(format_: TargetFormat, stream: BinaryIO, records: Records, meta: bytes) -> None:
    if format_ == "parquet":
        from nasnet_cli.results import parquet

        parquet.write_labels(stream, records.labels(), meta, logits=records.spec.logits)
        return
    writer = open_label_writer(format_, stream, records.model, logits=records.spec.logits)
    for row in records.labels():
        writer.write(row)
    writer.finish(records.summary)


def open_label_writer(
    format_: TargetFormat, stream: BinaryIO, model: Model, *, logits: bool
) -> Writer:
    """Return a writer of labels that writes row by row: any format but parquet."""
    if format_ == "table":
        from nasnet_cli.results.table import TableWriter

        if stream is sys.stdout.buffer:  # of which rich knows whether it is a terminal
            return TableWriter(sys.stdout, logits=logits)
        return TableWriter(cast(TextIO, codecs.getwriter("utf-8")(stream)), logits=logits)
    from nasnet_cli.results.writers import open_writer

    return open_writer(
        cast("Format", format_),
        stream,
        model=model.describe(),
        preprocessing=model.describe_preprocessing(),
        logits=logits,
    )


def _write_vectors(
    format_: TargetFormat, streams: Sequence[BinaryIO], records: Records, meta: bytes
) -> None:
    from nasnet_cli.results import npy, parquet

    shape = npy.Shape(records.summary.ok, records.model.feature_depth, records.spec.dtype)
    if format_ == "parquet":
        parquet.write_vectors(streams[0], records.vectors(), shape, meta)
    elif format_ == "npz":
        npy.write_npz(streams[0], records.vectors, shape, meta)
    else:
        npy.write_npy(streams[0], records.vectors(), shape)
        npy.write_lines(streams[1], records.vectors())
