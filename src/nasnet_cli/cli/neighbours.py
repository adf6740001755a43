"""What similar and duplicates share: their formats, and where results go."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, TypeVar

from nasnet_cli.cli.options import OutputOptions

if TYPE_CHECKING:
    from nasnet_cli.results.neighbours import Form, LikenessFormat, Section

Record = TypeVar("Record")
FORMATS: tuple[LikenessFormat, ...] = ("table", "json", "jsonl", "csv")


def write(
    form: Form[Record],
    records: Iterable[Record],
    output: OutputOptions,
    *,
    head: Mapping[str, Section],
    tail: Callable[[], Mapping[str, Section]],
    meta: Callable[[], bytes],
) -> None:
    """Write records to standard output, or to a file with meta beside it.

    head and tail are what a JSON document has before and after the records.
    """
    from nasnet_cli.results.neighbours import written

    format_ = output.chosen_format(FORMATS)
    pieces = written(format_, form, records, head, tail)
    if output.out is None:
        # A terminal that cannot show a name shows it escaped; files and pipes are UTF-8.
        encoding = sys.stdout.encoding if format_ == "table" else "utf-8"
        for piece in pieces:
            sys.stdout.buffer.write(piece.encode(encoding, "backslashreplace"))
            sys.stdout.buffer.flush()
        return
    from nasnet_cli.results.atomic import open_outputs
    from nasnet_cli.results.meta import meta_path

    files = (output.out, meta_path(output.out))
    with open_outputs(*files, overwrite=output.overwrite) as (stream, beside):
        for piece in pieces:
            stream.write(piece.encode())
        beside.write(meta())
