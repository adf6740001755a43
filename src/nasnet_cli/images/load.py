"""A source's way to an array of pixels: what the pipeline's decoding threads call."""

from __future__ import annotations

import functools
from dataclasses import dataclass

from nasnet_cli.images.decode import MAX_PIXELS, decode
from nasnet_cli.images.files import MAX_BYTES, Source
from nasnet_cli.images.preprocess import Pixels, Preprocessing, needed_size, preprocess


@dataclass(frozen=True, slots=True)
class Limits:
    """Inputs above these are too_large: pixels of the picture, bytes of its file or member."""

    max_pixels: int = MAX_PIXELS
    max_bytes: int = MAX_BYTES


def load(source: Source, preprocessing: Preprocessing, limits: Limits | None = None) -> Pixels:
    """Reads, decodes and preprocesses one input: the array [height, width, 3] of preprocess.

    Safe from any thread. Raises InputError of any kind but timeout and crashed.
    """
    limits = limits or Limits()
    needed = functools.partial(needed_size, preprocessing=preprocessing)
    with source.open(limits.max_bytes) as stream:
        image = decode(stream, max_pixels=limits.max_pixels, needed_size=needed)
    return preprocess(image, preprocessing)
