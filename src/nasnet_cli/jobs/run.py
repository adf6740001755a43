"""Run a job: to a stream of rows, or to files that appear whole and can be resumed until then."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from nasnet_cli.errors import NasnetError
from nasnet_cli.images.source import SkipCounter, Source
from nasnet_cli.jobs.outputs import Records, Target, finished, prepare, publish
from nasnet_cli.jobs.rows import Row, encode
from nasnet_cli.jobs.spec import JobSpec
from nasnet_cli.results.records import Failure, Summary

if TYPE_CHECKING:
    from nasnet_cli.jobs.state import Check, State
    from nasnet_cli.model import Model
    from nasnet_cli.pipeline import Item, Result
    from nasnet_cli.timings import Timings

Context = TypeVar("Context")


@dataclass(frozen=True)
class RunOptions:
    """Settings for running a job, on which its results do not depend.

    workers threads decode, two more than CPUs if None; batch_size images are decoded ahead of the
    model. timings learns where the time goes. resume continues an unfinished run and accepts a
    finished one; overwrite replaces outputs; check says how a changed input is detected. with_meta
    writes OUT.meta.json beside outputs that cannot hold it.
    """

    workers: int | None = None
    batch_size: int | None = None
    timings: Timings | None = None
    resume: bool = False
    overwrite: bool = False
    check: Check = "stat"
    with_meta: bool = True


class Reporter(Protocol):
    """A receiver of a run's progress."""

    def row(self, path: str, error: Failure | None) -> None:
        """Receive the path and error of a finished row."""

    def note(self, message: str) -> None:
        """Receive a sentence for the user."""


class SilentReporter:
    """A reporter that shows nothing."""

    def row(self, path: str, error: Failure | None) -> None:
        pass

    def note(self, message: str) -> None:
        pass


SILENT = SilentReporter()


class NoInputError(NasnetError):
    """The inputs hold no image."""

    def __init__(self) -> None:
        super().__init__("There are no images.", "Name images, or folders that have some.")


def stream_rows(
    spec: JobSpec,
    model: Model,
    sources: Iterable[Source],
    options: RunOptions,
    reporter: Reporter,
    summary: Summary,
) -> Iterator[Row]:
    """Yield the row of each source as it is finished, in order, counted in summary.

    Nothing is kept: an interrupted run starts over. Raises NoInputError when there is no source.
    """
    from nasnet_cli.pipeline import Item

    for result in _results(spec, model, (Item(source, None) for source in sources), options):
        row = encode(result, spec)
        _count(row, summary, reporter)
        yield row
    if not summary.inputs:
        raise NoInputError


def run_to_files(
    spec: JobSpec,
    model: Model,
    sources: Iterable[Source],
    targets: Sequence[Target],
    options: RunOptions = RunOptions(),
    reporter: Reporter = SILENT,
    skips: SkipCounter | None = None,
) -> Summary:
    """Write the results for sources to targets, each whole or not at all, the first one last.

    However it ends, finished rows are kept beside the first target (state.py) unless there are
    none. skips counts what listing the sources skips, and is read at the end. Raises NasnetError
    where an output exists, cannot be written or is being written by another run, and where the
    state is another job's; NoInputError when there is no source.
    """
    from nasnet_cli.jobs.state import open_state, state_path

    main = targets[0]
    if options.resume and not state_path(main.path).exists() and main.path.exists():
        done = finished(targets, spec.identity(model), with_meta=options.with_meta)
        if done is not None:
            reporter.note(f"{main.path} is already complete.")
            return done
    overwrite = options.overwrite or options.resume
    prepare(targets, overwrite=overwrite, with_meta=options.with_meta)

    def identity() -> dict[str, Any]:
        return {**spec.identity(model), "run": {"check": options.check}}

    summary = Summary()
    with open_state(main.path, identity, resume=options.resume, note=reporter.note) as state:
        try:
            for row in _stored_rows(state, spec, model, sources, options):
                _count(row, summary, reporter)
            summary.passed_over = skips.count if skips else 0
            if not summary.inputs:
                raise NoInputError
            state.commit()
            records = Records(state.rows, summary, spec, model)
            publish(targets, records, overwrite=overwrite, with_meta=options.with_meta)
        except BaseException:
            _keep(state, reporter)
            raise
        state.remove()
    return summary


def _stored_rows(
    state: State, spec: JobSpec, model: Model, sources: Iterable[Source], options: RunOptions
) -> Iterator[Row]:
    """Yield the row of each source, in order: the state's where it has one, else a new one."""
    from nasnet_cli.jobs.state import source_key
    from nasnet_cli.pipeline import Item

    def items() -> Iterator[Item[tuple[int, bytes, Row | None]]]:
        for position, source in enumerate(sources):
            # Before the image is read: a change after that is noticed by the next run.
            key = source_key(source, options.check, spec.max_bytes)
            row = state.take(position, key)
            yield Item(source, (position, key, row), is_done=row is not None)

    for result in _results(spec, model, items(), options):
        position, key, row = result.context
        if row is None:
            row = encode(result, spec)
            state.add(position, key, row)
        yield row


def _results(
    spec: JobSpec, model: Model, items: Iterable[Item[Context]], options: RunOptions
) -> Iterator[Result[Context]]:
    return model.results(
        spec.outputs,
        items,
        top=spec.top,
        sure=spec.sure,
        limits=spec.limits,
        workers=options.workers,
        batch_size=options.batch_size,
        timings=options.timings,
    )


def _count(row: Row, summary: Summary, reporter: Reporter) -> None:
    summary.inputs += 1
    if row.error is None:
        summary.ok += 1
    else:
        summary.failed += 1
    reporter.row(row.path, row.error)


def _keep(state: State, reporter: Reporter) -> None:
    """End without outputs: finished rows stay for the next run."""
    try:
        if state.is_empty:
            state.remove()
        elif state.exists:  # its folder may have been removed
            reporter.note("Finished rows are kept. Continue with --resume.")
    except NasnetError:  # the error that brought us here says it already
        pass
