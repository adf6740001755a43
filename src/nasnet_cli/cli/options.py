"""Options that commands share: from Click's parameters to typed objects.

Each group of options is a frozen dataclass, and a decorator that adds the options to a command and
passes it the object: a command never sees a dictionary. Help shows the options in SECTIONS, after
three examples.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, TypeVar

import click

from nasnet_cli.cli.console import Console

if TYPE_CHECKING:
    from nasnet_cli.jobs.state import Check
    from nasnet_cli.results.npy import VectorType
    from nasnet_cli.runtime.base import Precision, RuntimeName

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]
Value = TypeVar("Value", bound=str)

BASIC, OUTPUT, MODEL = "Basic options", "Output options", "Model options"
LARGE, ADVANCED = "Large jobs", "Advanced options"
SECTIONS = (BASIC, OUTPUT, MODEL, LARGE, ADVANCED)


class Option(click.Option):
    """An option that help shows in a section."""

    def __init__(self, *args: Any, section: str, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.section = section


class Command(click.Command):
    """A command whose help has examples, and its options in sections."""

    examples: Sequence[str] = ()

    def format_help_text(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        summary, _, rest = inspect.cleandoc(self.help or "").partition("\n\n")
        formatter.write_paragraph()
        with formatter.indentation():
            formatter.write_text(summary)
        if self.examples:
            with formatter.section("Examples"):
                for example in self.examples:
                    formatter.write(f"{'':{formatter.current_indent}}{example}\n")
        if rest:
            formatter.write_paragraph()
            with formatter.indentation():
                formatter.write_text(rest)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        sections: dict[str, list[tuple[str, str]]] = {name: [] for name in SECTIONS}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None and isinstance(parameter, click.Option):
                sections[getattr(parameter, "section", BASIC)].append(record)
        for name, records in sections.items():
            if records:
                with formatter.section(name):
                    formatter.write_dl(records)


def command(*examples: str) -> Callable[[Callable[..., Any]], Command]:
    """Make a command of a function, with examples for its help."""

    def decorate(function: Callable[..., Any]) -> Command:
        made = click.command(cls=Command)(function)
        made.examples = examples
        return made

    return decorate


def option(*names: str, section: str = BASIC, **settings: Any) -> Decorator:
    """Add an option to a command, in a section of its help; settings are Click's."""
    return click.option(*names, cls=Option, section=section, **settings)


def _gathered(name: str, kind: Callable[..., Any], *decorators: Decorator) -> Decorator:
    """Add a group of options to a command, passed as one object that kind makes of them."""
    names = inspect.signature(kind).parameters

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def call(**parameters: Any) -> Any:
            own = {key: parameters.pop(key) for key in names}
            return function(**parameters, **{name: kind(**own)})

        decorated: Callable[..., Any] = call
        for decorator in reversed(decorators):
            decorated = decorator(decorated)
        return decorated

    return decorate


@dataclass(frozen=True)
class InputOptions:
    """Which images: paths, a file that lists more, and limits to what is read."""

    paths: tuple[str, ...]
    list_file: BinaryIO | None
    recursive: bool
    max_pixels: int
    max_bytes: int


input_options = _gathered(
    "inputs",
    InputOptions,
    click.argument("paths", nargs=-1, type=click.Path()),
    option(
        "--from",
        "list_file",
        type=click.File("rb"),
        metavar="FILE",
        help="Read paths from FILE, one per line or NUL-separated; - reads standard input.",
    ),
    option(
        "--recursive/--no-recursive",
        default=True,
        help="Search subfolders.  [default: recursive]",
    ),
    option(
        "--max-pixels",
        type=click.IntRange(min=1),
        default=200_000_000,
        show_default=True,
        metavar="N",
        section=ADVANCED,
        help="Report an error for images with more pixels.",
    ),
    option(
        "--max-bytes",
        type=click.IntRange(min=1),
        default=1 << 30,
        show_default=True,
        metavar="N",
        section=ADVANCED,
        help="Report an error for files with more bytes.",
    ),
)


@dataclass(frozen=True)
class ModelOptions:
    """Which model, and what runs it."""

    model: str | None
    runtime: RuntimeName | None
    precision: Precision
    allow_unsafe_ops: bool


model_option = option(
    "-m",
    "--model",
    metavar="MODEL",
    section=MODEL,
    help="Model to use: a TF Hub module or SavedModel (folder or .tar.gz), a Keras, ONNX, TFLite "
    "or OpenVINO file, a TF-Slim checkpoint, a published name such as imagenet-mobile, or an "
    "https handle.  [default: the built-in model]",
)

unsafe_option = option(
    "--allow-unsafe-ops",
    is_flag=True,
    section=ADVANCED,
    help="Run models that can access files or the network, or run other code.",
)

