"""A source's way to an array of pixels: what the pipeline's decoding threads call."""

from __future__ import annotations

import functools
import io
from contextlib import ExitStack
from dataclasses import dataclass
from typing import BinaryIO

from nasnet_cli.images.decode import MAX_PIXELS, decode
from nasnet_cli.images.files import MAX_BYTES, Source, explain_os_error, read_up_to
from nasnet_cli.images.pixel_budget import PixelBudget
from nasnet_cli.images.preprocess import Pixels, Preprocessing, needed_size, preprocess
from nasnet_cli.timings import Timings

# Files up to this many bytes are read at once and then decoded, larger ones while they are decoded.
_WHOLE_BYTES = 1 << 24


@dataclass(frozen=True, slots=True)
class Limits:
    """Inputs above these are too_large: pixels of the picture, bytes of its file or member."""

    max_pixels: int = MAX_PIXELS
    max_bytes: int = MAX_BYTES


def load(
    source: Source,
    preprocessing: Preprocessing,
    limits: Limits | None = None,
    budget: PixelBudget | None = None,
    timings: Timings | None = None,
) -> Pixels:
    """Reads, decodes and preprocesses one input: the array [height, width, 3] of preprocess.

    Safe from any thread. Waits while pictures that share the budget have used it up. Raises
    InputError of any kind but timeout and crashed.
    """
    limits = limits or Limits()
    budget = budget or PixelBudget()
    timings = timings or Timings()
    needed = functools.partial(needed_size, preprocessing=preprocessing)
    with ExitStack() as held:
        with timings.spent("read"):
            stream = _read(held.enter_context(source.open(limits.max_bytes)))
        with timings.spent("decode"):
            # The picture has no name here: it must be gone before its pixels are free to others.
            return preprocess(
                decode(
                    stream,
                    max_pixels=limits.max_pixels,
                    needed_size=needed,
                    reserve=lambda pixels: held.enter_context(budget.hold(pixels)),
                ),
                preprocessing,
            )


def _read(stream: BinaryIO) -> BinaryIO:
    """The same stream, from memory unless it is large."""
    if isinstance(stream, io.BytesIO):
        return stream
    try:
        content = read_up_to(stream, _WHOLE_BYTES + 1)
        if len(content) <= _WHOLE_BYTES:
            return io.BytesIO(content)
        stream.seek(0)
    except OSError as error:
        raise explain_os_error(error) from error
    return stream
