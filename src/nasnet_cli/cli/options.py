"""Options that several commands share, under the same names everywhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])


def _together(*decorators: Callable[[Command], Command]) -> Callable[[Command], Command]:
    def decorate(command: Command) -> Command:
        for decorator in reversed(decorators):
            command = decorator(command)
        return command

    return decorate


model_option = click.option(
    "-m",
    "--model",
    metavar="MODEL",
    help="A module's folder or .tar.gz, a TF-Slim checkpoint, a Keras, ONNX, TFLite or OpenVINO "
    "file; imagenet-mobile or another published name; an https handle.  "
    "[default: the built-in model]",
)

unsafe_option = click.option(
    "--allow-unsafe-ops",
    is_flag=True,
    help="Run a model even if it could touch files, the network or run code.",
)

input_options = _together(
    click.argument("paths", nargs=-1, type=click.Path()),
    click.option(
        "--from",
        "list_file",
        type=click.File("rb"),
        metavar="FILE",
        help="Read more paths from FILE, a line each or NUL-separated; - is standard input.",
    ),
    click.option(
        "--recursive/--no-recursive",
        default=True,
        help="Go into folders' folders.  [default: recursive]",
    ),
    click.option(
        "--max-pixels",
        type=click.IntRange(min=1),
        default=200_000_000,
        show_default=True,
        help="A picture with more pixels is an error.",
    ),
    click.option(
        "--max-bytes",
        type=click.IntRange(min=1),
        default=1 << 30,
        show_default=True,
        help="A file with more bytes is an error.",
    ),
)

preprocessing_options = _together(
    click.option(
        "--resize",
        type=click.Choice(["stretch", "crop", "pad"]),
        help="How a picture takes the model's shape.  [default: the model's own way]",
    ),
    click.option(
        "--crop-fraction",
        type=click.FloatRange(0, 1, min_open=True),
        help="Central part of each side to look at.  [default: the model's own]",
    ),
    click.option(
        "--resample",
        type=click.Choice(["bilinear", "bicubic", "box", "lanczos", "hamming", "nearest", "tf1"]),
        help="How pixels are made from pixels; tf1 is TensorFlow 1's bilinear.  "
        "[default: the model's own]",
    ),
)

output_options = _together(
    click.option(
        "-o",
        "--out",
        type=click.Path(),
        metavar="FILE",
        help="Write to FILE, whole or not at all, with FILE.meta.json beside it.  "
        "[default: standard output]",
    ),
    click.option("--overwrite", is_flag=True, help="Replace FILE if it is there."),
)

runtime_options = _together(
    click.option(
        "--runtime",
        type=click.Choice(["openvino", "tensorflow"]),
        help="What runs the model.  [default: openvino, or tensorflow for what that can't read]",
    ),
    click.option(
        "--precision",
        type=click.Choice(["auto", "f32", "bf16"]),
        default="auto",
        show_default=True,
        help="Of the model's sums; bf16 is faster where the processor has it, and less exact. "
        "auto is f32.",
    ),
    unsafe_option,
)

talk_options = _together(
    click.option("-q", "--quiet", is_flag=True, help="Say nothing but errors."),
    click.option("-v", "--verbose", is_flag=True, help="Say more."),
)

run_options = _together(
    click.option(
        "--workers",
        type=click.IntRange(min=1, max=256),
        help="Threads that decode pictures.  [default: one for each processor]",
    ),
    click.option(
        "--batch-size",
        type=click.IntRange(min=1, max=4096),
        default=64,
        show_default=True,
        metavar="N",
        help="Pictures decoded ahead of the model. Results don't depend on it.",
    ),
    talk_options,
)
