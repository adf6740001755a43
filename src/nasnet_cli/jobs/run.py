"""Doing a job: pictures into files that appear whole, and what is finished kept until then."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nasnet_cli.errors import NasnetError
from nasnet_cli.jobs.outputs import Encoder, Target, is_done, parts_of, publish
from nasnet_cli.jobs.resume import Check, Finished, State, open_state, source_key
from nasnet_cli.jobs.work import Work
from nasnet_cli.results.output import check_free
from nasnet_cli.results.records import Failure, Summary

if TYPE_CHECKING:
    from nasnet_cli.images.files import Source
    from nasnet_cli.model import Model

Tell = Callable[[str, Failure | None], None]


@dataclass(frozen=True)
class Options:
    """How a job is done, which its results don't depend on.

    resume goes on with an unfinished run and is content with a finished one; overwrite replaces
    outputs; check says what tells a changed input; with_meta writes OUT.meta.json beside outputs.
    tell is called for each row in order with its path and error, note with a sentence for a
    person. passed_over gives, at the end, how many files are no pictures.
    """

    workers: int | None = None
    resume: bool = False
    overwrite: bool = False
    check: Check = "stat"
    with_meta: bool = True
    tell: Tell = lambda path, error: None
    note: Callable[[str], None] = lambda text: None
    passed_over: Callable[[], int] = lambda: 0


def run_to_files(
    work: Work,
    model: Model,
    sources: Iterable[Source],
    targets: Sequence[Target],
    options: Options = Options(),
) -> Summary:
    """Makes the targets out of sources, each whole or not at all, the first one last.

    Whatever stops it, what is finished is kept beside the first target (resume.py), unless that
    is nothing. Raises NasnetError: where an output is there, can't be written, is being written by
    another run; where the state is another job's; where there is no input.
    """
    main = targets[0]
    identity = {
        **work.identity(model),
        "results": {t.kind: t.format for t in targets},
    }
    if options.resume and main.path.exists():
        done = is_done(main, identity)
        if done is not None:
            options.note(f"{main.path} is done already.")
            return done
    for target in targets:
        for path in target.files(with_meta=options.with_meta):
            check_free(
                str(path), options.overwrite or options.resume or path.name.endswith(".meta.json")
            )
    state = open_state(
        main.path.resolve(),
        identity,
        parts_of(targets),
        shown=str(main.path),
        resume=options.resume,
        note=options.note,
    )
    with state:
        try:
            summary = _fill(state, work, model, sources, targets, options)
            if not summary.inputs:
                raise NoInputError
            summary.passed_over = options.passed_over()
            publish(targets, state.finish(), identity, summary, work, model, options.with_meta)
        except BaseException:
            if not state.finished:
                state.remove()
            raise
        state.remove()
    return summary


class NoInputError(NasnetError):
    """There was nothing to do."""

    def __init__(self) -> None:
        super().__init__("There is no picture.", "Name pictures, or folders that have some.")


def _fill(
    state: State,
    work: Work,
    model: Model,
    sources: Iterable[Source],
    targets: Sequence[Target],
    options: Options,
) -> Summary:
    """Sees to it that the state has a row for each source, in order."""
    summary = Summary()

    def count(path: str, failed: bool, error: Failure | None = None) -> None:
        summary.inputs += 1
        summary.ok += not failed
        summary.failed += failed
        options.tell(path, error)

    rest = _skip_finished(state, iter(sources), options.check, count)
    ahead: deque[tuple[Source, bytes] | Finished] = deque()
    encoder = Encoder(work, model, targets)

    def unfinished() -> Iterator[Source]:
        for source in rest:
            key = source_key(source, options.check)
            found = state.find(key) if state.has_old else None
            if found is not None:
                ahead.append((source, found))
                continue
            ahead.append((source, None))
            keys.append(key)
            yield source

    raise NotImplementedError
