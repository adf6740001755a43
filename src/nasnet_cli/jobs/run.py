"""Run a job: to a stream of rows, or to files that appear whole and can be resumed until then."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

from nasnet_cli.errors import NasnetError, OutputError
from nasnet_cli.images.source import SkipCounter, Source
from nasnet_cli.jobs.identity import Identity
from nasnet_cli.jobs.outputs import Records, Target, output_files, prepare, publish
from nasnet_cli.jobs.rows import Row, encode
from nasnet_cli.jobs.spec import JobSpec, RunOptions
from nasnet_cli.results.atomic import remove_leftovers
from nasnet_cli.results.records import Failure, Summary
from nasnet_cli.results.text import counted

if TYPE_CHECKING:
    from nasnet_cli.jobs.finished import Comparison, FinishedOutput
    from nasnet_cli.jobs.state import State
    from nasnet_cli.model import Model
    from nasnet_cli.pipeline import Item, Result

Context = TypeVar("Context")


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
_DEFAULTS = RunOptions()


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


def kept_rows(
    path: Path,
    spec: JobSpec,
    model: Model,
    sources: Iterable[Source],
    options: RunOptions,
    reporter: Reporter,
    summary: Summary,
) -> Iterator[Row]:
    """Yield rows as stream_rows does; they are kept in the state of path, however this ends.

    A later call takes from there the rows of images that are the same. path names the state alone:
    no file is written there. A damaged state starts over.
    """
    from contextlib import ExitStack

    from nasnet_cli.jobs.state import open_state
    from nasnet_cli.jobs.state_errors import BrokenStateError
    from nasnet_cli.jobs.state_file import state_path

    def identity() -> Identity:
        return {**spec.identity(model), "run": {"check": options.check}}

    with ExitStack() as stack:
        try:
            opened = open_state(path, identity, resume=True, note=reporter.note)
            state = stack.enter_context(opened)
        except BrokenStateError:
            state_path(path).unlink(missing_ok=True)
            opened = open_state(path, identity, resume=True, note=reporter.note)
            state = stack.enter_context(opened)
        for row in _stored_rows(state, state, spec, model, sources, options, summary):
            _count(row, summary, reporter)
            yield row
    if not summary.inputs:
        raise NoInputError


def run_to_files(
    spec: JobSpec,
    model: Model,
    sources: Iterable[Source],
    targets: Sequence[Target],
    options: RunOptions = _DEFAULTS,
    reporter: Reporter = SILENT,
    skips: SkipCounter | None = None,
    roots: Sequence[str] = (),
) -> Summary:
    """Write the results for sources to targets, each whole or not at all, the first one last.

    With resume, a finished output is brought up to date: only new and changed sources are processed.
    However it ends, finished rows are kept beside the first target (state.py) unless there are
    none. roots are the folders, archives and prefixes whose images the sources are, if they are
    those of such: rows of others are lost only with prune. skips counts what listing the sources skips, and is read at the end. Raises NasnetError
    where an output exists, cannot be written or is being written by another run, where the output
    or state to go on with is another job's, and where a source that had rows is missing; NoInputError when there is no source.
    """
    from nasnet_cli.jobs.finished import Comparison
    from nasnet_cli.jobs.state import open_state

    main = targets[0].path
    overwrite = options.overwrite or options.resume
    prepare(targets, overwrite=overwrite, with_meta=options.with_meta)

    def identity() -> Identity:
        formats: dict[str, str] = {target.kind: target.format for target in targets}
        return {**spec.identity(model), "formats": formats, "run": {"check": options.check}}

    summary = Summary()
    with open_state(
        main,
        identity,
        resume=options.resume,
        overwrite=options.overwrite,
        accept_versions=options.accept_versions,
        note=reporter.note,
    ) as state:
        try:
            for path in output_files(targets, with_meta=options.with_meta):
                remove_leftovers(path)
            finished = _begin(state, targets, options, reporter, identity)
            named = () if options.prune else roots
            check_roots = partial(_check_roots_stay, state, main, named)
            comparison = None
            if finished is None:
                check_roots()
            else:
                rows = partial(finished.rows, spec, model)
                comparison = Comparison(finished, state, rows, check_roots)
            earlier = comparison or state
            if skips is not None and not options.prune:
                skips.on_nothing = partial(_check_rows_stay, earlier, main)
            for row in _stored_rows(state, earlier, spec, model, sources, options, summary):
                _count(row, summary, reporter)
            summary.passed_over = skips.count if skips else 0
            if not summary.inputs:
                raise NoInputError
            if comparison is not None and comparison.is_current(summary):
                reporter.note(f"{main} is already complete.")
            else:
                if comparison is not None:
                    comparison.end()
                    added, gone = state.changes()
                    reporter.note(f"Since the last run: {added:,} new or changed, {gone:,} gone.")
                state.commit()
                records = Records(
                    state.rows, state.keys, str(main), state.identity, summary, spec, model
                )
                publish(
                    targets,
                    records,
                    overwrite=overwrite,
                    with_meta=options.with_meta,
                    allow=state.allow_now,
                )
        except BaseException:
            _keep(state, reporter)
            raise
        state.remove()
    return summary


def _begin(
    state: State,
    targets: Sequence[Target],
    options: RunOptions,
    reporter: Reporter,
    identity: Callable[[], Identity],
) -> FinishedOutput | None:
    """Check whose the files of the targets are, and return the finished output to go on from.

    Raises NasnetError where a file is neither this job's nor to be overwritten.
    """
    from nasnet_cli.jobs.finished import check_replaceable, find_finished
    from nasnet_cli.jobs.inputs import file_digest

    if not options.with_meta:  # a shard, whose marker says whose it is
        return None
    if not state.is_new:
        if not options.overwrite:
            check_replaceable(targets, state.replaceable())
        return None
    finished = None
    if options.resume:
        finished = find_finished(
            targets, identity(), accept_versions=options.accept_versions, note=reporter.note
        )
    files = [path for target in targets for path in target.files(with_meta=False)]
    state.allow(file_digest(path) for path in files if path.exists())
    return finished


def _check_roots_stay(state: State, output: Path, roots: Sequence[str]) -> None:
    """Raise OutputError where there are rows of images that the run's inputs do not cover."""
    if state.is_new or not roots:
        return
    ends = tuple(start for root in roots for start in (root.rstrip("/") + "/", root + "!/"))
    others = [path for path in state.paths() if not (path in roots or path.startswith(ends))]
    if others:
        raise OutputError(
            f"{output} has {counted(len(others), 'row')} of images in other places than the paths "
            f"that are named now, such as {others[0]}.",
            "Name all paths as before, or drop these rows with --prune.",
        )


