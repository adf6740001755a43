"""What similar and duplicates have in common: their formats, and where the results go."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from nasnet_cli.cli import options

if TYPE_CHECKING:
    from nasnet_cli.results.neighbours import Form, Section

Record = TypeVar("Record")
FORMATS = ("table", "json", "jsonl", "csv")

format_option = options.format_option(FORMATS)


def chosen_format(given: Mapping[str, Any]) -> Any:
    """As options.chosen_format, of what similar and duplicates write."""
    return options.chosen_format(given, FORMATS)


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
    from nasnet_cli.results.neighbours import written

    format_ = chosen_format(given)
    pieces = written(format_, form, records, head, tail)
    if given["out"] is None:
        # A terminal that can't show a name shows it escaped; files and pipes are UTF-8.
        encoding = sys.stdout.encoding if format_ == "table" else "utf-8"
        for piece in pieces:
            sys.stdout.buffer.write(piece.encode(encoding, "backslashreplace"))
            sys.stdout.buffer.flush()
        return
    from nasnet_cli.results.atomic import open_outputs
    from nasnet_cli.results.meta import meta_path

    out = given["out"]
    with open_outputs(out, meta_path(out), overwrite=given["overwrite"]) as (stream, beside):
        for piece in pieces:
            stream.write(piece.encode())
        beside.write(meta())
