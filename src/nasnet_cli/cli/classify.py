"""nasnet classify: what pictures show."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, BinaryIO, cast

import click

from nasnet_cli.cli import options
from nasnet_cli.cli.run import Job, target, vector_format
from nasnet_cli.results.atomic import is_direct

if TYPE_CHECKING:
    from nasnet_cli.jobs.outputs import TargetFormat
    from nasnet_cli.results.writers import Format, Writer

FORMATS = ("table", "json", "jsonl", "csv", "parquet")


@click.command()
@options.input_options
@options.model_option
@click.option(
    "--top",
    type=click.IntRange(min=1),
    default=5,
    show_default=True,
    metavar="K",
    help="How many labels for each picture.",
)
@click.option(
    "--threshold",
    type=click.FloatRange(0, 1),
    default=0.0,
    show_default=True,
    metavar="P",
    help="Leave out labels that are less probable.",
)
@click.option("--logits", is_flag=True, help="Give the model's raw output too.")
@click.option(
    "--labels",
    type=click.Path(),
    metavar="FILE",
    help="Names of the classes: text, a line each, or TSV, CSV, JSON.  [default: the model's own]",
)
@options.preprocessing_options
@options.format_option(FORMATS)
@options.output_options
@options.resume_options
@click.option(
    "--embed",
    type=click.Path(),
    metavar="FILE",
    help="Write feature vectors too, as the command embed does, to a .npy, .npz or .parquet file.",
)
@options.vector_options
@options.shard_options
@options.runtime_options
@options.run_options
def command(paths: tuple[str, ...], **given: Any) -> int:
    """Say what pictures show.

    PATHS are pictures, folders and archives (.zip, .tar, .tar.gz); - reads a list of them from
    standard input. Without any, the current folder. Exits with 0 when every input has a result
    and with 3 when some have an error.
    """
    if given["embed"] is None and (given["normalize"] or given["dtype"] != "float32"):
        raise click.UsageError("--normalize and --dtype are about vectors; they need --embed.")
    if options.wants_shards(given):
        from nasnet_cli.cli.sharded import run_sharded

        return run_sharded("labels", paths, given, given["format_"])
    out = given["out"]
    format_: TargetFormat = options.chosen_format(given, FORMATS)
    if out is None or is_direct(out):
        return _stream(format_, paths, given)
    targets = [target("labels", format_, out)]
    if given["embed"] is not None:
        targets.append(target("vectors", vector_format(given["embed"]), given["embed"]))
    job = Job(paths, given, tuple(t.kind for t in targets))
    job.write(*targets)
    return job.finish("classified")


def _stream(format_: TargetFormat, paths: tuple[str, ...], given: dict[str, Any]) -> int:
    """Writes each row as it comes, to standard output, a pipe or a device."""
    for name, is_given in (
        ("--resume", given["resume"]),
        ("--embed", given["embed"] is not None),
        ("--format parquet", format_ == "parquet"),
    ):
        if is_given:
            raise click.UsageError(f"{name} needs --out and the name of a file.")
    job = Job(paths, given, ("labels",))
    job.open_ahead()
    work = job.work
    rows = job.model.classify_sources(
        job.inputs.sources(),
        top=work.top,
        threshold=work.threshold,
        logits=work.logits,
        **job.how,
    )
    with _stream_of(given["out"]) as (stream, flush):
        writer = _open(format_, stream, job)
        for row in job.tally(rows):
            writer.write(row)
            flush()
        writer.finish(job.summary)
    return job.finish("classified")


@contextmanager
def _stream_of(out: str | None) -> Iterator[tuple[BinaryIO, Callable[[], None]]]:
    """Where the rows go, and what to call after each: who reads the pipe sees it as it comes."""
    if out is None:
        yield sys.stdout.buffer, sys.stdout.flush
        sys.stdout.flush()
        return
    from nasnet_cli.results.atomic import open_output

    with open_output(out, overwrite=False) as stream:
        yield stream, stream.flush


def _open(format_: TargetFormat, stream: BinaryIO, job: Job) -> Writer:
    logits = job.work.logits
    if format_ == "table":
        import io

        from nasnet_cli.results.table import TableWriter

        # On standard output itself, rich sees whether it is a terminal, and how wide.
        is_stdout = stream is sys.stdout.buffer
        text = sys.stdout if is_stdout else io.TextIOWrapper(stream, "utf-8", write_through=True)
        return TableWriter(text, logits=logits)
    from nasnet_cli.results.writers import open_writer

    return open_writer(
        cast("Format", format_),
        stream,
        model=job.model.describe(),
        preprocessing=job.model.describe_preprocessing(),
        logits=logits,
    )
