"""classify and embed over shards: manifest, engine, progress, and how it went."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nasnet_cli.cli.run import Job
from nasnet_cli.errors import NasnetError, OutputError
from nasnet_cli.images.source import is_remote
from nasnet_cli.jobs.engines import Outcome
from nasnet_cli.jobs.shards.manifest import (
    Cut,
    Manifest,
    clear_job,
    make_manifest,
    manifest_exists,
    open_manifest,
)
from nasnet_cli.jobs.shards.shard import states
from nasnet_cli.results.records import Failure

if TYPE_CHECKING:
    from nasnet_cli.jobs.outputs import TargetFormat
    from nasnet_cli.jobs.spec import Kind

_FORMATS: dict[Kind, tuple[TargetFormat, ...]] = {
    "labels": ("jsonl", "csv", "parquet"),
    "vectors": ("npy", "parquet"),
}
_SHOWN = 3


def run_sharded(
    kind: Kind, paths: tuple[str, ...], given: dict[str, Any], format_: TargetFormat | None
) -> int:
    """Does the command's work shard by shard, into the folder --out; gives the exit status."""
    formats = _FORMATS[kind]
    format_ = format_ or formats[0]
    if format_ not in formats:
        raise click.UsageError(f"With shards, --format is {' or '.join(formats)}, not {format_}.")
    if given["out"] is None:
        raise click.UsageError("--shards and --shard-size need --out and the name of a folder.")
    if given["check"] == "content":
        raise click.UsageError("--check content doesn't go with shards.")
    if given.get("embed") is not None:
        raise click.UsageError(
            "--embed doesn't go with shards; run embed with a folder of its own."
        )
    if is_remote(given["out"]) or Path(given["out"]).is_file():
        raise OutputError(f"{given['out']} is not a folder of this machine.", "Name one that is.")
    job = Job(paths, given, (kind,))
    return _Run(job, format_).run()


class _Run:
    """One run of a job with shards: what was done before, and what is done now."""

    def __init__(self, job: Job, format_: TargetFormat) -> None:
        from nasnet_cli.jobs.shards.doing import describe

        self._job = job
        self._given = job.given
        (kind,) = job.work.results
        self._manifest = self._listed(describe(job.work, job.model, {kind: format_}))
        self._summary = job.summary
        self._summary.passed_over = self._manifest.passed_over

    def run(self) -> int:
        waiting = [found.shard for found in states(self._manifest) if not self._was_done(found)]
        before, failed = self._summary.inputs, list[Outcome]()
        with self._job.console.progress(
            lambda: self._manifest.pictures, rows_are_shown=False, already=before
        ) as advance:
            for outcome in self._outcomes(waiting, advance):
                if outcome.counts is None:
                    failed.append(outcome)
                else:
                    self._count(outcome.counts)
        if failed:
            raise self._not_done(failed)
        return self._job.finish(
            "classified" if "labels" in self._job.work.results else "embedded", before=before
        )

    def _listed(self, work: dict[str, Any]) -> Manifest:
        """The manifest: made, or brought up to date."""
        given, inputs = self._given, self._job.inputs
        out = Path(given["out"])
        if given["overwrite"]:
            clear_job(out)
        if not manifest_exists(out):
            cut = Cut(given["shards"], given["shard_size"])
            return make_manifest(out, inputs.sources(), inputs.skips, work=work, cut=cut)
        from nasnet_cli.jobs.shards.doing import check_same_job
        from nasnet_cli.jobs.shards.update import extend

        manifest = open_manifest(out)
        check_same_job(manifest, work)
        manifest, changes = extend(manifest, inputs.sources(), inputs.skips)
        if str(changes):
            self._job.console.note(f"Since the last run, {changes}.")
        return manifest

    def _was_done(self, found: Any) -> bool:
        if found.state == "done":
            self._count(found.counts)
        return bool(found.state == "done")

    def _outcomes(
        self, waiting: Sequence[int], advance: Callable[[int], None]
    ) -> Iterator[Outcome]:
        if not waiting:
            return
        given = self._given
        if given["engine"] == "ray":
            from nasnet_cli.jobs.engines.ray import RaySettings, run_on_ray

            settings = RaySettings(
                given["ray_address"],
                given["workers_per_node"],
                given["retries"],
                given["workers"],
                given["batch_size"],
            )
            for outcome in run_on_ray(self._manifest, waiting, settings):
                advance((outcome.counts or {}).get("inputs", 0))
                yield outcome
            return
        from nasnet_cli.jobs.engines.local import run_local
        from nasnet_cli.jobs.run import Options
        from nasnet_cli.jobs.shards.doing import shard_runner

        def tell(path: str, error: Failure | None) -> None:
            advance(1)
            if error is not None:
                self._job.tell_failure(path, error)

        options = Options(given["workers"], given["batch_size"], self._job.timings, tell=tell)
        do = shard_runner(self._manifest, model=self._job.model, options=options)
        yield from run_local(self._manifest, waiting, do)

    def _count(self, counts: Any) -> None:
        self._summary.inputs += counts["inputs"]
        self._summary.ok += counts["ok"]
        self._summary.failed += counts["failed"]

    def _not_done(self, failed: Sequence[Outcome]) -> NasnetError:
        some = "; ".join(f"shard {one.shard}: {one.why.rstrip('.')}" for one in failed[:_SHOWN])
        more = f"; and {len(failed) - _SHOWN:,} more" if len(failed) > _SHOWN else ""
        return NasnetError(
            f"{len(failed):,} of {self._manifest.shards:,} shards can't be done: {some}{more}.",
            "What is finished stays; see to these, and run again.",
        )
