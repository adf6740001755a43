"""The pixels of images to train and to validate with, in memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np

from nasnet_cli.errors import InputError, NasnetError
from nasnet_cli.images.isolated import DecoderPool
from nasnet_cli.images.load import Limits, load
from nasnet_cli.images.pixel_budget import PixelBudget
from nasnet_cli.images.preprocess import Preprocessing
from nasnet_cli.images.source import Source
from nasnet_cli.systems import available_memory


def training_preprocessing(preprocessing: Preprocessing) -> Preprocessing:
    """Return the preprocessing of images that random crops are taken of: all of each image, of
    which the crop of the given preprocessing has the model's own size."""
    side = round(preprocessing.size[0] / preprocessing.crop_fraction)
    return replace(held_preprocessing(preprocessing), size=(side, side), crop_fraction=1.0)


def held_preprocessing(preprocessing: Preprocessing) -> Preprocessing:
    """Return the preprocessing of validation images: the given one, but always to bytes."""
    resample = preprocessing.resample
    return replace(preprocessing, resample="bilinear" if resample == "tf1" else resample)


def load_pixels(
    paths: Sequence[str],
    preprocessing: Preprocessing,
    limits: Limits,
    workers: int,
    done: Callable[[int], None] = lambda _: None,
) -> np.ndarray:
    """Return the images of paths, uint8 [n, height, width, 3]. done is told of each image.

    Raises NasnetError for an image that cannot be read, and where memory does not suffice.
    """
    shape = (len(paths), *preprocessing.size, 3)
    free = available_memory()
    if free is not None and (needed := int(np.prod(shape, dtype=np.int64))) > free:
        raise NasnetError(
            f"{len(paths):,} images need {needed / 1e9:.1f} GB of memory, and {free / 1e9:.1f} GB "
            "are free.",
            "Train on fewer images, or the last layer only, without --full.",
        )
    pixels = np.empty(shape, np.uint8)
    budget = PixelBudget()
    with DecoderPool() as decoders, ThreadPoolExecutor(workers) as pool:

        def fill(number: int) -> None:
            path = paths[number]
            try:
                source = Source(path, file=path)
                pixels[number] = load(source, preprocessing, limits, budget, decoders)
            except InputError as error:
                raise NasnetError(
                    f"{path} cannot be read any more: {error.message}", "Run again."
                ) from error

        try:
            for _ in pool.map(fill, range(len(paths))):
                done(1)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return pixels
