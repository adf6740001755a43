"""One shard of a job: how it is run, its files, and the marker that says it is done.

A shard's outputs (shard-00007.jsonl and the like) are published by rename, and after them its
marker, shard-00007.json. The shard is done when the marker is there and matches its slice of the
manifest, the work, and the sizes of the outputs (on request their sha256 too). Running a shard
again gives the same names and bytes, so two that run it at once do no harm.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import stat
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from nasnet_cli.errors import ERROR_KINDS, NasnetError
from nasnet_cli.jobs.outputs import Target
from nasnet_cli.jobs.run import SILENT, Reporter, run_to_files
from nasnet_cli.jobs.shards.manifest import (
    DESCRIBED,
    Manifest,
    check_same_work,
    describe_work,
)
from nasnet_cli.jobs.shards.slices import Slice
from nasnet_cli.jobs.state_errors import BrokenStateError
from nasnet_cli.jobs.state_file import state_path
from nasnet_cli.kept_files import check_fields, open_kept, parse_object, read_kept
from nasnet_cli.results.atomic import errors_in_words, open_output
from nasnet_cli.results.records import Summary
from nasnet_cli.systems import temporary_folder

if TYPE_CHECKING:
    from nasnet_cli.images.source import Source
    from nasnet_cli.jobs.spec import JobSpec, Kind, RunOptions
    from nasnet_cli.model import Model
    from nasnet_cli.results.formats import FormatName

MARKER_VERSION = 2
"""Of the marker, and of the pixels that decoding gives."""
State = Literal["done", "failed", "missing"]

_MARKER = {
    "version": int, "slice": str, "counts": dict, "errors": dict, "outputs": dict, "work": str,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class ShardState:
    """The state of a shard. counts are those of its marker; why says what is wrong."""

    shard: int
    images: int
    state: State
    why: str = ""
    counts: Summary | None = None
    outputs: Mapping[str, Mapping[str, Any]] | None = None


class ShardRunner:
    """A runner for the shards of a job, with one model.

    spec comes from the command that runs the job: the manifest, which lies in a folder that others
    may write to, is only compared with it.
    in_place keeps the finished rows of a shard beside its outputs and resumes there. Otherwise a
    shard is written to this machine's temporary folder (TMPDIR) and copied when it is whole, so
    that a folder that machines share sees plain writes and renames only. The model is opened here
    unless it is given. Raises NasnetError when results would not be the same here: another version,
    model or instruction set.
    """

    def __init__(
        self,
        manifest: Manifest,
        spec: JobSpec,
        options: RunOptions,
        *,
        model: Model | None = None,
        reporter: Reporter = SILENT,
        in_place: bool = True,
    ) -> None:
        self._spec = spec
        self._formats = manifest.formats
        self._options = options._replace(overwrite=True, with_meta=False)
        self._model = model or self._spec.open_model()
        self._reporter = reporter
        self._in_place = in_place
        check_same_work(manifest, describe_work(self._spec, self._model, self._formats))

    def run(self, manifest: Manifest, shard: int) -> Summary:
        """Run a shard, publish its outputs and then its marker, and return the counts.

        Raises NasnetError, and leaves no marker then.
        """
        piece = manifest.slice(shard)
        sources = manifest.sources(shard, max_bytes=self._spec.max_bytes)
        marker_path = _marker_path(manifest.out, shard)
        # A marker must not stand for outputs that are being replaced.
        with errors_in_words(marker_path):
            marker_path.unlink(missing_ok=True)
        base = manifest.out / shard_name(shard)
        self._remove_links(base)
        counts, outputs = self._write(sources, base)
        if counts.inputs != piece.images:
            raise NasnetError(
                f"Shard {shard} of {manifest.out} has {piece.images:,} images, of which "
                f"{counts.inputs:,} were processed.",
                "Run again.",
            )
        _write_marker(manifest, piece, counts, outputs)
        with suppress(OSError):
            _failure_path(manifest.out, shard).unlink(missing_ok=True)
        return counts

    def _remove_links(self, base: Path) -> None:
        """Remove links in the place of outputs: writing would replace what they lead to."""
        for kind, format_ in self._formats.items():
            for path in _target(kind, format_, base).files(with_meta=False):
                with errors_in_words(path):
                    if path.is_symlink():
                        path.unlink()

    def _write(self, sources: Iterator[Source], base: Path) -> tuple[Summary, list[Path]]:
        """Write the outputs of a shard, whose names are base with an extension."""
        if self._in_place:
            return self._write_here(sources, base)
        with temporary_folder() as folder:
            counts, files = self._write_here(sources, folder / base.name)
            return counts, [_copy(path, base.with_name(path.name)) for path in files]

    def _write_here(self, sources: Iterator[Source], base: Path) -> tuple[Summary, list[Path]]:
        targets = [_target(kind, format_, base) for kind, format_ in self._formats.items()]
        state = state_path(targets[0].path)
        # Only with a state: an output that exists may be of images that have changed.
        options = self._options._replace(resume=state.exists())
        try:
            counts = run_to_files(
                self._spec, self._model, sources, targets, options, self._reporter
            )
        except BrokenStateError as error:
            state.unlink(missing_ok=True)
            raise NasnetError(
                f"The resume state of {base} was damaged and has been removed.", "Run again."
            ) from error
        return counts, [path for target in targets for path in target.files(with_meta=False)]


def shard_name(shard: int) -> str:
    """Return the beginning of the names of a shard's files."""
    return f"shard-{shard:05d}"


def record_failure(manifest: Manifest, shard: int, why: str) -> None:
    """Record for `nasnet status` why a shard failed, as far as that can be written."""
    path = _failure_path(manifest.out, shard)
    with suppress(NasnetError), open_output(path, overwrite=True) as stream:
        stream.write((json.dumps({"shard": shard, "why": why}) + "\n").encode())


