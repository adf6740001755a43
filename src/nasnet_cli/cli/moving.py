"""Files brought into a folder and taken back, with progress and problems shown: sort, duplicates."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from nasnet_cli.cli import exits
from nasnet_cli.cli.console import Console
from nasnet_cli.cli.sections import print_line
from nasnet_cli.results.text import counted

if TYPE_CHECKING:
    from nasnet_cli.albums.moves import Album, Outcome
    from nasnet_cli.albums.planning import Plan

_NAMED = 5  # problems that are named without -v


def carry_out(album: Album, plan: Plan, console: Console, *, dry_run: bool) -> tuple[int, int]:
    """Carry the plan out, or only print it; return the numbers of images done and of problems."""
    if dry_run:
        for action, source, destination in plan.transfers:
            print_line(f"{action} {source} -> {album.name.rstrip('/')}/{destination}")
        return len(plan.transfers), 0
    with console.progress(lambda: len(plan.transfers), unit="files") as advance:
        problems = _problems(album.run(plan), advance)
    _name_some([f"{found.transfer.source}: {found.problem}." for found in problems], console)
    failed = sum(plan.image_of(found.transfer) is None for found in problems)  # no sidecars
    return len(plan.transfers) - failed, len(problems)


def undo_all(folder: str, console: Console) -> int:
    """Take back all that a folder has got; return the exit code. Raises NasnetError."""
    from nasnet_cli.albums.moves import open_album

    with open_album(folder) as album:
        count = album.count
        with console.progress(lambda: count, unit="files") as advance:
            problems = _problems(album.undo(), advance)
    _name_some(
        [
            f"{folder.rstrip('/')}/{found.transfer.destination}: {found.problem}."
            for found in problems
        ],
        console,
    )
    rest = f", {len(problems):,} not" if problems else ""
    console.note(f"{counted(count - len(problems), 'file')} taken back{rest}.")
    return exits.SOME_FAILED if problems else exits.OK


def _problems(outcomes: Iterable[Outcome], advance: Callable[[int], None]) -> list[Outcome]:
    problems = []
    for outcome in outcomes:
        advance(1)
        if outcome.problem:
            problems.append(outcome)
    return problems


def _name_some(lines: Sequence[str], console: Console) -> None:
    for line in lines[:_NAMED]:
        console.note(line)
    for line in lines[_NAMED:]:
        console.detail(line)
    if len(lines) > _NAMED and not console.verbose:
        console.note(f"And {len(lines) - _NAMED:,} more; -v names them.")
