"""nasnet embed: pictures as feature vectors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from nasnet_cli.cli import options
from nasnet_cli.cli.job import Job


@click.command()
@options.input_options
@options.model_option
@click.option("--normalize", is_flag=True, help="Make every vector of unit length.")
@click.option(
    "--dtype",
    type=click.Choice(["float32", "float16"]),
    default="float32",
    show_default=True,
    help="Type of the numbers in FILE.",
)
@options.preprocessing_options
@click.option(
    "-o",
    "--out",
    type=click.Path(),
    metavar="FILE",
    required=True,
    help="Write to FILE.npy, whole or not at all; FILE.jsonl beside it says what each row is.",
)
@click.option("--overwrite", is_flag=True, help="Replace FILE if it is there.")
@options.runtime_options
@options.run_options
def command(paths: tuple[str, ...], **given: Any) -> int:
    """Turn pictures into feature vectors.

    Writes an array [N, depth] that numpy.load reads, with mmap_mode too, and beside it a line of
    JSON for each input: its path, its status and its row. An input that fails has a line and no row.
    PATHS are as in classify. Exits with 0 when every input has a vector and with 3 when some have
    an error.
    """
    out = Path(given["out"])
    if out.suffix.lower() != ".npy":
        raise click.UsageError(f"The ending of {given['out']!r} names no format; end it in .npy.")
    job = Job(paths, given)
    _write(job, out)
    return job.finish("embedded")


def _write(job: Job, out: Path) -> None:
    from nasnet_cli.results.meta import meta_path
    from nasnet_cli.results.output import open_outputs
    from nasnet_cli.results.vectors import NpyWriter
    from nasnet_cli.results.writers import json_vector_row

    given = job.given
    rows = job.model.embed_sources(
        job.inputs.sources(),
        normalize=given["normalize"],
        **job.how,
    )
    names = (out, out.with_suffix(".jsonl"), meta_path(out))
    with open_outputs(*names, overwrite=given["overwrite"]) as (stream, lines, meta):
        vectors = NpyWriter(stream, job.model.feature_depth, given["dtype"])
        for row in job.tally(rows):
            lines.write(f"{json_vector_row(row.path, row.error, job.summary.ok - 1)}\n".encode())
            if row.vector is not None:
                vectors.write(row.vector)
        vectors.finish()
        meta.write(job.meta(("features",), ("normalize", "dtype", "max_pixels")))
