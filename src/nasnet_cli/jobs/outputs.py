"""The outputs of a job: its targets, and the files that are made of its rows."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nasnet_cli.errors import OutputError
from nasnet_cli.jobs.rows import Row, classified_rows, embedded_rows
from nasnet_cli.jobs.spec import JobSpec, Kind, check_same_settings
from nasnet_cli.results.atomic import check_free, is_direct, open_outputs, remove_leftovers
from nasnet_cli.results.formats import FORMATS, FormatName, Results
from nasnet_cli.results.meta import META_SUFFIX, meta_document
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
    """The rows of a job, in order, as often as they are asked for."""

    rows: Callable[[], Iterator[Row]]
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
        return classified_rows(self.rows(), self.spec, self.model)

    def _vectors(self) -> Iterator[Embedded]:
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
    names = [path for group in files for path in group]
    for path in names:
        remove_leftovers(path)
    with open_outputs(*names, overwrite=overwrite) as opened:
        streams = iter(opened)
        for target, names_of_target in zip(targets, files, strict=True):
            own = [next(streams) for _ in names_of_target]
            format_ = FORMATS[target.format]
            if with_meta and not format_.holds_meta:
                own.pop().write(meta)
            format_.write(records.results(target.kind, meta), own)


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
        if not with_meta and not FORMATS[target.format].holds_meta:
            return None
        try:
            meta = json.loads(FORMATS[target.format].read_meta(target.path))
            summary = Summary(**meta.pop("summary"))
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise OutputError(
                f"{target.path} does not say how it was made.",
                "Use --overwrite to replace it, or name another file.",
            ) from error
        check_same_settings(meta, identity, str(target.path))
    return summary
