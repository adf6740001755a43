"""One shard of a job: its files, the marker that makes it done, and doing it.

A shard's outputs (shard-00007.jsonl and the like) are published by rename, and after them its
marker, shard-00007.json. The shard is done when the marker is there and matches: its slice of the
manifest, the work, and the sizes of the outputs (their sha256 too, when asked). Doing a shard again
gives the same names and bytes, so two who do one at once do no harm.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from nasnet_cli.errors import NasnetError
from nasnet_cli.images.source import Source
from nasnet_cli.jobs.shards.manifest import Manifest, Slice
from nasnet_cli.results.atomic import in_words, open_output

MARKER_VERSION = 1
State = Literal["done", "failed", "missing"]

ShardRunner = Callable[[Iterator[Source], Path], tuple[Mapping[str, int], list[Path]]]
"""Does pictures into files whose names begin like the path (which has no ending); gives the counts
and the files, all of them published."""


@dataclass(frozen=True, slots=True)
class ShardState:
    """What is known of a shard. counts are those of its marker; why says what is wrong."""

    shard: int
    pictures: int
    state: State
    why: str = ""
    counts: Mapping[str, int] | None = None
    outputs: Mapping[str, Mapping[str, Any]] | None = None


def shard_name(shard: int) -> str:
    """What the names of a shard's files begin with."""
    return f"shard-{shard:05d}"


def work_digest(work: Mapping[str, Any]) -> str:
    """Tells one job's work from another's."""
    return hashlib.sha256(json.dumps(work, sort_keys=True).encode()).hexdigest()


def run_shard(manifest: Manifest, shard: int, do: ShardRunner) -> Mapping[str, int]:
    """Does a shard and publishes its outputs and then its marker. Gives the counts.

    Raises NasnetError, and leaves no marker then.
    """
    piece = manifest.slice(shard)
    sources = manifest.sources(shard, max_bytes=manifest.work["options"]["max_bytes"])
    marker_path = _marker_path(manifest.out, shard)
    try:
        # A marker must not stand for outputs that are being replaced.
        marker_path.unlink(missing_ok=True)
    except OSError as error:
        raise in_words(str(marker_path), error) from error
    counts, outputs = do(sources, manifest.out / shard_name(shard))
    if counts["inputs"] != piece.pictures:
        raise NasnetError(
            f"Shard {shard} of {manifest.out} has {piece.pictures:,} pictures, and "
            f"{counts['inputs']:,} were done.",
            "Run again.",
        )
    marker = {
        "format": "nasnet-shard",
        "version": MARKER_VERSION,
        "shard": shard,
        "first": piece.first,
        "pictures": piece.pictures,
        "slice": piece.sha256,
        "counts": dict(counts),
        "outputs": {path.name: _digest(path) for path in sorted(outputs)},
        "work": work_digest(manifest.work),
        **{name: manifest.work[name] for name in _SHOWN},
    }
    with open_output(marker_path, overwrite=True) as stream:
        stream.write((json.dumps(marker, indent=1) + "\n").encode())
    with suppress(OSError):
        _failure_path(manifest.out, shard).unlink(missing_ok=True)
    return counts


# What of the work stands in each marker too: who sees only the shard knows what made it.
_SHOWN = ("tool", "runtime", "model", "preprocessing", "options")


def record_failure(manifest: Manifest, shard: int, why: str) -> None:
    """Leaves word of why a shard couldn't be done, for status; as far as that can be written."""
    path = _failure_path(manifest.out, shard)
    with suppress(NasnetError), open_output(path, overwrite=True) as stream:
        stream.write((json.dumps({"shard": shard, "why": why}) + "\n").encode())


def states(manifest: Manifest, *, verify: bool = False) -> Iterator[ShardState]:
    """What is known of each shard, in order. verify reads all outputs and compares their sha256."""
    digest = work_digest(manifest.work)
    for piece in manifest.slices():
        yield _state(manifest.out, piece, digest, verify)


def digest_of(stream: Iterator[bytes]) -> str:
    """The sha256 of bytes that come in pieces, in hexadecimal."""
    digest = hashlib.sha256()
    for chunk in stream:
        digest.update(chunk)
    return digest.hexdigest()


def chunks(path: Path) -> Iterator[bytes]:
    """A file's bytes in pieces of a mebibyte."""
    with path.open("rb") as stream:
        while chunk := stream.read(1 << 20):
            yield chunk


def _state(out: Path, piece: Slice, work: str, verify: bool) -> ShardState:
    try:
        marker = json.loads(_marker_path(out, piece.shard).read_bytes())
        version, slice_digest = marker["version"], marker["slice"]
        outputs, counts = dict(marker["outputs"]), dict(marker["counts"])
        its_work = marker["work"]
    except FileNotFoundError:
        why = _failure(out, piece.shard)
        return ShardState(piece.shard, piece.pictures, "failed" if why else "missing", why)
    except (OSError, ValueError, KeyError, TypeError):
        return ShardState(piece.shard, piece.pictures, "missing", "its marker is damaged")
    why = ""
    if version != MARKER_VERSION:
        why = "its marker is of another version"
    elif slice_digest != piece.sha256:
        why = "its pictures have changed"
    elif its_work != work:
        why = "it was done with another model, options or version"
    else:
        why = _wrong_outputs(out, outputs, verify)
    if why:
        return ShardState(piece.shard, piece.pictures, "missing", why)
    return ShardState(piece.shard, piece.pictures, "done", "", counts, outputs)


def _wrong_outputs(out: Path, outputs: Mapping[str, Mapping[str, Any]], verify: bool) -> str:
    for name, said in outputs.items():
        try:
            if (out / name).stat().st_size != said["bytes"]:
                return f"{name} is not as long as its marker says"
            if verify and digest_of(chunks(out / name)) != said["sha256"]:
                return f"{name} is not what was written"
        except FileNotFoundError:
            return f"{name} is gone"
        except OSError as error:
            return f"{name} cannot be read: {error.strerror}"
    return ""


def _failure(out: Path, shard: int) -> str:
    try:
        return str(json.loads(_failure_path(out, shard).read_bytes())["why"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def _digest(path: Path) -> dict[str, Any]:
    try:
        return {"bytes": path.stat().st_size, "sha256": digest_of(chunks(path))}
    except OSError as error:
        raise NasnetError(
            f"{path} was written and cannot be read: {error.strerror}.",
            "See to the folder, and run again.",
        ) from error


def _marker_path(out: Path, shard: int) -> Path:
    return out / f"{shard_name(shard)}.json"


def _failure_path(out: Path, shard: int) -> Path:
    return out / f"{shard_name(shard)}.failed.json"
