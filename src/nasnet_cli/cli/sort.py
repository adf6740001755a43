"""nasnet sort: sort images into folders by their labels."""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Literal

import click

from nasnet_cli.cli import exits, moving, options
from nasnet_cli.cli.console import Console
from nasnet_cli.cli.sections import command_with
from nasnet_cli.cli.sections import option as any_option
from nasnet_cli.cli.summary import and_errors
from nasnet_cli.results.text import counted

if TYPE_CHECKING:
    from nasnet_cli.albums.paths import Base
    from nasnet_cli.albums.planning import Plan
    from nasnet_cli.albums.sorting import Sorting
    from nasnet_cli.albums.undo_list import Action

# A variable of the environment that moves files would surprise people.
option = partial(any_option, allow_from_autoenv=False)

_DONE = {"copy": "copied", "link": "linked", "move": "moved"}


@command_with(
    "nasnet sort labels.db --into sorted/",
    "nasnet sort labels.db --into sorted/ --by top1 --move --dry-run",
    "nasnet sort --undo sorted/",
)
@click.argument("results", type=click.Path(), required=False)
@option(
    "--into",
    type=click.Path(),
    metavar="DIR",
    help="Create a folder for each label in DIR, and DIR too if it is missing.",
)
@option(
    "--by",
    type=click.Choice(["sure", "top1"]),
    default="sure",
    help="Sort by the everyday label, or by the best label however unsure the model is.",
)
@option("--copy", is_flag=True, help="Copy the images; this is the default.")
@option("--link", is_flag=True, help="Make relative symbolic links to the images.")
@option("--move", is_flag=True, help="Move the images.")
@option("--dry-run", is_flag=True, help="Print what would be done, and change nothing.")
@option(
    "--undo",
    type=click.Path(),
    metavar="DIR",
    help="Undo all sorting into DIR, also after an interruption.",
)
@options.base_option
@options.console_options
def command(
    results: str | None,
    into: str | None,
    by: Literal["sure", "top1"],
    copy: bool,
    link: bool,
    move: bool,
    dry_run: bool,
    undo: str | None,
    base: str | None,
    console: Console,
) -> int:
    """Sort images into a folder for each label.

    RESULTS is a file of nasnet classify (jsonl, json, csv, parquet or sqlite); - reads standard
    input. No model is run. Images without an everyday label go to _not_sure; images with errors
    are left out. Nothing is overwritten: equal names get a number. Every change is recorded in
    DIR/.nasnet-undo.jsonl; after an interruption, run the same command again to continue. Exit
    code: 0 if every image is in its place, 3 if some are not.
    """
    if copy + link + move > 1:
        raise click.UsageError("Use one of --copy, --link and --move.")
    if undo is not None:
        if results is not None or into is not None or dry_run:
            raise click.UsageError("--undo takes a folder and nothing else.")
        return moving.undo_all(undo, console)
    if results is None or into is None:
        raise click.UsageError("Name RESULTS and --into DIR, or --undo DIR.")
    from nasnet_cli.albums.moves import open_album
    from nasnet_cli.albums.paths import Base
    from nasnet_cli.albums.sorting import Sorting

    action: Action = "move" if move else "link" if link else "copy"
    sorting = Sorting(options.open_results(results), Base(base), by)
    with open_album(into, create=not dry_run) as album:
        plan = album.plan(action, sorting.pairs())
        _check_any_exists(plan, sorting.base)
        count, problems = moving.carry_out(album, plan, console, dry_run=dry_run)
    for path, reason in plan.skipped.items():
        console.detail(f"{path}: {reason}")
    done = f"{count:,} {'to be ' * dry_run}{_DONE[action]}"
    console.note(_summary(sorting, plan, problems, done))
    return exits.SOME_FAILED if problems or _missing(plan) else exits.OK


def _check_any_exists(plan: Plan, base: Base) -> None:
    is_any_there = plan.transfers or plan.present or len(plan.skipped) > _missing(plan)
    if plan.skipped and not is_any_there:
        raise base.nothing_exists(next(iter(plan.skipped)))


def _missing(plan: Plan) -> int:
    from nasnet_cli.albums.planning import NOT_FOUND

    return sum(reason == NOT_FOUND for reason in plan.skipped.values())


def _summary(sorting: Sorting, plan: Plan, problems: int, done: str) -> str:
    """Return one line that says what has become of all images."""
    from nasnet_cli.albums.sorting import NOT_SURE

    folders = {transfer.destination.partition("/")[0] for transfer in plan.transfers}
    parts = [f"{done} into {counted(len(folders), 'folder')}"]
    if not_sure := sorting.folders[NOT_SURE]:
        parts.append(f"{not_sure:,} without a label in {NOT_SURE}")
    if plan.sidecars:
        parts.append(counted(len(plan.sidecars), "sidecar"))
    if plan.present:
        parts.append(f"{plan.present:,} there already")
    reasons = Counter(plan.skipped.values())
    parts += [f"{number:,} skipped ({reason})" for reason, number in sorted(reasons.items())]
    if problems:
        parts.append(f"{problems:,} failed")
    errors = and_errors(sorting.errors)
    return f"{counted(sorting.rows, 'image')}: {', '.join(parts)}{errors}."
