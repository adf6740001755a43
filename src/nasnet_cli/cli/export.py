"""nasnet export: write a model in another format."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import get_args

import click

from nasnet_cli.cli import options
from nasnet_cli.cli.console import Console, ConsoleListener
from nasnet_cli.cli.model_names import model_option
from nasnet_cli.cli.sections import command_with, json_option, print_json, print_line
from nasnet_cli.models.formats.names import Kind, Precision, WritableName


@command_with(
    "nasnet export nasnet.onnx",
    "nasnet export module/ --format tf1-hub --model imagenet-mobile",
    "nasnet export nasnet.tflite --kind feature-vector --precision f16",
)
@click.argument("out", type=click.Path())
@model_option
@options.of_output(
    "--format",
    "format_name",
    type=click.Choice(get_args(WritableName)),
    help="Format of OUT.  [default: by the suffix of OUT]",
)
@options.of_output(
    "--kind",
    type=click.Choice(get_args(Kind)),
    default="classification",
    help="Keep or drop the classification layer.",
)
@options.of_output(
    "--precision",
    type=click.Choice(get_args(Precision)),
    default="f32",
    help="Precision of the weights; f16 for tflite only.",
)
@options.unsafe_option
@options.overwrite_option
@json_option("Print the result of the check as JSON.")
@options.console_options
def command(
    out: str,
    model: str | None,
    format_name: WritableName | None,
    kind: Kind,
    precision: Precision,
    allow_unsafe_ops: bool,
    overwrite: bool,
    as_json: bool,
    console: Console,
) -> None:
    """Write a model in another format, and check the result against the model.

    OUT is a folder for tf1-hub and saved-model, else a file with the suffix .keras, .tflite, .onnx
    or .xml (openvino, which also writes a .bin). The result is run by its own runtime on probe
    images. The largest difference from the model's own outputs is printed; if it is over 1e-4,
    nothing is kept. With --precision f16, at least 90 % of the images must have the same best
    class.
    """
    from nasnet_cli.models.formats.table import WRITABLE, format_for

    path = Path(out)
    if path.name in ("", ".."):
        raise click.UsageError(f"{out!r} is not a name for a new file or folder.")
    chosen = WRITABLE[format_name] if format_name else format_for(path.name)
    if chosen is None:
        raise click.UsageError(f"{out!r} has no suffix of a format; name the format with --format.")
    if not path.name.endswith(chosen.suffix) or path.name == chosen.suffix:
        raise click.UsageError(f"The name of {chosen.title} must end in {chosen.suffix}.")
    if precision not in chosen.precisions:
        raise click.UsageError(f"{chosen.name} is written in f32 only; f16 is for tflite.")

    from nasnet_cli.models.export import export
    from nasnet_cli.models.resolve import resolve

    with ConsoleListener(console) as listener:
        source = resolve(model, listener, runnable=False)
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
        settings = {"path": out, "format": chosen.name, "kind": kind, "precision": precision}
        print_json({**settings, **asdict(check)})
        return
    line = f"{out}: largest difference {check.largest_difference:.2g} on {check.pictures} images"
    if check.tolerance is None:
        line += f", the same best class on {100 * check.agreement:.0f} %"
    else:
        line += f" (tolerance {check.tolerance:.2g})"
    print_line(line)
