"""classify and embed with shards: manifest, engine, progress and summary."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from nasnet_cli.cli.large_options import ShardOptions
from nasnet_cli.cli.options import OutputOptions
from nasnet_cli.cli.run import Job
from nasnet_cli.errors import NasnetError, OutputError
from nasnet_cli.images.source import is_remote
from nasnet_cli.jobs.engines import Outcome
from nasnet_cli.jobs.shards.manifest import (
    Manifest,
    check_same_work,
    clear_job,
    describe_work,
    make_manifest,
    manifest_exists,
    open_manifest,
)
from nasnet_cli.jobs.shards.shard import ShardRunner, finished_shards
from nasnet_cli.jobs.shards.slices import Cut
from nasnet_cli.results.formats import mergeable_formats
from nasnet_cli.results.text import shortened

if TYPE_CHECKING:
    from nasnet_cli.jobs.spec import Kind

_VERBS: dict[Kind, str] = {"labels": "classified", "vectors": "embedded"}
_LISTED = 3


def run_sharded(job: Job, output: OutputOptions, shards: ShardOptions) -> int:
    """Run a job shard by shard into the folder --out, and return the exit code."""
    (kind,) = job.spec.results
    formats = mergeable_formats(kind)
    format_ = formats[0] if output.format_ is None else output.named_format(formats)
    if format_ is None:
        raise click.UsageError(
            f"With shards, --format is {' or '.join(formats)}, not {output.format_}."
        )
    if output.out is None:
        raise click.UsageError("--shards and --shard-size need --out and the name of a folder.")
    for name, is_used in (
        ("--check content", job.run_options.check == "content"),
        ("--prune", job.run_options.prune),
        ("--accept-versions", job.run_options.accept_versions),
    ):
        if is_used:
            raise click.UsageError(f"{name} cannot be used with shards.")
    if is_remote(output.out) or Path(output.out).is_file():
        raise OutputError(f"{output.out} is not a folder of this machine.", "Name a local folder.")
    out = Path(output.out)
    job.inputs.own = [os.path.realpath(out)]
    work = describe_work(job.spec, job.model, {kind: format_})
    if output.overwrite:  # once the model is known to run
        clear_job(out)
    manifest = _update_manifest(job, out, work, Cut(shards.shards, shards.shard_size))
    _, missing, job.summary = finished_shards(manifest)
    job.summary.kept = job.summary.inputs
    failed = []
    with job.console.progress(lambda: manifest.images, initial=job.summary.kept) as advance:
        for outcome in _run(job, manifest, missing, shards, advance) if missing else ():
            if outcome.counts is None:
                failed.append(outcome)
            else:
                job.summary.add(outcome.counts)
    if failed:
        raise _failure(failed, manifest)
    return job.finish(_VERBS[kind])


def _update_manifest(job: Job, out: Path, work: dict[str, object], cut: Cut) -> Manifest:
    """Make the manifest of a job, or bring it up to date."""
    sources, skips = job.inputs.sources(), job.inputs.skips
    if not manifest_exists(out):
        return make_manifest(out, sources, skips, work=work, cut=cut)
    from nasnet_cli.jobs.shards.update import extend

    manifest = open_manifest(out)
    check_same_work(manifest, work)
    manifest, changes = extend(manifest, sources, skips)
    if str(changes):
        job.console.note(f"Since the last run: {changes}.")
    return manifest


def _run(
    job: Job,
    manifest: Manifest,
    missing: Sequence[int],
    shards: ShardOptions,
    advance: Callable[[int], None],
) -> Iterator[Outcome]:
    """Run the missing shards on the engine that was asked for."""
    if shards.engine == "local":
        from nasnet_cli.jobs.engines.local import run_local

        runner = ShardRunner(
            manifest, job.spec, job.run_options, model=job.model, reporter=job.console
        )
        yield from run_local(manifest, missing, runner)
        return
    from nasnet_cli.jobs.engines.ray import RaySettings, run_on_ray

    on_ray = shards.ray_address, shards.workers_per_node, shards.retries
    settings = RaySettings(*on_ray, job.run_options.workers, job.run_options.batch_size)
    for outcome in run_on_ray(manifest, job.spec, missing, settings):
        advance(outcome.counts.inputs if outcome.counts else 0)
        yield outcome


def _failure(failed: Sequence[Outcome], manifest: Manifest) -> NasnetError:
    reasons = [f"shard {outcome.shard}: {outcome.why.rstrip('.')}" for outcome in failed]
    return NasnetError(
        f"{len(failed):,} of {manifest.shards:,} shards failed: "
        f"{shortened(reasons, _LISTED, separator='; ')}.",
        "Finished shards stay. Fix the cause, and run again.",
    )
