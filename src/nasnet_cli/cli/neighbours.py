"""Vectors as input, formats and output: what similar and duplicates share."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, TypeVar

import click
from click.core import ParameterSource

from nasnet_cli.cli.options import InputOptions, OutputOptions
from nasnet_cli.cli.sections import ADVANCED, MODEL
from nasnet_cli.results.formats import formats_of

if TYPE_CHECKING:
    from nasnet_cli.results.writers import Layout, Section

Record = TypeVar("Record")
FORMATS = formats_of("neighbours")


def named_vectors(inputs: InputOptions) -> str | None:
    """Return the .npy file that is the only path; None for images.

    Raises click.UsageError for options that only images have, and for a .npy file beside others.
    """
    named = [path for path in inputs.paths if path.lower().endswith(".npy")]
    if not named or os.path.isdir(named[0]):  # noqa: PTH112
        return None
    if len(inputs.paths) > 1:
        raise click.UsageError(f"{named[0]} holds vectors. Name it alone, or images only.")
    refuse_image_options(f"{named[0]} holds vectors")
    return named[0]


def refuse_image_options(reason: str) -> None:
    """Raise click.UsageError if the command line has an option for images and models."""
    context = click.get_current_context()
    for parameter in context.command.params:
        is_for_images = getattr(parameter, "section", None) in (MODEL, ADVANCED)
        is_for_images |= parameter.name in ("list_file", "recursive", "exclude")
        given = context.get_parameter_source(parameter.name or "") is ParameterSource.COMMANDLINE
        if is_for_images and given:
            raise click.UsageError(f"{parameter.opts[-1]} is for images, and {reason}.")


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
