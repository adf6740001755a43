"""Run a job: to a stream of rows, or to files that appear whole and can be resumed until then."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

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


@dataclass
class JobRun:
    """A run of a job: what is done, with which model and images, how, and who learns of it.

    summary counts the rows as they are finished.
    """

    spec: JobSpec
    model: Model
    sources: Iterable[Source]
    options: RunOptions = _DEFAULTS
    reporter: Reporter = SILENT
    summary: Summary = field(default_factory=Summary)

    def identity(self, **sections: Mapping[str, Any]) -> Identity:
        """Return what must be equal to go on with the rows of another run."""
        check = {"check": self.options.check}
        return {**self.spec.identity(self.model), **sections, "run": check}

    def counted(self, rows: Iterable[Row]) -> Iterator[Row]:
        """Yield the run's rows, counted and reported. Raises NoInputError when there is none."""
        for row in rows:
            self.summary.add_row(row.error)
            self.reporter.row(row.path, row.error)
            yield row
        if not self.summary.inputs:
            raise NoInputError

    def results(self, items: Iterable[Item[Context]]) -> Iterator[Result[Context]]:
        """Yield the model's result for each item, in order."""
        return self.model.results(
            self.spec.outputs,
            items,
            top=self.spec.top,
            sure=self.spec.sure,
            limits=self.spec.limits,
            workers=self.options.workers,
            batch_size=self.options.batch_size,
            timings=self.options.timings,
        )


class NoInputError(NasnetError):
    """The inputs hold no image."""

    def __init__(self) -> None:
        super().__init__("There are no images.", "Name images, or folders that have some.")


def stream_rows(run: JobRun) -> Iterator[Row]:
    """Yield the row of each source as it is finished, in order.

    Nothing is kept: an interrupted run starts over. Raises NoInputError when there is no source.
    """
    from nasnet_cli.pipeline import Item

    results = run.results(Item(source, None) for source in run.sources)
    return run.counted(encode(result, run.spec) for result in results)


def kept_rows(path: Path, run: JobRun) -> Iterator[Row]:
    """Yield rows as stream_rows does; they are kept in the state of path, however this ends.

    A later call takes from there the rows of images that are the same. path names the state alone:
    no file is written there. A damaged state starts over.
    """
    from contextlib import ExitStack

    from nasnet_cli.jobs.state import open_state
    from nasnet_cli.jobs.state_errors import BrokenStateError
    from nasnet_cli.jobs.state_file import state_path

    opened = partial(open_state, path, run.identity, resume=True, note=run.reporter.note)
    with ExitStack() as stack:
        try:
            state = stack.enter_context(opened())
        except BrokenStateError:
            state_path(path).unlink(missing_ok=True)
            state = stack.enter_context(opened())
        yield from run.counted(_stored_rows(run, state, state))


def run_to_files(
    spec: JobSpec,
    model: Model,
    sources: Iterable[Source],
    targets: Sequence[Target],
    options: RunOptions = _DEFAULTS,
    reporter: Reporter = SILENT,
) -> Summary:
    """Write the results for sources to targets as write_files does, and return their counts."""
    run = JobRun(spec, model, sources, options, reporter)
    write_files(run, targets)
    return run.summary


def write_files(
    run: JobRun,
    targets: Sequence[Target],
    skips: SkipCounter | None = None,
    roots: Sequence[str] = (),
) -> None:
    """Write the results of a run to targets, each whole or not at all, the first one last.

    With resume, a finished output is brought up to date: only new and changed sources are
    processed. However it ends, finished rows are kept beside the first target (state.py) unless
    there are none. roots are the folders, archives and prefixes whose images the sources are, if
    they are those of such: rows of others are lost only with prune. skips counts what listing the
    sources skips, and is read at the end. Raises NasnetError where an output exists, cannot be
    written or is being written by another run, where the output or state to go on with is another
    job's, and where a source that had rows is missing; NoInputError when there is no source.
    """
    from nasnet_cli.jobs.finished import Comparison
    from nasnet_cli.jobs.state import open_state

    main, options, note = targets[0].path, run.options, run.reporter.note
    overwrite, with_meta = options.overwrite or options.resume, options.with_meta
    prepare(targets, overwrite=overwrite, with_meta=with_meta)
    identity = partial(run.identity, formats={target.kind: target.format for target in targets})
    with open_state(
        main,
        identity,
        resume=options.resume,
        overwrite=options.overwrite,
        accept_versions=options.accept_versions,
        note=note,
    ) as state:
        try:
            for path in output_files(targets, with_meta=with_meta):
                remove_leftovers(path)
            finished = _begin(state, targets, options, note, identity)
            check_roots = partial(_check_roots_stay, state, main, () if options.prune else roots)
            comparison = None
            if finished is None:
                check_roots()
            else:
                rows = partial(finished.rows, run.spec, run.model)
                comparison = Comparison(finished, state, rows, check_roots)
            earlier = comparison or state
            if skips is not None and not options.prune:
                skips.on_nothing = partial(_check_rows_stay, earlier, main)
            for _ in run.counted(_stored_rows(run, state, earlier)):
                pass
            run.summary.passed_over = skips.count if skips else 0
            if comparison is not None and comparison.is_current(run.summary):
                note(f"{main} is already complete.")
            else:
                if comparison is not None:
                    comparison.end()
                    added, gone = state.changes()
                    note(f"Since the last run: {added:,} new or changed, {gone:,} gone.")
                state.commit()
                found = state.rows, state.keys, str(main), state.identity
                records = Records(*found, run.summary, run.spec, run.model)
                allow = state.allow_now
                publish(targets, records, overwrite=overwrite, with_meta=with_meta, allow=allow)
        except BaseException:
            _keep(state, note)
            raise
        state.remove()


def _begin(
    state: State,
    targets: Sequence[Target],
    options: RunOptions,
    note: Callable[[str], None],
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
        accept = options.accept_versions
        finished = find_finished(targets, identity(), accept_versions=accept, note=note)
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


def _stored_rows(run: JobRun, state: State, earlier: State | Comparison) -> Iterator[Row]:
    """Yield the row of each source, in order: that of earlier runs, else a new one for the state.

    Those of earlier runs are counted in the summary's kept.

    Behind a folder that cannot be listed, and an archive that is damaged, come the rows of what
    is in it: it is not gone.
    """
    from nasnet_cli.jobs.inputs import kept_key, source_key
    from nasnet_cli.pipeline import Item

    def items() -> Iterator[Item[tuple[int, bytes, Row | None]]]:
        position = 0
        for source in run.sources:
            # Before the image is read: a change after that is noticed by the next run.
            key = source_key(source, run.options.check, run.spec.max_bytes)
            row = earlier.take(position, key, source.path)
            yield Item(source, (position, key, row), is_done=row is not None)
            position += 1
            if source.failure is not None and source.failure.kind != "not_found":
                for row in earlier.take_below(position, source.path):
                    yield Item(Source(row.path), (position, b"", row), is_done=True)
                    position += 1

    for result in run.results(items()):
        position, key, row = result.context
        if row is None:
            row = encode(result, run.spec)
            state.add(position, kept_key(key, row.error), row)
        else:
            run.summary.kept += 1
        yield row


def _keep(state: State, note: Callable[[str], None]) -> None:
    """End without outputs: finished rows stay for the next run."""
    try:
        if not state.is_worth_keeping:
            state.remove()
        elif state.exists:  # its folder may have been removed
            note("Finished rows are kept. Continue with --resume.")
    except NasnetError:  # the error that brought us here says it already
        pass
