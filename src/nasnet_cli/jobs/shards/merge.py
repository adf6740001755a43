"""Merge a job's shards into one file, with the bytes of an unsharded run over the same images.

The shards' rows are copied: nothing is computed again, and memory stays flat. Each part is compared
with the sha256 in its marker while it is read, before the result takes its name.
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
from nasnet_cli.jobs.shards.manifest import DESCRIBED, Manifest
from nasnet_cli.jobs.shards.shard import ShardState, finished_shards
from nasnet_cli.kept_files import open_kept
from nasnet_cli.results.atomic import errors_in_words, open_outputs
from nasnet_cli.results.formats import FormatName, format_by_ending
from nasnet_cli.results.meta import inputs_path, meta_document
from nasnet_cli.results.records import Summary
from nasnet_cli.results.text import shortened

# A row of vectors.jsonl that has a vector ends so; rows with an error end in two braces.
_ROW = re.compile(rb'"row": (\d+)\}\n$')
_LISTED = 10


@dataclass(frozen=True, slots=True)
class Part:
    """An output of a finished shard: its path, and its size in bytes and sha256 by the marker."""

    path: Path
    size: int
    sha256: str

    def chunks(self, *, by_line: bool = False) -> Iterator[bytes]:
        """Yield the bytes in pieces, or line by line.

        Raises NasnetError at the end if the sha256 differs.
        """
        digest, left = hashlib.sha256(), self.size
        try:
            with open_kept(self.path) as stream:
                while part := stream.readline(left) if by_line else stream.read(min(left, 1 << 20)):
                    left -= len(part)
                    digest.update(part)
                    yield part
        except OSError as error:
            raise NasnetError(
                f"{self.path} cannot be read: {error.strerror}.", "Run the job again, then merge."
            ) from error
        if digest.hexdigest() != self.sha256:
            raise NasnetError(
                f"{self.path} is not what was written: its sha256 differs from its marker's.",
                "Remove it and run the job again, then merge.",
            )


@dataclass(frozen=True)
class Parts:
    """The finished shards of a job, in order, and the counts of their rows."""

    manifest: Manifest
    shards: tuple[ShardState, ...]
    summary: Summary

    def files(self, ending: str) -> Iterator[Part]:
        """Yield the outputs with an extension, one of each shard, in order."""
        for shard in self.shards:
            for name, listed in (shard.outputs or {}).items():
                if name.endswith(ending):
                    yield Part(self.manifest.out / name, listed["bytes"], listed["sha256"])


def finished_parts(manifest: Manifest, *, partial: bool) -> Parts:
    """Return the parts to merge. Raises NasnetError when shards are not done, unless partial."""
    done, missing, summary = finished_shards(manifest)
    if missing and not partial:
        noun = "shard" if len(missing) == 1 else "shards"
        raise NasnetError(
            f"{len(missing):,} of {manifest.shards:,} shards of {manifest.out} are not done: "
            f"{noun} {shortened(missing, _LISTED)}.",
            "Run the job again to finish it, or merge the finished shards with --partial.",
        )
    if not done:
        raise NasnetError(f"No shard of {manifest.out} is done.", "Run the job, then merge.")
    return Parts(manifest, tuple(done), summary)


def merge(parts: Parts, out: Path, *, overwrite: bool) -> None:
    """Merge the parts into the file out, with its companions.

    Raises NasnetError where out has the extension of another format, a part is damaged, or out
    exists or cannot be written.
    """
    ((kind, format_),) = parts.manifest.formats.items()
    target = Target(kind, format_, out)
    _check_ending(target, parts)
    prepare([target], overwrite=overwrite, with_meta=True)
    meta = meta_document(
        **{name: parts.manifest.work[name] for name in DESCRIBED}, summary=parts.summary.counts()
    )
    with errors_in_words(out):  # the record of another output in its place
        inputs_path(out).unlink(missing_ok=True)
    with open_outputs(*target.files(), overwrite=overwrite) as (stream, *beside):
        if format_ == "parquet":
            _join_parquet(parts, stream, meta)
            return
        beside[-1].write(meta)
        if format_ == "npy":
            _join_vectors(parts, stream)
            _join_sidecars(parts, beside[0])
        else:
            _join_text(parts, stream, format_)


def _check_ending(target: Target, parts: Parts) -> None:
    is_named = format_by_ending(target.path) is not None
    if target.path.suffix.lower() != f".{target.format}" and (is_named or target.format == "npy"):
        raise NasnetError(
            f"The shards of {parts.manifest.out} are {target.format}, but the name of {target.path} "
            f"does not end in .{target.format}.",
            f"Give FILE the extension .{target.format}.",
        )


def _join_text(parts: Parts, stream: BinaryIO, format_: FormatName) -> None:
    """Join the rows of all parts; in CSV, below the header of the first."""
    for number, part in enumerate(parts.files(f".{format_}")):
        has_header = format_ == "csv" and number > 0
        for chunk in part.chunks():
            if has_header:  # whole in the first piece: it is shorter than any piece
                chunk, has_header = chunk[chunk.index(b"\n") + 1 :], False
            stream.write(chunk)


def _join_vectors(parts: Parts, stream: BinaryIO) -> None:
    """Join the numbers of all parts, after a header that counts them all."""
    from nasnet_cli.results.npy import NPY_HEAD_BYTES, Shape, npy_head, npy_shape

    is_first = True
    for part in parts.files(".npy"):
        head = b""
        for chunk in part.chunks():
            if len(head) < NPY_HEAD_BYTES:  # whole in the first piece
                head, chunk = chunk[:NPY_HEAD_BYTES], chunk[NPY_HEAD_BYTES:]
                if is_first:
                    shape = npy_shape(head)
                    stream.write(npy_head(Shape(parts.summary.ok, shape.depth, shape.dtype)))
                    is_first = False
            stream.write(chunk)


def _join_sidecars(parts: Parts, stream: BinaryIO) -> None:
    """Join the lines beside vectors, with the numbers of the rows in the merged array."""
    rows = 0
    for part in parts.files(".jsonl"):
        for line in part.chunks(by_line=True):
            if match := _ROW.search(line):
                line = line[: match.start(1)] + b"%d}\n" % rows
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
