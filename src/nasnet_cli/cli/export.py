"""nasnet export: a model in another form."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from nasnet_cli.cli import options
from nasnet_cli.models.formats.table import WRITABLE, format_for

if TYPE_CHECKING:
    from nasnet_cli.cli.console import Console
    from nasnet_cli.models.formats.base import DetectedModel, Kind, Precision


@click.command()
@click.argument("out", type=click.Path())
@options.model_option
@click.option(
    "--format",
    "format_name",
    type=click.Choice(list(WRITABLE)),
    help="What to write.  [default: what OUT ends in]",
)
@click.option(
    "--kind",
    type=click.Choice(["classification", "feature-vector"]),
    default="classification",
    show_default=True,
    help="With the classification layer, or without it.",
)
@click.option(
    "--precision",
    type=click.Choice(["f32", "f16"]),
    default="f32",
    show_default=True,
    help="How weights are kept; f16 for tflite alone.",
)
@options.unsafe_option
@click.option("--overwrite", is_flag=True, help="Replace OUT if it is there.")
@click.option("--json", "as_json", is_flag=True, help="Print the result of the check as JSON.")
@click.option("-q", "--quiet", is_flag=True, help="Say nothing but errors.")
@click.option("-v", "--verbose", is_flag=True, help="Say more.")
def command(
    out: str,
    model: str | None,
    format_name: str | None,
    kind: Kind,
    precision: Precision,
    allow_unsafe_ops: bool,
    overwrite: bool,
    as_json: bool,
    quiet: bool,
    verbose: bool,
) -> None:
    """Write a model in another form, and check it against the model.

    OUT is a folder for tf1-hub and saved-model, else a file that ends in .keras, .tflite, .onnx or
    .xml (openvino, with its .bin beside it). What was written is run by its own runtime on probe
    pictures; the largest difference from the model's own outputs is printed, and over 1e-4 nothing
    is kept. With --precision f16 at least 90 % of the pictures must have the same best class.
    """
    path = Path(out)
    if path.name in ("", ".."):
        raise click.UsageError(f"{out!r} is no name for something new.")
    chosen = WRITABLE[format_name] if format_name else format_for(path.name)
    if chosen is None:
        raise click.UsageError(
            f"{out!r} doesn't end in what names a form; say which with --format."
        )
    if not path.name.endswith(chosen.suffix) or path.name == chosen.suffix:
        raise click.UsageError(f"The name of a {chosen.name} file ends in {chosen.suffix}.")
    if precision not in chosen.precisions:
        raise click.UsageError(f"{chosen.name} is written in f32 alone; f16 is for tflite.")

    from nasnet_cli.cli.console import Console
    from nasnet_cli.models.export import export
    from nasnet_cli.results.text import json_text, printable

    console = Console(quiet=quiet, verbose=verbose)
    source = _resolve(model, console)
    network = source.format.read_network(source.path)
    check = export(
        network,
        path,
        chosen,
        kind=kind,
        precision=precision,
        overwrite=overwrite,
        allow_unsafe_ops=allow_unsafe_ops,
        note=console.detail,
    )
    if as_json:
        found = {"path": out, "format": chosen.name, "kind": kind, "precision": precision}
        click.echo(json_text({**found, **asdict(check)}, indent=2))
        return
    line = f"{out}: largest difference {check.largest_difference:.2g} on {check.pictures} pictures"
    if check.tolerance is None:
        line += f", the same best class on {100 * check.agreement:.0f} %"
    else:
        line += f" (tolerance {check.tolerance:g})"
    click.echo(printable(line))


def _resolve(model: str | None, console: Console) -> DetectedModel:
    from nasnet_cli.cli.console import ConsoleListener
    from nasnet_cli.models.resolve import resolve

    with ConsoleListener(console) as listener:
        return resolve(model, listener, runnable=False)