def states(manifest: Manifest, *, verify: bool = False) -> Iterator[ShardState]:
    """Yield the state of each shard, in order. verify compares the sha256 of all outputs."""
    digest = _work_digest(manifest.work)
    for piece in manifest.slices():
        yield _state(manifest, piece, digest, verify)


def finished_shards(manifest: Manifest) -> tuple[list[ShardState], list[int], Summary]:
    """Return the finished shards, the numbers of the others, and the counts of the finished."""
    done, missing, summary = [], [], Summary(passed_over=manifest.passed_over)
    for shard in states(manifest):
        if shard.counts is None:
            missing.append(shard.shard)
        else:
            done.append(shard)
            summary.add(shard.counts)
    return done, missing, summary


def _write_marker(manifest: Manifest, piece: Slice, counts: Summary, outputs: list[Path]) -> None:
    marker = {
        "format": "nasnet-shard",
        "version": MARKER_VERSION,
        "shard": piece.shard,
        "first": piece.first,
        "pictures": piece.images,
        "slice": piece.sha256,
        "counts": counts.rows(),
        "errors": counts.errors,
        "outputs": {path.name: _digest(path) for path in sorted(outputs)},
        "work": _work_digest(manifest.work),
        **{name: manifest.work[name] for name in DESCRIBED},
    }
    with open_output(_marker_path(manifest.out, piece.shard), overwrite=True) as stream:
        stream.write((json.dumps(marker, indent=1) + "\n").encode())


def _state(manifest: Manifest, piece: Slice, work: str, verify: bool) -> ShardState:
    out = manifest.out
    try:
        marker = parse_object(read_kept(_marker_path(out, piece.shard)), _MARKER)
        outputs = _listed(marker["outputs"], manifest.formats, piece.shard)
        counts = _counts(marker)
    except FileNotFoundError:
        why = _failure(out, piece.shard)
        return ShardState(piece.shard, piece.images, "failed" if why else "missing", why)
    except (OSError, ValueError):
        return ShardState(piece.shard, piece.images, "missing", "its marker is damaged")
    if marker["version"] != MARKER_VERSION:
        why = "its marker is of another version"
    elif marker["slice"] != piece.sha256:
        why = "its images have changed"
    elif marker["work"] != work:
        why = "it was run with another model, options or version"
    else:
        why = _wrong_outputs(out, outputs, verify)
    if why:
        return ShardState(piece.shard, piece.images, "missing", why)
    return ShardState(piece.shard, piece.images, "done", "", counts, outputs)


def _counts(marker: dict[str, Any]) -> Summary:
    """Return the counts of a marker. Raises ValueError where they do not add up."""
    counts = Summary.from_counts(marker["counts"])
    errors = check_fields(marker["errors"], dict.fromkeys(marker["errors"], int))
    counts.errors = Counter({kind: errors[kind] for kind in ERROR_KINDS if kind in errors})
    if counts.errors.total() != counts.failed:
        raise ValueError("its errors do not add up")
    return counts


def _listed(
    outputs: dict[str, Any], formats: Mapping[Kind, FormatName], shard: int
) -> dict[str, dict[str, Any]]:
    """Return a marker's outputs. Raises ValueError unless they are this shard's files."""
    base = Path(shard_name(shard))
    targets = [_target(kind, format_, base) for kind, format_ in formats.items()]
    expected = {path.name for target in targets for path in target.files(with_meta=False)}
    if outputs.keys() != expected:
        raise ValueError("its outputs are not those of the shard")
    return {
        name: check_fields(listed, {"bytes": int, "sha256": str})
        for name, listed in outputs.items()
    }


def _target(kind: Kind, format_: FormatName, base: Path) -> Target:
    return Target(kind, format_, Path(f"{base}.{format_}"))


def _wrong_outputs(out: Path, outputs: Mapping[str, Mapping[str, Any]], verify: bool) -> str:
    """Return what is wrong with the outputs that a marker lists; empty if nothing is."""
    for name, listed in outputs.items():
        try:
            status = (out / name).lstat()
            if not stat.S_ISREG(status.st_mode):
                return f"{name} is not a file"
            if status.st_size != listed["bytes"]:
                return f"{name} has not the size that its marker says"
            if verify and _sha256(out / name) != listed["sha256"]:
                return f"{name} is not what was written"
        except FileNotFoundError:
            return f"{name} is gone"
        except OSError as error:
            return f"{name} cannot be read: {error.strerror}"
    return ""


def _failure(out: Path, shard: int) -> str:
    try:
        why: str = parse_object(read_kept(_failure_path(out, shard)), {"why": str})["why"]
        return why
    except (OSError, ValueError):
        return ""


def _digest(path: Path) -> dict[str, Any]:
    try:
        return {"bytes": path.stat().st_size, "sha256": _sha256(path)}
    except OSError as error:
        raise NasnetError(
            f"{path} was written and cannot be read: {error.strerror}.",
            "Check the folder, and run again.",
        ) from error


def _sha256(path: Path) -> str:
    with open_kept(path) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _work_digest(work: Mapping[str, Any]) -> str:
    """Return a digest that tells one job's work from another's."""
    return hashlib.sha256(json.dumps(work, sort_keys=True).encode()).hexdigest()


def _copy(path: Path, target: Path) -> Path:
    with path.open("rb") as stream, open_output(target, overwrite=True) as copy:
        shutil.copyfileobj(stream, copy, 1 << 20)
    return target


def _marker_path(out: Path, shard: int) -> Path:
    return out / f"{shard_name(shard)}.json"


def _failure_path(out: Path, shard: int) -> Path:
    return out / f"{shard_name(shard)}.failed.json"
