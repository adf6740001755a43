"""nasnet duplicates: find groups of near-duplicate images by their vectors."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, TypeVar

import click

from nasnet_cli.cli import neighbours, options
from nasnet_cli.cli.console import Console
from nasnet_cli.cli.sections import command_with, option
from nasnet_cli.results.text import counted

if TYPE_CHECKING:
    from nasnet_cli.results.neighbours import Group

Pair = TypeVar("Pair")


@command_with(
    "nasnet duplicates vectors.npy",
    "nasnet duplicates vectors.npy --threshold 0.99",
    "nasnet duplicates vectors.npy --out groups.csv",
)
@click.argument("vectors", type=click.Path())
@option(
    "--threshold",
    type=options.FRACTION,
    default=0.97,
    metavar="C",
    help="Cosine similarity at which two images are near-duplicates; 1 means equal vectors.",
)
@options.output_options(neighbours.FORMATS)
@options.console_options
def command(
    vectors: str, threshold: float, output: options.OutputOptions, console: Console
) -> None:
    """Find groups of near-duplicate images.

    VECTORS is a .npy file of nasnet embed, with its .jsonl beside it. Every pair is compared by
    cosine similarity, and images are in one group when a chain of pairs at or above the threshold
    joins them. Each is shown with its similarity to the first of its group.
    """
    output.chosen_format(neighbours.FORMATS)  # a wrong one is reported before the work
    from nasnet_cli import __version__
    from nasnet_cli.results.meta import meta_document
    from nasnet_cli.results.neighbours import GROUPS
    from nasnet_cli.similarity import count_pairs, near_groups, open_index, without_direction

    start = time.monotonic()
    index = open_index(vectors)

    def walk(pairs: Iterable[Pair]) -> Iterator[Pair]:
        with console.progress(lambda: count_pairs(index), unit="blocks") as advance:
            for pair in pairs:
                advance(1)
                yield pair

    counts = {"vectors": index.rows, "without_direction": without_direction(index)}
    counts |= {"groups": 0, "grouped": 0}

    def tally(groups: Iterator[Group]) -> Iterator[Group]:
        for group in groups:
            counts["groups"] += 1
            counts["grouped"] += len(group.members)
            yield group

    about = {"index": index.describe(), "options": {"threshold": threshold}}
    tool = {"name": "nasnet", "version": __version__}
    neighbours.write(
        GROUPS,
        tally(near_groups(index, threshold, walk)),
        output,
        head=about,
        summary=lambda: counts,
        meta=lambda: meta_document(tool=tool, **about, summary=counts),
    )
    left_out = counts["without_direction"]
    ignored = f" ({left_out:,} zero or not finite, ignored)" if left_out else ""
    console.note(
        f"{counted(index.rows, 'vector')}{ignored}: {counted(counts['groups'], 'group')} with "
        f"{counted(counts['grouped'], 'image')}; {time.monotonic() - start:.1f} s."
    )
