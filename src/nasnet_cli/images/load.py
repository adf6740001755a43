"""Loading: read, decode and preprocess one source, in a decoding thread of the pipeline."""

from __future__ import annotations

import functools
import io
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import BinaryIO

from nasnet_cli.errors import InputError, NasnetError, exhaustion
from nasnet_cli.images import webp
from nasnet_cli.images.decode import MAX_PIXELS, decode
from nasnet_cli.images.formats import HEAD_BYTES, signature
from nasnet_cli.images.isolated import COMMON_FORMATS, DecoderPool, PoolClosedError
from nasnet_cli.images.pixel_budget import PixelBudget
from nasnet_cli.images.preprocess import Pixels, Preprocessing, needed_size, preprocess
from nasnet_cli.images.source import (
    MAX_BYTES,
    WHOLE_BYTES,
    Source,
    explain_os_error,
    read_up_to,
)
from nasnet_cli.systems import can_send_descriptors
from nasnet_cli.timings import Timings

UNEXPECTED = "Its decoder fails in a way that nasnet does not know."


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits above which an input is too_large: pixels, and bytes of the file or member."""

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
    """Read, decode and preprocess one source to the array [height, width, 3] of preprocess.

    Thread-safe. Waits while other images use up the budget. An image in an uncommon format is
    decoded by decoders, or without them by a process of its own. Raises InputError of any kind:
    decode_failed for what else an image makes a decoder raise. Raises NasnetError where no process
    starts, or the system has run out of processes or file handles.
    """
    if source.pixels is not None:
        return source.pixels
    try:
        return _load(
            source,
            preprocessing,
            limits or Limits(),
            budget or PixelBudget(),
            decoders,
            timings or Timings(),
        )
    except (InputError, NasnetError, PoolClosedError):
        raise
    except MemoryError as error:
        raise InputError("too_large", "There is not enough memory to decode it.") from error
    except Exception as error:
        if exhausted := exhaustion(error):
            raise exhausted from error
        raise InputError("decode_failed", UNEXPECTED, type(error).__name__) from error


def _load(
    source: Source,
    preprocessing: Preprocessing,
    limits: Limits,
    budget: PixelBudget,
    decoders: DecoderPool | None,
    timings: Timings,
) -> Pixels:
    has_reserved = False
    with ExitStack() as stack:

        def reserve(pixels: int) -> None:
            nonlocal has_reserved
            if not has_reserved:  # by an attempt before this one
                stack.enter_context(budget.hold(pixels))
                has_reserved = True

        with timings.spent("read"):
            stream = stack.enter_context(source.open(limits.max_bytes))
            is_common = _is_common(stream)
        with timings.spent("decode"):
            if is_common or not can_send_descriptors():
                return decode_and_preprocess(
                    stream, preprocessing, max_pixels=limits.max_pixels, reserve=reserve
                )
            return (decoders or stack.enter_context(DecoderPool())).load(
                stream,
                preprocessing,
                max_pixels=limits.max_pixels,
                reserve=reserve,
                add_seconds=functools.partial(timings.add, "decode"),
            )


def decode_and_preprocess(
    stream: BinaryIO,
    preprocessing: Preprocessing,
    *,
    max_pixels: int,
    reserve: Callable[[int], object],
) -> Pixels:
    """Decode and preprocess the image in a stream. Raises InputError like decode."""
    # No variable keeps the decoded image: it must be freed before its budget is.
    return preprocess(
        decode(
            stream,
            max_pixels=max_pixels,
            needed_size=functools.partial(needed_size, preprocessing=preprocessing),
            reserve=reserve,
        ),
        preprocessing,
    )


def read_into_memory(stream: BinaryIO) -> BinaryIO:
    """Return the stream's content in memory, or the stream itself when it is large.

    Raises InputError: unreadable.
    """
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
    """Return whether this process decodes the stream: its format is common, or it is empty.

    Not a large WebP (see webp.LARGE_PIXELS).
    """
    try:
        head = stream.read(HEAD_BYTES)
        stream.seek(0)
    except OSError as error:
        raise explain_os_error(error) from error
    name = signature(head)
    if name == "WEBP" and webp.is_large(head):
        return False
    return not head or name in COMMON_FORMATS
