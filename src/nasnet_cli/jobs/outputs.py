"""The outputs of a job: its targets, and the files that are made of its rows."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from nasnet_cli.errors import OutputError
from nasnet_cli.jobs.identity import Identity
from nasnet_cli.jobs.inputs import file_digest, is_record, write_inputs
from nasnet_cli.jobs.rows import Row, classified_rows, embedded_rows
from nasnet_cli.jobs.spec import JobSpec, Kind
from nasnet_cli.results.atomic import StrPath, check_free, is_direct, open_outputs
from nasnet_cli.results.formats import FORMATS, FormatName, Results
from nasnet_cli.results.meta import (
    COMPANION_SUFFIXES,
    INPUTS_SUFFIX,
    SECTIONS,
    inputs_path,
    meta_document,
)
from nasnet_cli.results.records import Classified, Embedded, Summary

if TYPE_CHECKING:
    from nasnet_cli.model import Model


@dataclass(frozen=True)
class Target:
    """An output: a kind of results, in a format (results/formats.py), in the file path."""

    kind: Kind
    format: FormatName
    path: Path

    def files(self, *, with_meta: bool = True) -> tuple[Path, ...]:
        """Return the file and its companions: the lines beside a .npy, and OUT.meta.json."""
        return FORMATS[self.format].files(self.path, with_meta=with_meta)


@dataclass(frozen=True)
class Records:
    """The rows of a job and the keys of their inputs, in order, as often as they are asked for.

    output is what errors about them call the job.
    """

    rows: Callable[[], Iterator[Row]]
    keys: Callable[[], Iterable[bytes]]
    output: str
    identity: Identity
    summary: Summary
    spec: JobSpec
    model: Model

    def results(self, kind: Kind, meta: bytes) -> Results:
        """Return the results of a kind for a file; meta is the content of OUT.meta.json."""
        spec, model = self.spec, self.model
        if kind == "vectors":
            from nasnet_cli.results.npy import Shape

            shape = Shape(self.summary.ok, model.feature_depth, spec.dtype)
            return Results(kind, self._vectors, self.summary, meta, shape=shape)
        return Results(
            kind,
            self._labels,
            self.summary,
            meta,
            head=model.head(),
            logits=spec.logits,
            everyday=model.everyday.is_available,
        )

    def _labels(self) -> Iterator[Classified]:
        with self._damage():
            yield from classified_rows(self.rows(), self.spec, self.model)

    def _vectors(self) -> Iterator[Embedded]:
        depth = self.model.feature_depth
        with self._damage():
            for row in embedded_rows(self.rows(), self.spec):
                if row.vector is not None and len(row.vector) != depth:
                    raise ValueError(f"a vector of {len(row.vector)} numbers, not {depth}")
                yield row

    @contextmanager
    def _damage(self) -> Iterator[None]:
        """Raise BrokenStateError for a row that this job cannot have written."""
        try:
            yield
        except (ValueError, LookupError) as error:
            from nasnet_cli.jobs.state_errors import BrokenStateError  # and SQLite

            raise BrokenStateError(self.output) from error


def output_files(targets: Sequence[Target], *, with_meta: bool) -> tuple[Path, ...]:
    """Return the files of a job's targets, and the record of its inputs where it has one."""
    files = [path for target in targets for path in target.files(with_meta=with_meta)]
    has_record = with_meta and all(FORMATS[target.format].is_readable for target in targets)
    return (*files, *([inputs_path(targets[0].path)] if has_record else []))


def prepare(targets: Sequence[Target], *, overwrite: bool, with_meta: bool) -> None:
    """Raise NasnetError if the targets cannot be written: before hours of work, not after."""
    for target in targets:
        if target.format == "parquet":
            from nasnet_cli.results.parquet import require

            require()
        if is_direct(target.path):
            raise OutputError(
                f"{target.path} is a pipe or a device, which cannot hold {target.format}.",
                "Name a file.",
            )
    files = output_files(targets, with_meta=with_meta)
    check_distinct(files)
    for path in files:
        # What describes a result that is gone is in nobody's way.
        check_free(str(path), overwrite or path.name.endswith(COMPANION_SUFFIXES))
        if path.name.endswith(INPUTS_SUFFIX) and path.exists() and not is_record(path):
            raise OutputError(f"{path} is not a file of nasnet.", "Name another output.")


def check_distinct(names: Iterable[StrPath]) -> None:
    """Raise OutputError if two names are those of one file."""
    seen: set[str] = set()
    for name in names:
        path = os.path.realpath(name)
        if path in seen:
            raise OutputError(
                f"Two outputs would be written to {os.fspath(name)}.",
                "Give one of them another name.",
            )
        seen.add(path)


def publish(
    targets: Sequence[Target],
    records: Records,
    *,
    overwrite: bool,
    with_meta: bool,
    allow: Callable[[Iterable[str]], None],
) -> None:
    """Write all files of the targets, and give them their names when all are on disk.

    allow is called with the SHA-256 of the files before the first takes its name. Raises
    OutputError, and leaves none of them then.
    """
    identity = {name: part for name, part in records.identity.items() if name in SECTIONS}
    meta = meta_document(**identity, summary=records.summary.counts())
    names = output_files(targets, with_meta=with_meta)
    with open_outputs(*names, overwrite=overwrite) as opened:
        streams = iter(opened)
        written = []
        for target in targets:
            own = [next(streams) for _ in target.files(with_meta=with_meta)]
            written += own
            format_ = FORMATS[target.format]
            if with_meta and not format_.holds_meta:
                own.pop().write(meta)
            format_.write(records.results(target.kind, meta), own)
        if not with_meta:
            return
        digests = [_digest(stream) for stream in written]
        allow(digests)
        for stream in streams:
            write_inputs(
                stream,
                records.keys(),
                check=records.identity["run"]["check"],
                formats=records.identity["formats"],
                files=digests,
                rows=records.summary.inputs,
            )


def _digest(stream: BinaryIO) -> str:
    """Return the SHA-256 of an output that is not whole on disk yet."""
    stream.flush()
    return file_digest(stream.raw.name)  # type: ignore[attr-defined]
