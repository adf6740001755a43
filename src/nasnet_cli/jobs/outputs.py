"""What a job writes: its targets, the rows of its state, and the files that are made of them."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, cast

from nasnet_cli.errors import OutputError
from nasnet_cli.jobs.spec import JobSpec, Kind
from nasnet_cli.jobs.state import Row, check_same_settings
from nasnet_cli.results.atomic import check_free, is_direct, open_outputs, remove_leftovers
from nasnet_cli.results.meta import META_SUFFIX, meta_document, meta_path
from nasnet_cli.results.records import Classified, Embedded, Summary

if TYPE_CHECKING:
    from nasnet_cli.model import Model
    from nasnet_cli.pipeline import Result
    from nasnet_cli.results.writers import Format

TargetFormat = Literal["jsonl", "json", "csv", "table", "parquet", "npy", "npz"]

# Formats that hold what is in OUT.meta.json themselves.
_WITH_META_INSIDE = ("parquet", "npz")


@dataclass(frozen=True)
class Target:
    """Something to write: a kind of results, in a format, to the file path.

    Labels come as jsonl, json, csv, table or parquet, vectors as npy, npz or parquet.
    """

    kind: Kind
    format: TargetFormat
    path: Path

    def files(self, *, with_meta: bool = True) -> tuple[Path, ...]:
        """The file and those that belong to it: the lines beside a .npy, and OUT.meta.json."""
        files = [self.path]
        if self.format == "npy":
            files.append(self.path.with_suffix(".jsonl"))
        if with_meta and self.format not in _WITH_META_INSIDE:
            files.append(meta_path(self.path))
        return tuple(files)


def encode(result: Result[Any], work: JobSpec) -> Row:
    """A model's result as a row of a job's state.

    Packed labels are BEST (results/top.py) for each rank; a packed vector is its numbers in the
    work's type.
    """
    from nasnet_cli.results.from_model import failure, of_unit_length

    path = result.source.path
    if result.outputs is None:
        return Row(path, failure(result))
    labels = vector = b""
    if "labels" in work.results:
        best = result.outputs["best"]
        kept = best[best["probability"] >= work.threshold]
        if not work.logits:
            kept["output"] = 0.0
        labels = kept.tobytes()
    if "vectors" in work.results:
        from nasnet_cli.results.npy import numbers_of

        numbers = result.outputs["features"]
        if work.normalize:
            numbers = of_unit_length(numbers)
        vector = numbers.astype(numbers_of(work.dtype), copy=False).tobytes()
    return Row(path, None, labels, vector)


@dataclass(frozen=True)
class Records:
    """The finished rows of a job as records, in order, as often as they are asked for."""

    rows: Callable[[], Iterator[Row]]
    summary: Summary
    work: JobSpec
    model: Model

    def labels(self) -> Iterator[Classified]:
        """What was found for each input."""
        import numpy as np

        from nasnet_cli.results.topk import BEST, predictions

        labels, logits = self.model.labels, self.work.logits
        for row in self.rows():
            if row.error is not None:
                yield Classified(row.path, None, row.error)
            else:
                best = np.frombuffer(row.labels, BEST)
                yield Classified(row.path, predictions(best, labels, with_logits=logits))

    def vectors(self) -> Iterator[Embedded]:
        """The vector of each input, in the work's type."""
        import numpy as np

        from nasnet_cli.results.npy import numbers_of

        numbers = numbers_of(self.work.dtype)
        for row in self.rows():
            if row.error is not None:
                yield Embedded(row.path, None, row.error)
            else:
                yield Embedded(row.path, np.frombuffer(row.vector, numbers))


