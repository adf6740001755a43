"""Options that commands share: from Click's parameters to typed objects.

Each group of options is a named tuple (a dataclass takes a millisecond to make), and a decorator
that adds the options to a command and passes it the tuple: a command never sees a dictionary. Those
of large jobs are in job_options.py.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, BinaryIO, Literal, NamedTuple

import click

from nasnet_cli.cli.console import Console
from nasnet_cli.cli.sections import ADVANCED, MODEL, OUTPUT, Decorator, gathered, option
from nasnet_cli.results.formats import FormatName, format_by_ending

if TYPE_CHECKING:
    from nasnet_cli.results.npy import VectorType
    from nasnet_cli.runtime.base import Precision, RuntimeName


class InputOptions(NamedTuple):
    """Which images: paths, a file that lists more, and limits to what is read."""

    paths: tuple[str, ...]
    list_file: BinaryIO | None
    recursive: bool
    max_pixels: int
    max_bytes: int


input_options = gathered(
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


class ModelOptions(NamedTuple):
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

model_options = gathered(
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


class PreprocessingOptions(NamedTuple):
    """Changes to the model's own preprocessing; None changes nothing."""

    resize: Literal["stretch", "crop", "pad"] | None = None
    crop_fraction: float | None = None
    resample: str | None = None

    @property
    def changes(self) -> dict[str, str | float]:
        """The settings that are given, by their names."""
        return {name: value for name, value in self._asdict().items() if value is not None}


preprocessing_options = gathered(
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


class LabelOptions(NamedTuple):
    """Settings for the labels of an image."""

    top: int = 5
    threshold: float = 0.0
    logits: bool = False
    sure: float = 0.5
    labels: str | None = None


label_options = gathered(
    "labels",
    LabelOptions,
    option(
        "--top",
        type=click.IntRange(min=1),
        default=LabelOptions().top,
        show_default=True,
        metavar="K",
        help="Number of labels per image.",
    ),
    option(
        "--threshold",
        type=click.FloatRange(0, 1),
        default=LabelOptions().threshold,
        show_default=True,
        metavar="P",
        help="Leave out labels with a lower probability.",
    ),
    option(
        "--sure",
        type=click.FloatRange(0, 1),
        default=LabelOptions().sure,
        show_default=True,
        metavar="P",
        help="Minimum probability of the everyday label, the most specific one (golden retriever, "
        "dog, animal) that reaches it.",
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


class VectorOptions(NamedTuple):
    """Settings for feature vectors."""

    normalize: bool = False
    dtype: VectorType = "float32"


vector_options = gathered(
    "vectors",
    VectorOptions,
    option(
        "--normalize", is_flag=True, section=OUTPUT, help="Scale feature vectors to unit length."
    ),
    option(
        "--dtype",
        type=click.Choice(["float32", "float16"]),
        default=VectorOptions().dtype,
        show_default=True,
        section=OUTPUT,
        help="Data type of feature vectors.",
    ),
)


class OutputOptions(NamedTuple):
    """The file and format of results; without out, they go to standard output."""

    out: str | None
    format_: str | None
    overwrite: bool

    def named_format(self, formats: Sequence[FormatName]) -> FormatName | None:
        """Return the one of formats that --format names."""
        return next((format_ for format_ in formats if format_ == self.format_), None)

    def chosen_format(self, formats: Sequence[FormatName]) -> FormatName:
        """Return the one of formats that --format, out's extension or standard output asks for.

        formats[0] is table. Raises click.UsageError.
        """
        format_ = self.named_format(formats)
        if format_ is None and self.out is None:
            return "table" if sys.stdout.isatty() else "jsonl"
        if format_ is None and self.out is not None:
            format_ = format_by_ending(self.out, formats)
        if format_ is None:
            raise click.UsageError(
                f"The extension of {self.out!r} names no format. Add --format {'|'.join(formats)}."
            )
        return format_


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
    return gathered(
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
    return gathered(
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


quiet_option = option("-q", "--quiet", is_flag=True, help="Print errors only.")
verbose_option = option("-v", "--verbose", is_flag=True, help="Print details.")

console_options = gathered("console", Console, quiet_option, verbose_option)
