"""nasnet classify: what pictures show."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from nasnet_cli.cli import options
from nasnet_cli.cli.console import Console
from nasnet_cli.cli.inputs import Inputs
from nasnet_cli.cli.main import EXIT_SOME_FAILED
from nasnet_cli.errors import NasnetError

if TYPE_CHECKING:
    from nasnet_cli.model import Model
    from nasnet_cli.results.records import Classified, Summary
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
@options.run_options
def command(paths: tuple[str, ...], **given: Any) -> int:
    """Say what pictures show.

    PATHS are pictures, folders and archives (.zip, .tar, .tar.gz); - reads a list of them from
    standard input. Without any, the current folder. Exits with 0 when every input has a result
    and with 3 when some have an error.
    """
    from nasnet_cli.model import load_model

    start = time.monotonic()
    console = Console(quiet=given["quiet"], verbose=given["verbose"])
    format_ = _format(given["format_"], given["out"])
    inputs = Inputs(paths, given["list_file"], recursive=given["recursive"])
    changes = {
        name: given[name]
        for name in ("resize", "crop_fraction", "resample")
        if given[name] is not None
    }
    model = load_model(given["model"], labels=given["labels"], preprocessing=changes)
    _introduce(console, model)
    with _writer(format_, model, given, console) as (writer, finish):
        summary = _classify(model, inputs, writer, given, console)
        summary.seconds = time.monotonic() - start
        finish(summary)
    console.note(_in_words(summary))
    return EXIT_SOME_FAILED if summary.failed else 0


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


def _introduce(console: Console, model: Model) -> None:
    card = model.module.card
    if model.is_builtin and card is not None and card.accuracy is not None:
        accuracy = card.accuracy
        console.note(
            f"Built-in model: {model.module.classes} of ImageNet's classes, "
            f"{100 * accuracy['top1']:.0f} % right on {accuracy['dataset']}'s validation pictures. "
            "For others name a module: --model FOLDER."
        )


@contextmanager
def _writer(
    format_: str, model: Model, given: dict[str, Any], console: Console
) -> Iterator[tuple[Writer, Any]]:
    """A writer to where the results go, and what ends it."""
    if given["out"] is None:
        writer = _open(format_, sys.stdout.buffer, model, given)
        yield writer, writer.finish
        sys.stdout.flush()
        return
    from nasnet_cli.results.meta import meta_path
    from nasnet_cli.results.output import open_outputs

    out = given["out"]
    with open_outputs(out, meta_path(out), overwrite=given["overwrite"]) as (stream, meta):
        writer = _open(format_, stream, model, given)

        def finish(summary: Summary) -> None:
            writer.finish(summary)
            meta.write(_meta(model, given, summary))

        yield writer, finish


def _open(format_: str, stream: BinaryIO, model: Model, given: dict[str, Any]) -> Writer:
    if format_ == "table":
        import io

        from nasnet_cli.results.table import TableWriter

        # On standard output itself, rich sees whether it is a terminal, and how wide.
        is_stdout = stream is sys.stdout.buffer
        text = sys.stdout if is_stdout else io.TextIOWrapper(stream, "utf-8", write_through=True)
        return TableWriter(text, logits=given["logits"])
    from nasnet_cli.results.writers import open_writer

    return open_writer(
        format_,  # type: ignore[arg-type]
        stream,
        model=model.describe(),
        preprocessing=_preprocessing(model),
        logits=given["logits"],
    )


def _preprocessing(model: Model) -> dict[str, Any]:
    how = model.preprocessing
    return {**how.to_dict(), "digest": how.digest()}


def _meta(model: Model, given: dict[str, Any], summary: Summary) -> bytes:
    from importlib.metadata import version

    from nasnet_cli.results.meta import meta_document

    runtime = model.runtime(("logits",))
    return meta_document(
        tool={"name": "nasnet", "version": version("nasnet-cli")},
        runtime={"name": runtime.name, "version": runtime.version, "precision": "f32"},
        model=model.describe(),
        preprocessing=_preprocessing(model),
        options={name: given[name] for name in ("top", "threshold", "logits", "max_pixels")},
        summary=summary.counts(),
    )


def _classify(
    model: Model, inputs: Inputs, writer: Writer, given: dict[str, Any], console: Console
) -> Summary:
    from nasnet_cli.images.load import Limits
    from nasnet_cli.results.records import Summary

    summary = Summary()
    rows: Iterable[Classified] = model.classify_sources(
        inputs.sources(),
        top=given["top"],
        threshold=given["threshold"],
        logits=given["logits"],
        workers=given["workers"],
        limits=Limits(given["max_pixels"], given["max_bytes"]),
    )
    for row in console.progress(rows, inputs.count if inputs.can_be_counted else None):
        summary.inputs += 1
        if row.error is None:
            summary.ok += 1
        else:
            summary.failed += 1
            console.detail(f"{row.path}: {row.error.message}")
        writer.write(row)
        if given["out"] is None:
            sys.stdout.flush()  # who reads the pipe sees each row as it comes
    summary.passed_over = inputs.listing.passed_over
    if not summary.inputs:
        raise NasnetError(
            f"There is no picture in {inputs.in_words}.",
            "Name pictures, or folders that have some.",
        )
    return summary


def _in_words(summary: Summary) -> str:
    parts = [f"{summary.ok:,} classified"]
    if summary.failed:
        parts.append(f"{summary.failed:,} with errors")
    if summary.passed_over:
        parts.append(f"{summary.passed_over:,} other files passed over")
    noun = "picture" if summary.inputs == 1 else "pictures"
    rate = summary.inputs / summary.seconds if summary.seconds else 0.0
    return (
        f"{summary.inputs:,} {noun}: {', '.join(parts)}; "
        f"{summary.seconds:.1f} s, {rate:.0f} a second."
    )
