"""Formats and output that similar and duplicates share."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, TypeVar

from nasnet_cli.cli.options import OutputOptions
from nasnet_cli.results.formats import formats_of

if TYPE_CHECKING:
    from nasnet_cli.results.writers import Layout, Section

Record = TypeVar("Record")
FORMATS = formats_of("neighbours")


def write(
    layout: Layout[Record],
    records: Iterable[Record],
    output: OutputOptions,
    *,
    head: Mapping[str, Section],
    summary: Callable[[], Section],
    meta: Callable[[], bytes],
) -> None:
    """Write records to standard output, or to a file with meta beside it.

    head is what a JSON document has before the records; summary and meta are called after them.
    """
    from nasnet_cli.results.atomic import open_outputs
    from nasnet_cli.results.meta import meta_path
    from nasnet_cli.results.writers import open_writer

    format_ = output.chosen_format(FORMATS)
    if output.out is None:
        stdout = sys.stdout.buffer
        encoding = sys.stdout.encoding if format_ == "table" else "utf-8"
        writer = open_writer(format_, layout, stdout, head=head, encoding=encoding)
        for record in records:
            writer.write(record)
            stdout.flush()
        writer.finish(summary())
        stdout.flush()
        return
    files = (output.out, meta_path(output.out))
    with open_outputs(*files, overwrite=output.overwrite) as (stream, beside):
        writer = open_writer(format_, layout, stream, head=head)
        for record in records:
            writer.write(record)
        writer.finish(summary())
        beside.write(meta())