def _check_rows_stay(earlier: State | Comparison, output: Path, path: str) -> None:
    """Raise OutputError where rows of a named path would be lost, which has no image now."""
    if count := earlier.count_below(path):
        raise OutputError(
            f"{path} has {counted(count, 'row')} in {output}, and is missing or empty now.",
            "Check that its disk is mounted, or drop its rows with --prune.",
        )


def _stored_rows(
    state: State,
    earlier: State | Comparison,
    spec: JobSpec,
    model: Model,
    sources: Iterable[Source],
    options: RunOptions,
    summary: Summary,
) -> Iterator[Row]:
    """Yield the row of each source, in order: that of earlier runs, else a new one for the state.

    Those of earlier runs are counted in summary.kept.

    Behind a folder that cannot be listed, and an archive that is damaged, come the rows of what
    is in it: it is not gone.
    """
    from nasnet_cli.jobs.inputs import kept_key, source_key
    from nasnet_cli.pipeline import Item

    def items() -> Iterator[Item[tuple[int, bytes, Row | None]]]:
        position = 0
        for source in sources:
            # Before the image is read: a change after that is noticed by the next run.
            key = source_key(source, options.check, spec.max_bytes)
            row = earlier.take(position, key)
            yield Item(source, (position, key, row), is_done=row is not None)
            position += 1
            if source.failure is not None and source.failure.kind != "not_found":
                for row in earlier.take_below(position, source.path):
                    yield Item(Source(row.path), (position, b"", row), is_done=True)
                    position += 1

    for result in _results(spec, model, items(), options):
        position, key, row = result.context
        if row is None:
            row = encode(result, spec)
            state.add(position, kept_key(key, row.error), row)
        else:
            summary.kept += 1
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
        summary.errors[row.error.kind] += 1
    reporter.row(row.path, row.error)


def _keep(state: State, reporter: Reporter) -> None:
    """End without outputs: finished rows stay for the next run."""
    try:
        if not state.is_worth_keeping:
            state.remove()
        elif state.exists:  # its folder may have been removed
            reporter.note("Finished rows are kept. Continue with --resume.")
    except NasnetError:  # the error that brought us here says it already
        pass
