"""One file of a job's shards, with the bytes that one run over the same pictures would write.

The shards' rows are taken as they are: nothing is computed again, and memory stays flat. Each part
is compared with the sha256 in its marker while it is read, before the result takes its name.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from nasnet_cli.errors import NasnetError
from nasnet_cli.jobs.outputs import Target, prepare
from nasnet_cli.jobs.shards.manifest import Manifest
from nasnet_cli.jobs.shards.shard import ShardState, chunks, states
from nasnet_cli.results.atomic import open_outputs
from nasnet_cli.results.meta import meta_document
from nasnet_cli.results.records import Summary

# A row of vectors.jsonl that has a vector ends so; rows with an error end in two braces.
_ROW = re.compile(rb'"row": (\d+)\}\n$')
_COUNTED = 10
_ENDINGS = (".jsonl", ".ndjson", ".json", ".csv", ".npy", ".npz", ".parquet")
# What OUT.meta.json says, beside the counts.
_DESCRIBED = ("tool", "runtime", "model", "preprocessing", "options")


@dataclass(frozen=True, slots=True)
class Part:
    """An output of a finished shard: its path, and the sha256 that its marker gives it."""

    path: Path
    sha256: str

    def chunks(self) -> Iterator[bytes]:
        """The bytes in pieces. Raises NasnetError at the end when they aren't what was written."""
        digest = hashlib.sha256()
        try:
            for chunk in chunks(self.path):
                digest.update(chunk)
                yield chunk
        except OSError as error:
            raise NasnetError(
                f"{self.path} cannot be read: {error.strerror}.", "Run the job again, then merge."
            ) from error
        if digest.hexdigest() != self.sha256:
            raise NasnetError(
                f"{self.path} is not what was written: its sha256 isn't its marker's.",
                "Remove it and run the job again, then merge.",
            )

    def lines(self) -> Iterator[bytes]:
        """The same as lines, with their ends."""
        rest = b""
        for chunk in self.chunks():
            *whole, rest = (rest + chunk).split(b"\n")
            yield from (line + b"\n" for line in whole)
        if rest:
            yield rest


@dataclass(frozen=True)
class Parts:
    """The finished shards of a job, in order, and the counts of their rows."""

    manifest: Manifest
    shards: tuple[ShardState, ...]
    summary: Summary

    def files(self, ending: str) -> Iterator[Part]:
        """The outputs of that ending, one of each shard, in order."""
        for shard in self.shards:
            for name, said in (shard.outputs or {}).items():
                if name.endswith(ending):
                    yield Part(self.manifest.out / name, said["sha256"])


def finished_parts(manifest: Manifest, *, partial: bool) -> Parts:
    """What there is to merge. Raises NasnetError when shards aren't done, unless partial."""
    done: list[ShardState] = []
    missing: list[int] = []
    summary = Summary(passed_over=manifest.passed_over)
    for found in states(manifest):
        if found.state != "done":
            missing.append(found.shard)
            continue
        done.append(found)
        counts = found.counts or {}
        summary.inputs += counts.get("inputs", 0)
        summary.ok += counts.get("ok", 0)
        summary.failed += counts.get("failed", 0)
    if missing and not partial:
        some = ", ".join(map(str, missing[:_COUNTED]))
        more = f" and {len(missing) - _COUNTED:,} more" if len(missing) > _COUNTED else ""
        word = "shard" if len(missing) == 1 else "shards"
        raise NasnetError(
            f"{len(missing):,} of {manifest.shards:,} shards of {manifest.out} are not done: "
            f"{word} {some}{more}.",
            "Run the job again to finish it, or merge what there is with --partial.",
        )
    if not done:
        raise NasnetError(f"No shard of {manifest.out} is done.", "Run the job, then merge.")
    return Parts(manifest, tuple(done), summary)


def merge(parts: Parts, out: Path, *, overwrite: bool) -> None:
    """Makes the file out of the parts, with what belongs beside it.

    Raises NasnetError: where out's name is that of another format, a part isn't what was written,
    out is there already or can't be written.
    """
    ((kind, format_),) = parts.manifest.work["formats"].items()
    target = Target(kind, format_, out)
    _check_ending(target, parts)
    prepare([target], overwrite=overwrite, with_meta=True)
    meta = meta_document(
        **{name: parts.manifest.work[name] for name in _DESCRIBED}, summary=parts.summary.counts()
    )
    with open_outputs(*target.files(), overwrite=overwrite) as (stream, *beside):
        if format_ == "parquet":
            _join_parquet(parts, stream, meta)
            return
        beside[-1].write(meta)
        if format_ == "npy":
            _join_vectors(parts, stream)
            _join_sidecars(parts, beside[0])
        elif format_ == "csv":
            _join_csv(parts, stream)
        else:
            _join_lines(parts, stream)


def _check_ending(target: Target, parts: Parts) -> None:
    ending = target.path.suffix.lower()
    if ending != f".{target.format}" and (ending in _ENDINGS or target.format == "npy"):
        raise NasnetError(
            f"The shards of {parts.manifest.out} are {target.format}, which {target.path} doesn't "
            "end in.",
            f"Give FILE the ending .{target.format}.",
        )


def _join_lines(parts: Parts, stream: BinaryIO) -> None:
    for part in parts.files(".jsonl"):
        for chunk in part.chunks():
            stream.write(chunk)


def _join_csv(parts: Parts, stream: BinaryIO) -> None:
    """With the first part's head alone."""
    for number, part in enumerate(parts.files(".csv")):
        is_head = number > 0
        for chunk in part.chunks():
            if is_head:  # a part's first piece holds its head: it is shorter than any piece
                chunk, is_head = chunk[chunk.index(b"\n") + 1 :], False
            stream.write(chunk)


def _join_vectors(parts: Parts, stream: BinaryIO) -> None:
    """The numbers of all parts, after a head that counts them all."""
    from nasnet_cli.results.npy import NPY_HEAD_BYTES, Shape, npy_head, npy_shape

    is_first = True
    for part in parts.files(".npy"):
        head = b""
        for chunk in part.chunks():
            if len(head) < NPY_HEAD_BYTES:  # all of it is in the first piece
                head, chunk = chunk[:NPY_HEAD_BYTES], chunk[NPY_HEAD_BYTES:]
                if is_first:
                    shape = npy_shape(head)
                    stream.write(npy_head(Shape(parts.summary.ok, shape.depth, shape.dtype)))
                    is_first = False
            stream.write(chunk)


def _join_sidecars(parts: Parts, stream: BinaryIO) -> None:
    """The lines beside vectors, with the numbers of the rows in the merged array."""
    rows = 0
    for part in parts.files(".jsonl"):
        for line in part.lines():
            found = _ROW.search(line)
            if found:
                line = line[: found.start(1)] + b"%d}\n" % rows
                rows += 1
            stream.write(line)


def _join_parquet(parts: Parts, stream: BinaryIO, meta: bytes) -> None:
    from nasnet_cli.results.parquet import join

    def paths() -> Iterator[Path]:
        for part in parts.files(".parquet"):
            for _ in part.chunks():  # compares the sha256
                pass
            yield part.path

    join(stream, paths(), meta)
