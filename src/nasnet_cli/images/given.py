"""The inputs of the library: paths, and images that are in memory already."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from nasnet_cli.errors import InputError
from nasnet_cli.images.decode import describe_failure, upright
from nasnet_cli.images.listing import list_sources
from nasnet_cli.images.preprocess import Preprocessing, preprocess
from nasnet_cli.images.source import SkipCounter, Source

Path = str | os.PathLike[str]
Given = Path | Image.Image | NDArray[np.uint8]

_ACCEPTED = "Accepted are paths, PIL images, and arrays [height, width, 3] of uint8 in RGB"


def given_sources(
    images: Given | Iterable[Given], preprocessing: Preprocessing
) -> Iterator[Source]:
    """Return the inputs that one path or image, or several of them in any mix, stand for.

    A path stands for what list_sources says. An image in memory is named <image N>, N counted from
    0 among what was given. It is preprocessed as soon as it is taken from images, so that its
    memory can be used again and does not add up.

    Raises TypeError or ValueError for anything else: here when one thing was given, else when the
    iteration comes to it.
    """
    if _is_one(images):
        checked = _checked(images)
        return list_sources([_entry(checked, 0, preprocessing)], skips=SkipCounter())
    if not isinstance(images, Iterable):
        raise _refused(images)
    entries = (
        _entry(_checked(image), number, preprocessing) for number, image in enumerate(images)
    )
    return list_sources(entries, skips=SkipCounter())


def _is_one(images: object) -> bool:
    """Return whether this is meant as one image; an array of four dimensions is a batch."""
    if isinstance(images, np.ndarray):
        return images.dtype.kind not in "OU" and images.ndim != 4
    return isinstance(images, str | bytes | os.PathLike | Image.Image)


def _checked(image: object) -> Given:
    """Return a path or an image. Raises TypeError or ValueError for anything else."""
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
            shape = ", ".join(map(str, image.shape))
            raise ValueError(f"An array [{shape}] of {image.dtype} is not an image. {_ACCEPTED}.")
        return image
    if isinstance(image, str | os.PathLike | Image.Image):
        return image
    raise _refused(image)


def _refused(image: object) -> TypeError:
    hint = " Open bytes with PIL.Image.open(io.BytesIO(…))." if isinstance(image, bytes) else ""
    return TypeError(f"{type(image).__name__} is not an image or a path. {_ACCEPTED}.{hint}")


def _entry(image: Given, number: int, preprocessing: Preprocessing) -> str | Source:
    if isinstance(image, str | os.PathLike):
        return os.fsdecode(image)
    name = f"<image {number}>"
    try:
        shown = Image.fromarray(image) if isinstance(image, np.ndarray) else upright(image)
        return Source(name, pixels=preprocess(shown, preprocessing))
    except InputError as failure:
        return Source(name, failure=failure)
    except Exception as error:  # a file that PIL has opened is only read now: see decode
        return Source(name, failure=describe_failure(error, None, io.BytesIO()))
