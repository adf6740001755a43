"""Doing a job: pictures into files that appear whole, and what is finished kept until then."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nasnet_cli.errors import NasnetError
from nasnet_cli.jobs.outputs import Records, Target, encode, finished, prepare, publish
from nasnet_cli.jobs.spec import JobSpec
from nasnet_cli.jobs.state import Check, Row, State, open_state, source_key, state_path
from nasnet_cli.results.records import Failure, Summary

if TYPE_CHECKING:
    from nasnet_cli.images.source import Source
    from nasnet_cli.model import Model
    from nasnet_cli.pipeline import Item
    from nasnet_cli.timings import Timings

Tell = Callable[[str, Failure | None], None]


@dataclass(frozen=True)
class Options:
    """How a job is done, which its results don't depend on.

    workers, batch_size and timings are as in model.How. resume goes on with an unfinished run and
    is content with a finished one; overwrite replaces outputs; check says what tells a changed
    input. with_meta writes OUT.meta.json beside outputs that have no room for it. tell is called
    with the path and error of each row that is finished, note with a sentence for a person.
    passed_over gives, at the end, how many files are no pictures.
    """

    workers: int | None = None
    batch_size: int | None = None
    timings: Timings | None = None
    resume: bool = False
    overwrite: bool = False
    check: Check = "stat"
    with_meta: bool = True
    tell: Tell = lambda path, error: None
    note: Callable[[str], None] = lambda text: None
    passed_over: Callable[[], int] = lambda: 0


class NoInputError(NasnetError):
    """There was nothing to do."""

    def __init__(self) -> None:
        super().__init__("There is no picture.", "Name pictures, or folders that have some.")


def run_to_files(
    work: JobSpec,
    model: Model,
    sources: Iterable[Source],
    targets: Sequence[Target],
    options: Options = Options(),
) -> Summary:
    """Makes the targets out of sources, each whole or not at all, the first one last.

    Whatever stops it, what is finished is kept beside the first target (resume.py), unless that
    is nothing. Raises NasnetError: where an output is there, can't be written, is being written by
    another run; where the state is another job's; NoInputError where there is no input.
    """
    main = targets[0]
    begun = state_path(main.path).exists()
    if options.resume and not begun and main.path.exists():
        done = finished(targets, work.identity(model), with_meta=options.with_meta)
        if done is not None:
            options.note(f"{main.path} is done already.")
            return done
    overwrite = options.overwrite or options.resume
    prepare(targets, overwrite=overwrite, with_meta=options.with_meta)

    def identity() -> dict[str, Any]:
        return {**work.identity(model), "run": {"check": options.check}}

    with open_state(main.path, identity, resume=options.resume, note=options.note) as state:
        try:
            summary = _fill(state, work, model, sources, options)
            if not summary.inputs:
                raise NoInputError
            state.commit()
            records = Records(state.rows, summary, work, model)
            publish(targets, records, overwrite=overwrite, with_meta=options.with_meta)
        except BaseException:
            _leave(state, options)
            raise
        state.remove()
    return summary


def _fill(
    state: State, work: JobSpec, model: Model, sources: Iterable[Source], options: Options
) -> Summary:
    """Sees to it that the state has a row for each source, and counts them."""
    from nasnet_cli.pipeline import Item

    summary = Summary()

    def count(path: str, error: Failure | None) -> None:
        summary.inputs += 1
        if error is None:
            summary.ok += 1
        else:
            summary.failed += 1
        options.tell(path, error)

    def items() -> Iterator[Item[tuple[int, bytes, Row | None]]]:
        for position, source in enumerate(sources):
            # Before the image is read: a change after that is noticed by the next run.
            key = source_key(source, options.check, work.max_bytes)
            row = state.take(position, key)
            yield Item(source, (position, key, row), is_done=row is not None)

    results = model.results(
        work.outputs,
        items(),
        top=work.top,
        workers=options.workers,
        batch_size=options.batch_size,
        limits=work.limits,
        timings=options.timings,
    )
    for result in results:
        position, key, row = result.context
        if row is None:
            row = encode(result, work)
            state.add(position, key, row)
        count(row.path, row.error)
    summary.passed_over = options.passed_over()
    return summary


def _leave(state: State, options: Options) -> None:
    """Ends without an output: what is finished stays for the next run."""
    try:
        if state.is_empty:
            state.remove()
        elif state.exists:  # its folder may have been removed
            options.note("What is finished is kept: --resume goes on with it.")
    except NasnetError:  # the error that brought us here says it already
        pass
