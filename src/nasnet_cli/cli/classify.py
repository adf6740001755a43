"""nasnet classify: label images."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING

import click

from nasnet_cli.cli import large_options, options
from nasnet_cli.cli.console import Console
from nasnet_cli.cli.sections import OUTPUT, command_with, path_option
from nasnet_cli.jobs.spec import JobSpec, RunOptions
from nasnet_cli.results.formats import FORMATS, formats_of

if TYPE_CHECKING:
    from nasnet_cli.cli.run import Job
    from nasnet_cli.jobs.outputs import Target
    from nasnet_cli.results.formats import FormatName

NAMES = formats_of("labels")


@command_with(
    "nasnet classify photos/",
    "nasnet classify photos/ holiday.zip --top 1 --out labels.csv",
    "nasnet classify photos/ --model imagenet-mobile --out labels.jsonl --resume",
)
@options.input_options
@options.output_options(NAMES)
@path_option(
    "--embed",
    "vectors_out",
    metavar="FILE",
    section=OUTPUT,
    help="Also write feature vectors to FILE (.npy, .npz or .parquet), like nasnet embed.",
)
@path_option(
    "--report",
    "report_out",
    metavar="FILE",
    section=OUTPUT,
    help="Also write an HTML page with thumbnails to FILE, like nasnet report.",
)
@options.spec_options(
    "labels", *options.label_options, *options.preprocessing_options, *options.vector_options
)
@large_options.run_options
@large_options.shard_options
@options.console_options
def command(
    inputs: options.InputOptions,
    output: options.OutputOptions,
    vectors_out: str | None,
    report_out: str | None,
    spec: JobSpec,
    run: RunOptions,
    shards: large_options.ShardOptions,
    console: Console,
) -> int:
    """Label images with the classes that a model knows.

    PATHS are images, folders and archives (.zip, .tar, .tar.gz); - reads a list of paths from
    standard input. The default is the current folder. Exit code: 0 if every input has a result, 3
    if some have errors.
    """
    from nasnet_cli.cli.run import Job, target, vector_target

    if vectors_out is not None:
        spec = spec._replace(results=("labels", "vectors"))
    elif spec.normalize or spec.dtype != options.DEFAULTS.dtype:
        raise click.UsageError("--normalize and --dtype need --embed.")
    job = Job(spec, inputs, run, console)
    if shards.wanted:
        from nasnet_cli.cli.sharded import run_sharded

        if vectors_out is not None:
            raise click.UsageError("--embed cannot be used with shards; run nasnet embed.")
        if report_out is not None:
            raise click.UsageError("--report cannot be used with shards; run nasnet report.")
        return run_sharded(job, output, shards)
    from nasnet_cli.results.atomic import is_direct

    format_ = output.chosen_format(NAMES)
    if output.out is None or is_direct(output.out):
        for name, is_used in (
            ("--resume", run.resume),
            ("--embed", vectors_out is not None),
            ("--report", report_out is not None),
            (f"--format {format_}", FORMATS[format_].holds_meta),
        ):
            if is_used:
                raise click.UsageError(f"{name} needs --out and the name of a file.")
        _stream(job, output.out, format_)
        return job.finish("classified")
    if report_out is not None and not FORMATS[format_].is_readable:
        raise click.UsageError(f"--report cannot be used with --format {format_}.")
    targets = [target("labels", format_, output.out)]
    if vectors_out is not None:
        targets.append(vector_target(vectors_out))
    if report_out is not None:
        _check_report(report_out, targets, overwrite=output.overwrite or run.resume)
    job.write(targets, overwrite=output.overwrite)
    exit_code = job.finish("classified")
    if report_out is not None:
        _report(job, output.out, report_out, vectors_out)
    return exit_code


def _check_report(out: str, targets: Sequence[Target], *, overwrite: bool) -> None:
    """Raise OutputError if the report cannot be written, or would replace the results."""
    from nasnet_cli.jobs.outputs import check_distinct, output_files
    from nasnet_cli.results.atomic import check_free

    check_distinct([*output_files(targets, with_meta=True), out])
    check_free(out, overwrite)


def _report(job: Job, results: str, out: str, vectors: str | None) -> None:
    """Write the report of finished results; with a map where their vectors can be read for it."""
    from pathlib import Path

    from nasnet_cli.albums.paths import Base
    from nasnet_cli.cli.report import write_report
    from nasnet_cli.report.make import ReportOptions

    settings = ReportOptions(
        Path(results).stem,
        Base(None),
        vectors if vectors is not None and vectors.endswith(".npy") else None,
        job.run_options.workers,
        overwrite=True,  # it has been checked before the run
    )
    write_report(options.open_results(results), out, settings, job.console)


def _stream(job: Job, out: str | None, format_: FormatName) -> None:
    """Write each row as it comes, to standard output, a pipe or a device."""
    from nasnet_cli.jobs.rows import classified_rows
    from nasnet_cli.results.atomic import open_output
    from nasnet_cli.results.writers import open_label_writer

    to_stdout = out is None
    rows = job.rows(to_terminal=to_stdout and sys.stdout.isatty())
    with (
        nullcontext(sys.stdout.buffer)
        if out is None
        else open_output(out, overwrite=False) as stream
    ):
        writer = open_label_writer(
            format_,
            stream,
            head=job.model.head(),
            logits=job.spec.logits,
            everyday=job.model.everyday.is_available,
        )
        for row in classified_rows(rows, job.spec, job.model):
            writer.write(row)
            stream.flush()  # the reader of a pipe sees each row as it comes
        writer.finish(job.summary.counts())
        stream.flush()