model_options = _gathered(
    "model",
    ModelOptions,
    model_option,
    option(
        "--runtime",
        type=click.Choice(["openvino", "tensorflow"]),
        section=MODEL,
        help="Inference runtime.  [default: openvino; tensorflow for models that OpenVINO cannot "
        "read]",
    ),
    option(
        "--precision",
        type=click.Choice(["f32", "bf16"]),
        default="f32",
        show_default=True,
        section=MODEL,
        help="Inference precision; bf16 is faster on CPUs that support it and slightly less "
        "accurate.",
    ),
    unsafe_option,
)


@dataclass(frozen=True)
class PreprocessingOptions:
    """Changes to the model's own preprocessing; None changes nothing."""

    resize: Literal["stretch", "crop", "pad"] | None = None
    crop_fraction: float | None = None
    resample: str | None = None

    @property
    def changes(self) -> dict[str, str | float]:
        """The settings that are given, by their names."""
        return {name: value for name, value in vars(self).items() if value is not None}


preprocessing_options = _gathered(
    "preprocessing",
    PreprocessingOptions,
    option(
        "--resize",
        type=click.Choice(["stretch", "crop", "pad"]),
        section=MODEL,
        help="Fit images to the model's shape by stretching, cropping or padding.  "
        "[default: the model's own]",
    ),
    option(
        "--crop-fraction",
        type=click.FloatRange(0, 1, min_open=True),
        metavar="F",
        section=MODEL,
        help="Use only the central fraction of each side.  [default: the model's own]",
    ),
    option(
        "--resample",
        type=click.Choice(["bilinear", "bicubic", "box", "lanczos", "hamming", "nearest", "tf1"]),
        section=MODEL,
        help="Resampling filter; tf1 is TensorFlow 1's bilinear.  [default: the model's own]",
    ),
)


@dataclass(frozen=True)
class LabelOptions:
    """What classify reports for an image."""

    top: int = 5
    threshold: float = 0.0
    logits: bool = False
    labels: str | None = None


label_options = _gathered(
    "labels",
    LabelOptions,
    option(
        "--top",
        type=click.IntRange(min=1),
        default=LabelOptions.top,
        show_default=True,
        metavar="K",
        help="Number of labels per image.",
    ),
    option(
        "--threshold",
        type=click.FloatRange(0, 1),
        default=LabelOptions.threshold,
        show_default=True,
        metavar="P",
        help="Leave out labels with a lower probability.",
    ),
    option("--logits", is_flag=True, section=OUTPUT, help="Include the raw output of the model."),
    option(
        "--labels",
        type=click.Path(),
        metavar="FILE",
        section=MODEL,
        help="Read class names from FILE: text with one per line, TSV, CSV or JSON.  "
        "[default: the model's own]",
    ),
)


@dataclass(frozen=True)
class VectorOptions:
    """How feature vectors are written."""

    normalize: bool = False
    dtype: VectorType = "float32"


vector_options = _gathered(
    "vectors",
    VectorOptions,
    option(
        "--normalize", is_flag=True, section=OUTPUT, help="Scale feature vectors to unit length."
    ),
    option(
        "--dtype",
        type=click.Choice(["float32", "float16"]),
        default=VectorOptions.dtype,
        show_default=True,
        section=OUTPUT,
        help="Data type of feature vectors.",
    ),
)


@dataclass(frozen=True)
class OutputOptions:
    """Where results go; without out, to standard output."""

    out: str | None
    format_: str | None
    overwrite: bool

    def named_format(self, formats: Sequence[Value]) -> Value | None:
        """Return the one of formats that --format names."""
        return _member(formats, self.format_)

    def chosen_format(self, formats: Sequence[Value]) -> Value:
        """Return the one of formats that --format, out's extension or standard output asks for.

        formats[0] is table. Raises click.UsageError.
        """
        if self.format_ is not None:
            name: str | None = self.format_
        elif self.out is None:
            name = "table" if sys.stdout.isatty() else "jsonl"
        else:
            from nasnet_cli.results.writers import format_of

            name = format_of(self.out, formats[1:])  # no file ends in .table
        format_ = _member(formats, name)
        if format_ is None:
            raise click.UsageError(
                f"The extension of {self.out!r} names no format. Add --format {'|'.join(formats)}."
            )
        return format_


def _member(formats: Sequence[Value], name: str | None) -> Value | None:
    """Return the one of formats with a name: the same string, of the formats' own type."""
    return next((format_ for format_ in formats if format_ == name), None)


overwrite_option = option(
    "--overwrite", is_flag=True, section=OUTPUT, help="Replace existing output."
)


