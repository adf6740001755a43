"""nasnet tag: write labels as keywords into XMP sidecars."""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Literal

import click

from nasnet_cli.cli import exits, options
from nasnet_cli.cli.console import Console
from nasnet_cli.cli.sections import command_with, print_line
from nasnet_cli.cli.sections import option as any_option
from nasnet_cli.cli.summary import and_errors
from nasnet_cli.errors import NasnetError, OutputError
from nasnet_cli.results.text import counted

if TYPE_CHECKING:
    from collections.abc import Callable

    from nasnet_cli.albums.tagging import Change, Tag, Tagging

# A variable of the environment that changes files would surprise people.
option = partial(any_option, allow_from_autoenv=False)


@command_with(
    "nasnet tag labels.db",
    "nasnet tag labels.db --naming stem --dry-run",
    "nasnet tag labels.db --remove",
)
@options.results_argument
@option(
    "--naming",
    type=click.Choice(["full", "stem"]),
    default="full",
    help="Name of sidecars: full is photo.jpg.xmp, for digiKam and darktable; stem is photo.xmp, "
    "for Lightroom and Bridge.",
)
@option("--remove", is_flag=True, help="Remove the keywords that nasnet tag has added.")
@option("--dry-run", is_flag=True, help="Print the sidecars that would change, and change nothing.")
@options.base_option
@options.console_options
def command(
    results: str,
    naming: Literal["full", "stem"],
    remove: bool,
    dry_run: bool,
    base: str | None,
    console: Console,
) -> int:
    """Write labels as keywords into XMP sidecars.

    RESULTS is a file of nasnet classify (jsonl, json, csv, parquet or sqlite); - reads standard
    input. No model is run. The keywords are the everyday label and the wider classes above it; an
    image without one gets none. What other programs have written into a sidecar stays, and images
    are never touched. Keywords of an earlier run are replaced. Exit code: 0 if every sidecar is up
    to date, 3 if some could not be written.
    """
    from nasnet_cli.albums.paths import Base
    from nasnet_cli.albums.planning import NOT_FOUND
    from nasnet_cli.albums.tagging import Tagging, remove_leftovers, write_tag

    tagging = Tagging(options.open_results(results), Base(base), naming, remove)
    tags = tagging.plan()
    if not dry_run:
        remove_leftovers(tags)
    changes, problems = _each(tags, _show if dry_run else write_tag, console)
    _name_skipped(tagging, console)
    console.note(_summary(tagging, changes, problems, dry_run))
    missing = NOT_FOUND in tagging.skipped.values()
    return exits.SOME_FAILED if problems or missing else exits.OK


def _each(
    tags: list[Tag], work: Callable[[Tag], Change], console: Console
) -> tuple[Counter[Change], int]:
    changes: Counter[Change] = Counter()
    problems = 0
    with console.progress(lambda: len(tags)) as advance:
        for tag in tags:
            try:
                changes[work(tag)] += 1
            except OutputError:
                raise
            except NasnetError as error:
                console.note(str(error))
                problems += 1
            advance(1)
    return changes, problems


def _show(tag: Tag) -> Change:
    from nasnet_cli.albums.tagging import planned_change

    change = planned_change(tag)
    if change not in ("none", "unchanged"):
        print_line(f"{tag.sidecar}: {', '.join(tag.keywords.names) or 'no keywords'}")
    return change


def _name_skipped(tagging: Tagging, console: Console) -> None:
    """Name the images whose sidecar would be another's too; of others the count is enough."""
    from nasnet_cli.albums.tagging import SHARED

    for image, reason in tagging.skipped.items():
        (console.note if reason == SHARED else console.detail)(f"{image}: {reason}.")


def _summary(tagging: Tagging, changes: Counter[Change], problems: int, dry_run: bool) -> str:
    """Return one line that says what has become of all images."""
    will = "to be " * dry_run
    names: dict[Change, str] = {"new": "created", "changed": "changed", "removed": "removed"}
    parts = [
        f"{counted(changes[change], 'sidecar')} {will}{name}"
        for change, name in names.items()
        if changes[change]
    ] or ["no sidecar changed"]
    counts = {
        "unchanged": changes["unchanged"],
        "not sure": 0 if tagging.remove else tagging.not_sure,
        **{f"skipped ({reason})": n for reason, n in Counter(tagging.skipped.values()).items()},
        "failed": problems,
    }
    parts += [f"{count:,} {name}" for name, count in counts.items() if count]
    errors = and_errors(tagging.errors)
    return f"{counted(tagging.rows, 'image')}: {', '.join(parts)}{errors}."
