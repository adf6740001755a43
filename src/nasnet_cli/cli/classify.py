"""nasnet classify: what pictures show."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from nasnet_cli.cli import options
from nasnet_cli.cli.job import Job

if TYPE_CHECKING:
    from nasnet_cli.results.writers import Writer

FORMATS = ("table", "json", "jsonl", "csv")


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
@click.option(
    "--format",
    "format_",
    type=click.Choice(FORMATS),
    help="[default: by FILE's ending; a table on a terminal, else jsonl]",
)
@options.output_options
@options.runtime_options
@options.run_options
def command(paths: tuple[str, ...], **given: Any) -> int:
    """Say what pictures show.

    PATHS are pictures, folders and archives (.zip, .tar, .tar.gz); - reads a list of them from
    standard input. Without any, the current folder. Exits with 0 when every input has a result
    and with 3 when some have an error.
    """
    format_ = _format(given["format_"], given["out"])
    job = Job(paths, given)
    rows = job.model.classify_sources(
        job.inputs.sources(),
        top=given["top"],
        threshold=given["threshold"],
        logits=given["logits"],
        **job.how,
    )
    with _writer(format_, job) as (writer, written, finish):
        for row in job.tally(rows):
            writer.write(row)
            written()
        finish()
    return job.finish("classified")


def _format(named: str | None, out: str | None) -> str:
    if named is not None:
        return named
    if out is None:
        return "table" if sys.stdout.isatty() else "jsonl"
    from nasnet_cli.results.writers import format_of

    found = format_of(out)
    if found is None:
        raise click.UsageError(
            f"The ending of {out!r} names no format; add --format {'|'.join(FORMATS)}."
        )
    return found


@contextmanager
def _writer(
    format_: str, job: Job
) -> Iterator[tuple[Writer, Callable[[], None], Callable[[], None]]]:
    """A writer to where the results go, what to call after each row, and what ends it all."""
    out = job.given["out"]
    if out is None:
        writer = _open(format_, sys.stdout.buffer, job)
        # Who reads the pipe sees each row as it comes.
        yield writer, sys.stdout.flush, lambda: writer.finish(job.summary)
        sys.stdout.flush()
        return
    from nasnet_cli.results.meta import meta_path
    from nasnet_cli.results.output import open_outputs

    with open_outputs(out, meta_path(out), overwrite=job.given["overwrite"]) as (stream, meta):
        writer = _open(format_, stream, job)

        def finish() -> None:
            writer.finish(job.summary)
            meta.write(job.meta(("logits",), ("top", "threshold", "logits", "max_pixels")))

        yield writer, lambda: None, finish


def _open(format_: str, stream: BinaryIO, job: Job) -> Writer:
    logits = job.given["logits"]
    if format_ == "table":
        import io

        from nasnet_cli.results.table import TableWriter

        # On standard output itself, rich sees whether it is a terminal, and how wide.
        is_stdout = stream is sys.stdout.buffer
        text = sys.stdout if is_stdout else io.TextIOWrapper(stream, "utf-8", write_through=True)
        return TableWriter(text, logits=logits)
    from nasnet_cli.results.writers import open_writer

    return open_writer(
        format_,  # type: ignore[arg-type]
        stream,
        model=job.model.describe(),
        preprocessing=job.preprocessing(),
        logits=logits,
    )
