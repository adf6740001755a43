"""Options that commands share: from Click's parameters to typed objects.

A decorator adds a group of options to a command and passes it one object that is made of them: a
command never sees a dictionary. Groups that belong to the command line alone are named tuples (a
dataclass takes a millisecond to make).
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, NamedTuple

import click

from nasnet_cli.cli.console import Console
from nasnet_cli.cli.model_names import model_option
from nasnet_cli.cli.sections import (
    ADVANCED,
    MODEL,
    OUTPUT,
    Decorator,
    gathered,
    option,
    path_option,
)
from nasnet_cli.jobs.spec import JobSpec, RunOptions
from nasnet_cli.results.formats import FormatName, format_by_ending

if TYPE_CHECKING:
    from nasnet_cli.results.reading import LabelFile

advanced = partial(option, section=ADVANCED)
of_model, of_output = partial(option, section=MODEL), partial(option, section=OUTPUT)
COUNT = click.IntRange(min=1)
DEFAULTS = JobSpec(())


class NumberRange(click.FloatRange):
    """A range of numbers. NaN is in none, although it is neither under nor over its ends."""

    def convert(
        self, value: Any, param: click.Parameter | None, context: click.Context | None
    ) -> float:
        """Return the number; fail with a usage error."""
        number: float = super().convert(value, param, context)
        if math.isnan(number):
            self.fail(f"{value!r} is not a number.", param, context)
        return number


FRACTION = NumberRange(0, 1, min_open=True)
PROBABILITY = NumberRange(0, 1)


class InputOptions(NamedTuple):
    """The images to use: paths, and a file that lists more."""

    paths: tuple[str, ...]
    list_file: BinaryIO | None
    recursive: bool
    exclude: tuple[str, ...] = ()


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
    option("--recursive/--no-recursive", default=True, help="Search subfolders."),
    option(
        "--exclude",
        multiple=True,
        metavar="GLOB",
        help="Skip files and folders whose name matches GLOB or, if GLOB has a slash, whose path "
        "below the named folder does. Can be repeated.",
    ),
)


unsafe_option = advanced(
    "--allow-unsafe-ops",
    is_flag=True,
    help="Run models that can access files or the network, or run other code.",
)

_limit_and_model_options = (
    advanced(
        "--max-pixels",
        type=COUNT,
        default=DEFAULTS.max_pixels,
        metavar="N",
        help="Report an error for images with more pixels.",
    ),
    advanced(
        "--max-bytes",
        type=COUNT,
        default=DEFAULTS.max_bytes,
        metavar="N",
        help="Report an error for files with more bytes.",
    ),
    model_option,
    of_model(
        "--runtime",
        envvar="NASNET_RUNTIME",
        type=click.Choice(["openvino", "tensorflow"]),
        help="Inference runtime.  [default: openvino; tensorflow for models that OpenVINO cannot "
        "read]",
    ),
    of_model(
        "--precision",
        type=click.Choice(["f32", "bf16"]),
        default=DEFAULTS.precision,
        help="Inference precision; bf16 is faster on CPUs that support it and slightly less "
        "accurate.",
    ),
    unsafe_option,
)

preprocessing_options = (
    of_model(
        "--resize",
        type=click.Choice(["stretch", "crop", "pad"]),
        help="Fit images to the model's input size by stretching, cropping or padding.  "
        "[default: the model's own]",
    ),
    of_model(
        "--crop-fraction",
        type=FRACTION,
        metavar="F",
        help="Use only the central fraction of each side.  [default: the model's own]",
    ),
    of_model(
        "--resample",
        type=click.Choice(["bilinear", "bicubic", "box", "lanczos", "hamming", "nearest", "tf1"]),
        help="Resampling filter; tf1 is TensorFlow 1's bilinear.  [default: the model's own]",
    ),
    of_model(
        "--input-range",
        type=click.Choice(["0..1", "-1..1", "0..255", "imagenet"]),
        help="Range of pixel values that the model expects; imagenet subtracts ImageNet's mean "
        "and divides by its standard deviation.  [default: what the model says, else 0..1]",
    ),
    of_model(
        "--channels",
        type=click.Choice(["rgb", "bgr"]),
        help="Order of channels that the model expects.  [default: what the model says, else rgb]",
    ),
)

sure_option = option(
    "--sure",
    type=PROBABILITY,
    default=DEFAULTS.sure,
    metavar="P",
    help="Minimum probability of the everyday label, which is the most specific class (golden "
    "retriever, dog, animal) that reaches it.",
)

labels_option = of_model(
    "--labels",
    type=click.Path(),
    metavar="FILE",
    help="Read class names from FILE: text with one per line, TSV, CSV or JSON.  "
    "[default: the model's own]",
)

label_options = (
    option(
        "--top",
        type=COUNT,
        default=DEFAULTS.top,
        metavar="K",
        help="Number of labels per image.",
    ),
    option(
        "--threshold",
        type=PROBABILITY,
        default=DEFAULTS.threshold,
        metavar="P",
        help="Leave out labels with a lower probability.",
    ),
    sure_option,
    of_output("--logits", is_flag=True, help="Include the raw outputs of the model."),
    labels_option,
)

vector_options = (
    of_output("--normalize", is_flag=True, help="Scale feature vectors to unit length."),
    of_output(
        "--dtype",
        type=click.Choice(["float32", "float16"]),
        default=DEFAULTS.dtype,
        help="Data type of feature vectors.",
    ),
)


def spec_options(kind: Literal["labels", "vectors"], *decorators: Decorator) -> Decorator:
    """Add the options of a job's specification: of its limits, its model, and some more.

    The command gets them as a JobSpec that makes one kind of results.
    """

    def spec(
        resize: str | None = None,
        crop_fraction: float | None = None,
        resample: str | None = None,
        input_range: str | None = None,
        channels: str | None = None,
        **fields: Any,
    ) -> JobSpec:
        changes = {
            "resize": resize,
            "crop_fraction": crop_fraction,
            "resample": resample,
            "input_range": input_range,
            "channels": channels,
        }
        changed = {name: value for name, value in changes.items() if value is not None}
        return JobSpec((kind,), preprocessing=changed, **fields)

    return gathered("spec", spec, *_limit_and_model_options, *decorators)


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


overwrite_option = of_output("--overwrite", is_flag=True, help="Replace existing output.")


def out_option(help_: str, required: bool) -> Decorator:
    """Add --out to a command."""
    return of_output(
        "-o", "--out", type=click.Path(), metavar="FILE", required=required, help=help_
    )


def output_options(
    formats: Sequence[str],
    out_help: str = "Write results to FILE, and how they were made to FILE.meta.json. Files appear "
    "only when complete.  [default: standard output]",
    default_format: str = "from FILE's extension; without FILE, table on a terminal, else jsonl",
    required: bool = False,
) -> Decorator:
    """Add --out, --format and --overwrite; by default, results can also go to standard output."""
    return gathered(
        "output",
        OutputOptions,
        out_option(out_help, required),
        of_output(
            "--format",
            "format_",
            type=click.Choice(formats),
            help=f"Output format.  [default: {default_format}]",
        ),
        overwrite_option,
    )


workers_option = advanced(
    "--workers",
    envvar="NASNET_WORKERS",
    type=click.IntRange(min=1, max=256),
    metavar="N",
    help="Number of decoding threads.  [default: number of CPUs + 2]",
)
speed_decorators = (
    workers_option,
    advanced(
        "--batch-size",
        type=click.IntRange(min=1, max=4096),
        default=256,
        metavar="N",
        help="Number of images decoded ahead of the model. Does not affect results.",
    ),
)
speed_options = gathered("run", RunOptions, *speed_decorators)


quiet_option = option("-q", "--quiet", is_flag=True, help="Print errors only.")
verbose_option = option("-v", "--verbose", is_flag=True, help="Print details.")

console_options = gathered("console", Console, quiet_option, verbose_option)

results_argument = click.argument("results", type=click.Path())


def base_option_for(paths: str) -> Decorator:
    """Add --base to a command whose input has the paths named."""
    text = f"Folder that relative paths {paths} start from.  [default: the current folder]"
    return path_option("--base", help=text)


base_option = base_option_for("in RESULTS")


def open_results(results: str) -> LabelFile:
    """Open the labels that RESULTS names; - is standard input. Raises NasnetError."""
    from nasnet_cli.results.reading import LabelFile

    return LabelFile(results, sys.stdin.buffer if results == "-" else None)