def out_option(help_: str, required: bool) -> Decorator:
    """Add --out to a command."""
    return option(
        "-o",
        "--out",
        type=click.Path(),
        metavar="FILE",
        required=required,
        section=OUTPUT,
        help=help_,
    )


def output_options(formats: Sequence[str]) -> Decorator:
    """Add --out, --format and --overwrite, for results that can also go to standard output."""
    return _gathered(
        "output",
        OutputOptions,
        out_option(
            "Write results to FILE, and how they were made to FILE.meta.json. Files appear only "
            "when complete.  [default: standard output]",
            required=False,
        ),
        option(
            "--format",
            "format_",
            type=click.Choice(formats),
            section=OUTPUT,
            help="Output format.  [default: from FILE's extension; without FILE, table on a "
            "terminal, else jsonl]",
        ),
        overwrite_option,
    )


def file_options(formats: Sequence[str], help_: str) -> Decorator:
    """Add --out, --format and --overwrite, for results that need a file."""
    return _gathered(
        "output",
        OutputOptions,
        out_option(help_, required=True),
        option(
            "--format",
            "format_",
            type=click.Choice(formats),
            section=OUTPUT,
            help="Output format.  [default: from FILE's extension; with shards, npy]",
        ),
        overwrite_option,
    )


@dataclass(frozen=True)
class ResumeOptions:
    """How an interrupted run goes on."""

    resume: bool
    check: Check


resume_options = _gathered(
    "resuming",
    ResumeOptions,
    option(
        "--resume",
        is_flag=True,
        section=LARGE,
        help="Continue an interrupted run of FILE; process only what is missing or has changed.",
    ),
    option(
        "--check",
        type=click.Choice(["stat", "content"]),
        default="stat",
        show_default=True,
        section=LARGE,
        help="How --resume detects changed files: by size and modification time, or by content.",
    ),
)


@dataclass(frozen=True)
class ShardOptions:
    """How a job is split into shards, and what runs them."""

    shards: int | None
    shard_size: int | None
    engine: Literal["local", "ray"]
    ray_address: str | None
    workers_per_node: int
    retries: int

    @property
    def wanted(self) -> bool:
        """Whether the job is to be split. Raises click.UsageError for a contradiction."""
        counts = [self.shards, self.shard_size]
        if all(counts):
            raise click.UsageError("Use either --shards or --shard-size.")
        if not any(counts) and self.engine != "local":
            raise click.UsageError("--engine needs --shards or --shard-size.")
        return any(counts)


shard_options = _gathered(
    "shards",
    ShardOptions,
    option(
        "--shards",
        type=click.IntRange(min=1),
        metavar="N",
        section=LARGE,
        help="Split the job into N shards, written to the folder that --out names. Run the same "
        "command again to process unfinished shards.",
    ),
    option(
        "--shard-size",
        type=click.IntRange(min=1),
        metavar="N",
        section=LARGE,
        help="Split the job into shards of N images.",
    ),
    option(
        "--engine",
        type=click.Choice(["local", "ray"]),
        default="local",
        show_default=True,
        section=LARGE,
        help="Run shards in this process or on a Ray cluster.",
    ),
    option(
        "--ray-address",
        metavar="ADDRESS",
        section=LARGE,
        help="Ray cluster to connect to.  [default: RAY_ADDRESS, or start one on this machine]",
    ),
    option(
        "--workers-per-node",
        type=click.IntRange(min=1),
        default=1,
        show_default=True,
        metavar="N",
        section=LARGE,
        help="Worker processes on each Ray node; each loads the model.",
    ),
    option(
        "--retries",
        type=click.IntRange(min=0),
        default=2,
        show_default=True,
        metavar="N",
        section=LARGE,
        help="How often Ray retries a shard whose worker failed or died.",
    ),
)


@dataclass(frozen=True)
class SpeedOptions:
    """How much is decoded at once; results do not depend on it."""

    workers: int | None
    batch_size: int


speed_options = _gathered(
    "speed",
    SpeedOptions,
    option(
        "--workers",
        type=click.IntRange(min=1, max=256),
        metavar="N",
        section=ADVANCED,
        help="Number of decoding threads.  [default: number of CPUs + 2]",
    ),
    option(
        "--batch-size",
        type=click.IntRange(min=1, max=4096),
        default=256,
        show_default=True,
        metavar="N",
        section=ADVANCED,
        help="Number of images decoded ahead of the model. Does not affect results.",
    ),
)

quiet_option = option("-q", "--quiet", is_flag=True, help="Print errors only.")
verbose_option = option("-v", "--verbose", is_flag=True, help="Print details.")

console_options = _gathered("console", Console, quiet_option, verbose_option)
