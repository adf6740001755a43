"""What similar and duplicates have in common: their formats, and where the results go."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from nasnet_cli.results.likeness import Form, Section

Record = TypeVar("Record")
FORMATS = ("table", "json", "jsonl", "csv")

format_option = click.option(
    "--format",
    "format_",
    type=click.Choice(FORMATS),
    help="[default: by FILE's ending; a table on a terminal, else jsonl]",
)


def chosen_format(given: Mapping[str, Any]) -> Any:
    """The format that was named, or that the output's ending or standard output asks for."""
    named, out = given["format_"], given["out"]
    if named is not None:
        return named
    if out is None:
        return "table" if sys.stdout.isatty() else "jsonl"
    ending = PurePath(out).suffix.lower().lstrip(".").replace("ndjson", "jsonl")
    if ending not in FORMATS[1:]:  # there is no file.table
        raise click.UsageError(
            f"The ending of {out!r} names no format; add --format {'|'.join(FORMATS)}."
        )
    return ending


def write(
    form: Form[Record],
    records: Iterable[Record],
    given: Mapping[str, Any],
    *,
    head: Mapping[str, Section],
    tail: Callable[[], Mapping[str, Section]],
    meta: Callable[[], bytes],
) -> None:
    """Writes records as the options in given say; meta gives what stands beside a file.

    head and tail are what a JSON document has before and after the records.
    """
    from nasnet_cli.results.likeness import written

    format_ = chosen_format(given)
    pieces = written(format_, form, records, head, tail)
    if given["out"] is None:
        # A terminal that can't show a name shows it escaped; files and pipes are UTF-8.
        encoding = sys.stdout.encoding if format_ == "table" else "utf-8"
        for piece in pieces:
            sys.stdout.buffer.write(piece.encode(encoding, "backslashreplace"))
            sys.stdout.buffer.flush()
        return
    from nasnet_cli.results.meta import meta_path
    from nasnet_cli.results.output import open_outputs

    out = given["out"]
    with open_outputs(out, meta_path(out), overwrite=given["overwrite"]) as (stream, beside):
        for piece in pieces:
            stream.write(piece.encode())
        beside.write(meta())
