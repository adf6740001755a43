"""nasnet embed: pictures as feature vectors."""

from __future__ import annotations

from typing import Any

import click

from nasnet_cli.cli import options
from nasnet_cli.cli.run import Job, target, vector_format

FORMATS = ("npy", "npz", "parquet")


@click.command()
@options.input_options
@options.model_option
@options.vector_options
@options.preprocessing_options
@click.option(
    "-o",
    "--out",
    type=click.Path(),
    metavar="FILE",
    required=True,
    help="Write to FILE, whole or not at all: .npy, .npz or .parquet.",
)
@click.option(
    "--format",
    "format_",
    type=click.Choice(FORMATS),
    help="[default: by FILE's ending; npy for shards]",
)
@options.overwrite_option
@options.resume_options
@options.shard_options
@options.runtime_options
@options.run_options
def command(paths: tuple[str, ...], **given: Any) -> int:
    """Turn pictures into feature vectors.

    Writes an array [N, depth]. FILE.npy is for numpy.load, with mmap_mode too; FILE.jsonl beside
    it has a line of JSON for each input: its path, its status and its row. An input that fails has
    a line and no row. FILE.npz has the arrays vectors and paths. FILE.parquet has a row for each
    input, the vector as a list of fixed size. PATHS are as in classify. Exits with 0 when every
    input has a vector and with 3 when some have an error.
    """
    if options.wants_shards(given):
        from nasnet_cli.cli.sharded import run_sharded

        return run_sharded("vectors", paths, given, given["format_"])
    format_ = given["format_"] or vector_format(given["out"])
    job = Job(paths, given, ("vectors",))
    job.write(target("vectors", format_, given["out"]))
    return job.finish("embedded")