def prepare(targets: Sequence[Target], *, overwrite: bool, with_meta: bool) -> None:
    """Raises NasnetError when the targets can't be written: before hours of work, not after."""
    seen: set[Path] = set()
    for target in targets:
        if target.format == "parquet":
            from nasnet_cli.results.parquet import require

            require()
        if is_direct(target.path):
            raise OutputError(
                f"{target.path} is a pipe or a device, where {target.format} can't be written.",
                "Name a file.",
            )
        for path in target.files(with_meta=with_meta):
            if path.resolve() in seen:
                raise OutputError(
                    f"Two of the outputs would be written to {path}.",
                    "Give one of them another name.",
                )
            seen.add(path.resolve())
            # A description whose result is gone stands in no one's way.
            check_free(str(path), overwrite or path.name.endswith(META_SUFFIX))


def publish(
    targets: Sequence[Target], records: Records, *, overwrite: bool, with_meta: bool
) -> None:
    """Writes all files of the targets, and gives them their names when all are on disk.

    Raises OutputError, and leaves none of them then.
    """
    files = [target.files(with_meta=with_meta) for target in targets]
    meta = meta_document(**records.work.identity(records.model), summary=records.summary.counts())
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
    """The summary of a run that has made the targets already; None when a file is missing.

    Raises NasnetError when they are another job's, or don't say whose.
    """
    if not all(path.exists() for t in targets for path in t.files(with_meta=with_meta)):
        return None
    summary = None
    for target in targets:
        if not with_meta and target.format not in _WITH_META_INSIDE:
            return None
        try:
            meta = json.loads(_meta_of(target))
            summary = Summary(**meta.pop("summary"))
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise OutputError(
                f"{target.path} doesn't say what it was made with.",
                "Use --overwrite to replace it, or name another file.",
            ) from error
        check_same_settings(meta, identity, str(target.path))
    return summary


def _meta_of(target: Target) -> bytes:
    """What stands in or beside an output. Raises OSError, ValueError or KeyError."""
    if target.format == "parquet":
        from nasnet_cli.results.parquet import read_meta

        return read_meta(target.path)
    if target.format == "npz":
        from nasnet_cli.results.npy import read_npz_meta

        return read_npz_meta(target.path)
    return meta_path(target.path).read_bytes()


def _write(target: Target, streams: Sequence[BinaryIO], records: Records, meta: bytes) -> None:
    """Fills the streams of a target's files."""
    if target.kind == "labels":
        _write_labels(target.format, streams[0], records, meta)
    else:
        _write_vectors(target.format, streams, records, meta)
    if target.format not in _WITH_META_INSIDE and len(streams) == len(target.files()):
        streams[-1].write(meta)


def _write_labels(format_: TargetFormat, stream: BinaryIO, records: Records, meta: bytes) -> None:
    logits = records.work.logits
    if format_ == "parquet":
        from nasnet_cli.results import parquet

        parquet.write_labels(stream, records.labels(), meta, logits=logits)
        return
    if format_ == "table":
        from nasnet_cli.results.table import TableWriter

        text = io.TextIOWrapper(stream, "utf-8", write_through=True)
        table = TableWriter(text, logits=logits)
        for row in records.labels():
            table.write(row)
        text.detach()  # or the stream would be closed with it
        return
    from nasnet_cli.results.writers import open_writer

    writer = open_writer(
        cast("Format", format_),
        stream,
        model=records.model.describe(),
        preprocessing=records.model.describe_preprocessing(),
        logits=logits,
    )
    for row in records.labels():
        writer.write(row)
    writer.finish(records.summary)


def _write_vectors(
    format_: TargetFormat, streams: Sequence[BinaryIO], records: Records, meta: bytes
) -> None:
    from nasnet_cli.results import npy, parquet

    shape = npy.Shape(records.summary.ok, records.model.feature_depth, records.work.dtype)
    if format_ == "parquet":
        parquet.write_vectors(streams[0], records.vectors(), shape, meta)
    elif format_ == "npz":
        npy.write_npz(streams[0], records.vectors, shape, meta)
    else:
        npy.write_npy(streams[0], records.vectors(), shape)
        npy.write_lines(streams[1], records.vectors())
