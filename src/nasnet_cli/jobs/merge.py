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
from nasnet_cli.jobs.manifest import Manifest
from nasnet_cli.jobs.shards import ShardState, chunks, states
from nasnet_cli.results.records import Summary

# A row of vectors.jsonl that has a vector ends so; rows with an error end in two braces.
_ROW = re.compile(rb'"row": (\d+)\}\n$')
_COUNTED = 10


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
    return Parts(manifest, tuple(done), summary)


def join_lines(parts: Parts, stream: BinaryIO) -> None:
    """JSON lines: one part after the other."""
    for part in parts.files(".jsonl"):
        for chunk in part.chunks():
            stream.write(chunk)


def join_csv(parts: Parts, stream: BinaryIO) -> None:
    """CSV: one part after the other, with the first one's head alone."""
    for number, part in enumerate(parts.files(".csv")):
        is_head = number > 0
        for chunk in part.chunks():
            if is_head:  # a part's first piece holds its head: it is shorter than any piece
                chunk, is_head = chunk[chunk.index(b"\n") + 1 :], False
            stream.write(chunk)


def join_sidecars(parts: Parts, stream: BinaryIO) -> None:
    """The lines beside vectors, with the numbers of the rows in the merged array."""
    rows = 0
    for part in parts.files(".jsonl"):
        for line in part.lines():
            found = _ROW.search(line)
            if found:
                line = line[: found.start(1)] + b"%d}\n" % rows
                rows += 1
            stream.write(line)


def vector_bytes(parts: Parts, header_bytes: int) -> Iterator[bytes]:
    """The numbers of all vectors in order, without the heads of the parts."""
    for part in parts.files(".npy"):
        to_skip = header_bytes
        for chunk in part.chunks():
            yield chunk[to_skip:]
            to_skip = max(0, to_skip - len(chunk))
