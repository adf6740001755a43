"""Options that several commands share, under the same names everywhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
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

overwrite_option = click.option("--overwrite", is_flag=True, help="Replace FILE if it is there.")

output_options = _together(
    click.option(
        "-o",
        "--out",
        type=click.Path(),
        metavar="FILE",
        help="Write to FILE, whole or not at all, with FILE.meta.json beside it.  "
        "[default: standard output]",
    ),
    overwrite_option,
)

shard_options = _together(
    click.option(
        "--shards",
        type=click.IntRange(min=1),
        metavar="N",
        help="Do the pictures in N parts, of which each is done or not, into the folder that --out "
        "names. The same command again does what isn't done yet.",
    ),
    click.option(
        "--shard-size",
        type=click.IntRange(min=1),
        metavar="N",
        help="Like --shards, in parts of N pictures.",
    ),
    click.option(
        "--engine",
        type=click.Choice(["local", "ray"]),
        default="local",
        show_default=True,
        help="What does the shards: this process, or a Ray cluster.",
    ),
    click.option(
        "--ray-address",
        metavar="ADDRESS",
        help="A running cluster.  [default: RAY_ADDRESS, or one that is started on this machine]",
    ),
    click.option(
        "--workers-per-node",
        type=click.IntRange(min=1),
        default=1,
        show_default=True,
        help="Processes with a model of their own on each of Ray's nodes.",
    ),
    click.option(
        "--retries",
        type=click.IntRange(min=0),
        default=2,
        show_default=True,
        help="How often Ray tries a shard again whose worker died or failed.",
    ),
)

vector_options = _together(
    click.option("--normalize", is_flag=True, help="Make every vector of unit length."),
    click.option(
        "--dtype",
        type=click.Choice(["float32", "float16"]),
        default="float32",
        show_default=True,
        help="Type of the numbers in a vector.",
    ),
)

resume_options = _together(
    click.option(
        "--resume",
        is_flag=True,
        help="Go on with a run of FILE that was interrupted; do only what is missing or changed.",
    ),
    click.option(
        "--check",
        type=click.Choice(["stat", "content"]),
        default="stat",
        show_default=True,
        help="What tells --resume that a picture has changed: its file's size and time, or its "
        "bytes.",
    ),
)


def format_option(formats: Sequence[str]) -> Callable[[Command], Command]:
    """--format of a command that shows its results on a terminal; formats[0] is table."""
    return click.option(
        "--format",
        "format_",
        type=click.Choice(formats),
        help="[default: by FILE's ending; a table on a terminal, else jsonl]",
    )


def chosen_format(given: Mapping[str, Any], formats: Sequence[str]) -> Any:
    """The format that was named, or that the output's ending or standard output asks for."""
    named, out = given["format_"], given["out"]
    if named is not None:
        return named
    if out is None:
        return "table" if sys.stdout.isatty() else "jsonl"
    from nasnet_cli.results.writers import format_of

    found = format_of(out, formats[1:])  # there is no file.table
    if found is None:
        raise click.UsageError(
            f"The ending of {out!r} names no format; add --format {'|'.join(formats)}."
        )
    return found


def wants_shards(given: Mapping[str, Any]) -> bool:
    """Whether the options of shard_options ask for shards.

    Raises click.UsageError where they contradict each other.
    """
    counts = [given["shards"], given["shard_size"]]
    if all(counts):
        raise click.UsageError("Use either --shards or --shard-size.")
    if not any(counts) and given["engine"] != "local":
        raise click.UsageError("--engine needs --shards or --shard-size.")
    return any(counts)


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
        help="Threads that decode pictures.  [default: two more than there are processors]",
    ),
    click.option(
        "--batch-size",
        type=click.IntRange(min=1, max=4096),
        default=256,
        show_default=True,
        metavar="N",
        help="Pictures decoded ahead of the model. Results don't depend on it.",
    ),
    talk_options,
)
