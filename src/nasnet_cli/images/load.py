"""A source's way to an array of pixels: what the pipeline's decoding threads call."""

from __future__ import annotations

import functools
import io
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import BinaryIO

from nasnet_cli.images.decode import MAX_PIXELS, decode
from nasnet_cli.images.formats import HEAD_BYTES, signature
from nasnet_cli.images.isolated import COMMON_FORMATS, DecoderPool
from nasnet_cli.images.pixel_budget import PixelBudget
from nasnet_cli.images.preprocess import Pixels, Preprocessing, needed_size, preprocess
from nasnet_cli.images.source import (
    MAX_BYTES,
    WHOLE_BYTES,
    Source,
    explain_os_error,
    read_up_to,
)
from nasnet_cli.timings import Timings


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
    decoders: DecoderPool | None = None,
    timings: Timings | None = None,
) -> Pixels:
    """Reads, decodes and preprocesses one input: the array [height, width, 3] of preprocess.

    Safe from any thread. Waits while pictures that share the budget have used it up. A picture of
    an uncommon format is decoded by decoders, or else by a process for it alone. Raises InputError
    of any kind.
    """
    limits = limits or Limits()
    budget = budget or PixelBudget()
    timings = timings or Timings()
    with ExitStack() as held:

        def reserve(pixels: int) -> None:
            held.enter_context(budget.hold(pixels))

        with timings.spent("read"):
            stream = held.enter_context(source.open(limits.max_bytes))
            is_common = _is_common(stream)
        with timings.spent("decode"):
            if is_common:
                return pixels_of(
                    stream, preprocessing, max_pixels=limits.max_pixels, reserve=reserve
                )
            return (decoders or held.enter_context(DecoderPool())).load(
                stream,
                preprocessing,
                max_pixels=limits.max_pixels,
                reserve=reserve,
                spent=functools.partial(timings.add, "decode"),
            )


def pixels_of(
    stream: BinaryIO,
    preprocessing: Preprocessing,
    *,
    max_pixels: int,
    reserve: Callable[[int], object],
) -> Pixels:
    """Decodes and preprocesses the picture in a stream, with the errors of decode."""
    # The picture has no name here: it must be gone before its pixels are free to others.
    return preprocess(
        decode(
            stream,
            max_pixels=max_pixels,
            needed_size=functools.partial(needed_size, preprocessing=preprocessing),
            reserve=reserve,
        ),
        preprocessing,
    )


def in_memory(stream: BinaryIO) -> BinaryIO:
    """The same stream, from memory unless it is large. Raises InputError: unreadable."""
    if isinstance(stream, io.BytesIO):
        return stream
    try:
        content = read_up_to(stream, WHOLE_BYTES + 1)
        if len(content) <= WHOLE_BYTES:
            return io.BytesIO(content)
        stream.seek(0)
    except OSError as error:
        raise explain_os_error(error) from error
    return stream


def _is_common(stream: BinaryIO) -> bool:
    """Whether a stream's picture is for this process: of a common format, or nothing at all."""
    try:
        head = stream.read(HEAD_BYTES)
        stream.seek(0)
    except OSError as error:
        raise explain_os_error(error) from error
    return not head or signature(head) in COMMON_FORMATS
