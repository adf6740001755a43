"""nasnet find: find images by what they show."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import click

from nasnet_cli.cli import options
from nasnet_cli.cli.console import Console
from nasnet_cli.cli.sections import command_with, json_option, option
from nasnet_cli.results.text import counted, printable

if TYPE_CHECKING:
    from nasnet_cli.albums.finding import Hit, Search
    from nasnet_cli.albums.paths import Base


@command_with(
    "nasnet find dog labels.jsonl",
    "nasnet find vehicle labels.db --min 0.8",
    "nasnet find dog labels.jsonl -0 | tar -cf dogs.tar --null -T -",
)
@click.argument("word")
@options.results_argument
@option(
    "--min",
    "minimum",
    type=options.FRACTION,
    default=0.5,
    metavar="P",
    help="Minimum probability that an image shows WORD.",
)
@option("-0", "--null", is_flag=True, help="End each path with a NUL, for xargs -0.")
@json_option("Print JSON, with probabilities.")
@options.base_option
@options.quiet_option
def command(
    word: str,
    results: str,
    minimum: float,
    null: bool,
    as_json: bool,
    base: str | None,
    quiet: bool,
) -> None:
    """Find images by label, synonym or wider class: dog, Canis familiaris, animal.

    RESULTS is a file of nasnet classify (jsonl, json, csv, parquet or sqlite); - reads standard
    input. No model is run. The paths of the images found go to standard output. A word with several
    senses finds images of each; a WordNet id such as n02012849 picks one.
    """
    from nasnet_cli.albums.finding import Search
    from nasnet_cli.albums.paths import Base
    from nasnet_cli.search import Word

    if null and as_json:
        raise click.UsageError("Use either -0 or --json.")
    console = Console(quiet=quiet)
    search = Search(options.open_results(results), Word(word), minimum)
    if len(search.word.senses) > 1:
        console.note(f"{word!r} has {len(search.word.senses)} senses; a WordNet id picks one:")
        for line in search.word.describe_senses():
            console.note(f"  {line}")
    hits = _existing(search, Base(base))
    count = _print_json(hits, search) if as_json else _print_paths(hits, _encoder(null))
    sys.stdout.buffer.flush()
    console.note(f"{count:,} of {counted(search.rows, 'image')}.")


def _existing(search: Search, base: Base) -> Iterator[Hit]:
    """Yield the hits with paths as seen from here. Raises NasnetError when none of them exists."""
    hits = search.hits()
    if not base.is_current:
        hits = (hit._replace(path=base.locate(hit.path)) for hit in hits)
    waiting: list[Hit] = []
    for hit in hits:
        waiting.append(hit)
        if base.exists(hit.path):
            yield from waiting
            yield from hits
            return
    if waiting:
        raise base.nothing_exists(waiting[0].path)


def _encoder(null: bool) -> Callable[[str], bytes]:
    if null:
        return lambda path: os.fsencode(path) + b"\0"
    if sys.stdout.isatty():
        encoding = sys.stdout.encoding
        return lambda path: f"{printable(path)}\n".encode(encoding, "backslashreplace")
    return lambda path: os.fsencode(path) + b"\n"


def _print_paths(hits: Iterator[Hit], encode: Callable[[str], bytes]) -> int:
    count = 0
    for path, _, _ in hits:
        # Programs that are given the path must not take it for an option.
        sys.stdout.buffer.write(encode(f"./{path}" if path.startswith("-") else path))
        count += 1
    return count


def _print_json(hits: Iterator[Hit], search: Search) -> int:
    from nasnet_cli.results.records import Everyday
    from nasnet_cli.results.text import decimal
    from nasnet_cli.results.writers import Layout, json_everyday, json_path, open_writer

    def json(hit: Hit) -> str:
        probability = decimal(hit.probability, missing="null")
        sure = json_everyday(hit.sure and Everyday(*hit.sure))
        return f'{{{json_path(hit.path)}, "probability": {probability}, "sure": {sure}}}'

    layout: Layout[Hit] = Layout("results", (), json, lambda hit: iter(()))
    about = {"word": search.word.word, "senses": list(search.word.senses), "min": search.minimum}
    writer = open_writer("json", layout, sys.stdout.buffer, head={"search": about})
    count = 0
    for hit in hits:
        writer.write(hit)
        count += 1
    writer.finish({"images": search.rows, "found": count})
    return count
