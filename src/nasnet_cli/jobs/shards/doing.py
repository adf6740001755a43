"""From a job's description to what does its shards: what every process of a job begins with."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from nasnet_cli.errors import NasnetError
from nasnet_cli.jobs.outputs import Target, TargetFormat
from nasnet_cli.jobs.run import Options, run_to_files
from nasnet_cli.jobs.shards.manifest import Manifest
from nasnet_cli.jobs.shards.shard import ShardRunner
from nasnet_cli.jobs.spec import JobSpec, Kind, differences
from nasnet_cli.jobs.state import state_path
from nasnet_cli.jobs.state_errors import BrokenStateError
from nasnet_cli.results.atomic import open_output

if TYPE_CHECKING:
    from nasnet_cli.images.source import Source
    from nasnet_cli.model import Model

# How the work is asked for. All else in a manifest's work says what the results depend on.
_ASKED = "work"

_OPTIONS = Options()


def describe(work: JobSpec, model: Model, formats: Mapping[Kind, TargetFormat]) -> dict[str, Any]:
    """What a manifest says of the work, as JSON has it. formats are those of the outputs."""
    said = {**work.identity(model), "formats": dict(formats), _ASKED: work.to_dict()}
    found: dict[str, Any] = json.loads(json.dumps(said))
    return found


def check_same_job(manifest: Manifest, described: Mapping[str, Any]) -> None:
    """Raises NasnetError, naming the differences, unless a manifest's work is this one."""
    old, new = dict(manifest.work), dict(described)
    old.pop(_ASKED, None)
    new.pop(_ASKED, None)
    found = list(differences(old, new))
    if found:
        raise NasnetError(
            f"The job in {manifest.out} was begun differently: {'; '.join(found[:3])}.",
            "Run it as it was begun, or name another folder with --out.",
        )


def job_spec_of(manifest: Manifest) -> JobSpec:
    """The work that a manifest is of."""
    return JobSpec.from_dict(manifest.work[_ASKED])


def shard_runner(
    manifest: Manifest,
    *,
    model: Model | None = None,
    options: Options = _OPTIONS,
    in_place: bool = True,
) -> ShardRunner:
    """What does a shard of the job, with its model, which is opened here unless it is given.

    Of options those count that say how pictures are done, and tell. in_place keeps what is
    finished of a shard beside its outputs, and goes on from there the next time. Otherwise a shard
    is made on this machine's own disk (TMPDIR) and copied when it is whole, so that a folder that
    machines share is written to by plain writes and renames alone. Raises NasnetError when results
    wouldn't be the same here: another version, model or set of instructions.
    """
    work = job_spec_of(manifest)
    formats: dict[Kind, TargetFormat] = manifest.work["formats"]
    model = model or work.open_model()
    check_same_job(manifest, describe(work, model, formats))

    def make(sources: Iterator[Source], base: Path) -> tuple[Mapping[str, int], list[Path]]:
        targets = [Target(kind, form, Path(f"{base}.{form}")) for kind, form in formats.items()]
        state = state_path(targets[0].path)
        # Not without a state: an output that is there may be of pictures that have changed.
        resume = state.exists()
        own = replace(options, resume=resume, overwrite=True, with_meta=False)
        try:
            summary = run_to_files(work, model, sources, targets, own)
        except BrokenStateError as error:
            state.unlink(missing_ok=True)
            raise NasnetError(
                f"What was kept of {base} is damaged, and has been removed.", "Run again."
            ) from error
        counts = {"inputs": summary.inputs, "ok": summary.ok, "failed": summary.failed}
        return counts, [path for t in targets for path in t.files(with_meta=False)]

    def make_and_copy(
        sources: Iterator[Source], base: Path
    ) -> tuple[Mapping[str, int], list[Path]]:
        with TemporaryDirectory(prefix="nasnet-") as folder:
            counts, made = make(sources, Path(folder, base.name))
            return counts, [_copied(path, base.with_name(path.name)) for path in made]

    return make if in_place else make_and_copy


def _copied(path: Path, target: Path) -> Path:
    with path.open("rb") as stream, open_output(target, overwrite=True) as copy:
        shutil.copyfileobj(stream, copy, 1 << 20)
    return target
