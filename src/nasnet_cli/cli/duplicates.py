"""nasnet duplicates: which pictures are nearly the same, by their vectors."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

import click

from nasnet_cli.cli import neighbours, options
from nasnet_cli.cli.console import Console

if TYPE_CHECKING:
    from nasnet_cli.results.neighbours import Group

Pair = TypeVar("Pair")


@click.command()
@click.argument("vectors", type=click.Path())
@click.option(
    "--threshold",
    type=click.FloatRange(0, 1, min_open=True),
    default=0.97,
    show_default=True,
    metavar="C",
    help="The cosine from which on two pictures are nearly the same; 1 is for equal vectors.",
)
@neighbours.format_option
@options.output_options
@options.talk_options
def command(vectors: str, **given: Any) -> None:
    """Find groups of pictures that are nearly the same.

    VECTORS is a .npy file of nasnet embed, with its .jsonl beside it. Every pair is compared, by
    the cosine, and pictures are in one group when a chain of pairs at or above the threshold joins
    them. Each is shown with its cosine to the first of its group.
    """
    neighbours.chosen_format(given)  # a wrong one is known before the work
    from nasnet_cli import __version__
    from nasnet_cli.results.meta import document
    from nasnet_cli.results.neighbours import GROUPS
    from nasnet_cli.similarity import count_pairs, near_groups, open_index, without_direction

    start = time.monotonic()
    console = Console(quiet=given["quiet"], verbose=given["verbose"])
    index = open_index(vectors)

    def walk(pairs: Iterable[Pair]) -> Iterator[Pair]:
        with console.progress(lambda: count_pairs(index), unit="blocks") as advance:
            for pair in pairs:
                advance(1)
                yield pair

    counts = {"vectors": index.rows, "without_direction": without_direction(index)}
    counts |= {"groups": 0, "grouped": 0}

    def counted(groups: Iterator[Group]) -> Iterator[Group]:
        for group in groups:
            counts["groups"] += 1
            counts["grouped"] += len(group.members)
            yield group

    about = {"index": index.describe(), "options": {"threshold": given["threshold"]}}
    tool = {"tool": {"name": "nasnet", "version": __version__}}
    neighbours.write(
        GROUPS,
        counted(near_groups(index, given["threshold"], walk)),
        given,
        head=about,
        tail=lambda: {"summary": counts},
        meta=lambda: (document({**tool, **about, "summary": counts}) + "\n").encode(),
    )
    console.note(_summary(counts, time.monotonic() - start))


def _summary(counts: dict[str, int], seconds: float) -> str:
    left_out = counts["without_direction"]
    zero = f", {left_out:,} of them zero or not finite and like nothing" if left_out else ""
    groups = "group" if counts["groups"] == 1 else "groups"
    return (
        f"{counts['vectors']:,} vectors{zero}: {counts['groups']:,} {groups} with "
        f"{counts['grouped']:,} pictures; {seconds:.1f} s."
    )
