"""Preprocessing: crop and resize an RGB image to the array that a model takes."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from PIL import Image

Resize = Literal["stretch", "crop", "pad"]
Resample = Literal["bilinear", "bicubic", "box", "lanczos", "hamming", "nearest", "tf1"]
Channels = Literal["rgb", "bgr"]
Pixels = NDArray[np.uint8] | NDArray[np.float32]
Box = tuple[float, float, float, float]

# Mid grey, which the network sees as 0, as in the padding of its own convolutions.
_PADDING = 128


@dataclass(frozen=True)
class Preprocessing:
    """The settings that turn an image into a model's input.

    size is (height, width) in pixels. resize handles the aspect ratio: `stretch` takes the central
    crop_fraction of each side and stretches it to size; `crop` takes the largest central part with
    size's aspect ratio, then its central crop_fraction; `pad` takes the central crop_fraction of
    each side, fits it into size and fills the rest with mid grey. crop_fraction is in (0, 1].
    resample is one of Pillow's filters, which average when they shrink, or `tf1`, TensorFlow 1's
    bilinear, which doesn't. input_range and channels say which values the model takes for pixels
    (models/values.py); the runtime makes them.

    Raises ValueError for any other value.
    """

    size: tuple[int, int]
    resize: Resize = "stretch"
    crop_fraction: float = 0.875
    resample: Resample = "bilinear"
    input_range: str = "0..1"
    channels: Channels = "rgb"

    def __post_init__(self) -> None:
        size = tuple(self.size)
        if len(size) != 2 or not all(type(side) is int and side > 0 for side in size):
            raise ValueError(f"size must be a height and a width in pixels, not {self.size!r}")
        if self.resize not in get_args(Resize):
            raise ValueError(f"resize must be one of {get_args(Resize)}, not {self.resize!r}")
        if self.resample not in get_args(Resample):
            raise ValueError(f"resample must be one of {get_args(Resample)}, not {self.resample!r}")
        if not 0 < self.crop_fraction <= 1:
            raise ValueError(f"crop_fraction must be in (0, 1], not {self.crop_fraction!r}")
        if self.input_range != "0..1":
            from nasnet_cli.models.values import factors

            factors(self.input_range)
        if self.channels not in get_args(Channels):
            raise ValueError(f"channels must be rgb or bgr, not {self.channels!r}")
        # 1 and 1.0, or a list and a tuple, must give the same digest.
        object.__setattr__(self, "size", size)
        object.__setattr__(self, "crop_fraction", float(self.crop_fraction))

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as JSON types; from_dict reads them back."""
        settings: dict[str, Any] = {
            "size": list(self.size),
            "resize": self.resize,
            "crop_fraction": self.crop_fraction,
            "resample": self.resample,
        }
        # Only what isn't usual, so that the digest of the others stays as it was.
        if self.input_range != "0..1":
            settings["input_range"] = self.input_range
        if self.channels != "rgb":
            settings["channels"] = self.channels
        return settings

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Preprocessing:
        """Read what to_dict wrote. Raises ValueError for a missing, unknown or wrong value."""
        try:
            return cls(**values)
        except TypeError as error:
            raise ValueError(f"not a valid preprocessing: {dict(values)!r}") from error

    @property
    def dtype(self) -> Literal["uint8", "float32"]:
        """The dtype of the arrays that preprocess returns."""
        return "float32" if self.resample == "tf1" else "uint8"

    def digest(self) -> str:
        """Return the SHA-256 of to_dict as canonical JSON, in hexadecimal digits."""
        canonical = json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()


def preprocess(image: Image.Image, preprocessing: Preprocessing) -> Pixels:
    """Crop and resize what decode returned to an sRGB array [height, width, 3].

    The array is uint8 in 0..255 with Pillow's filters. With `tf1` it is float32 in [0, 1], as
    TensorFlow doesn't round to bytes here.
    """
    height, width = preprocessing.size
    box = _crop_box(image.size, preprocessing)
    if preprocessing.resize != "pad":
        return _resample(image, box, (width, height), preprocessing.resample)
    scale = min(width / (box[2] - box[0]), height / (box[3] - box[1]))
    inner_width = min(width, max(1, round((box[2] - box[0]) * scale)))
    inner_height = min(height, max(1, round((box[3] - box[1]) * scale)))
    inner = _resample(image, box, (inner_width, inner_height), preprocessing.resample)
    grey = _PADDING if inner.dtype == np.uint8 else 0.5
    padded = np.full((height, width, 3), grey, dtype=inner.dtype)
    top, left = (height - inner_height) // 2, (width - inner_width) // 2
    padded[top : top + inner_height, left : left + inner_width] = inner
    return padded


def needed_size(image_size: tuple[int, int], preprocessing: Preprocessing) -> tuple[int, int]:
    """Return the smallest size from which preprocess doesn't have to enlarge.

    Both sizes are (width, height) in pixels. At the returned size, the part that the crop keeps
    has exactly the pixels of the model's input. `tf1` and `nearest` pick single pixels, which any
    shrinking beforehand would change: for them the result is image_size. `box` averages whole
    pixels, where the others weight parts of them, and needs more pixels for the same result.
    """
    width, height = image_size
    if preprocessing.resample in ("tf1", "nearest"):
        return image_size
    target_height, target_width = preprocessing.size
    factor = 1.5 if preprocessing.resample == "box" else 1.0
    horizontal = target_width / preprocessing.crop_fraction * factor
    vertical = target_height / preprocessing.crop_fraction * factor
    if preprocessing.resize == "stretch":
        return math.ceil(horizontal), math.ceil(vertical)
    choose = max if preprocessing.resize == "crop" else min
    scale = choose(horizontal / width, vertical / height)
    return math.ceil(width * scale), math.ceil(height * scale)


def _crop_box(image_size: tuple[int, int], preprocessing: Preprocessing) -> Box:
    """Return the part that the crop keeps: left, top, right and bottom in fractional pixels."""
    width, height = image_size
    kept_width, kept_height = float(width), float(height)
    if preprocessing.resize == "crop":
        target_height, target_width = preprocessing.size
        scale = min(width / target_width, height / target_height)
        kept_width, kept_height = target_width * scale, target_height * scale
    left = max(0.0, (width - kept_width * preprocessing.crop_fraction) / 2)
    top = max(0.0, (height - kept_height * preprocessing.crop_fraction) / 2)
    if preprocessing.resample == "tf1":
        # tf.image.central_crop removes whole pixels, the same number on both sides.
        left, top = float(int(left)), float(int(top))
    return left, top, width - left, height - top


def _resample(image: Image.Image, box: Box, size: tuple[int, int], resample: Resample) -> Pixels:
    from PIL import Image

    from nasnet_cli.images.color import to_srgb

    if resample == "tf1":
        return _tf1_bilinear(np.asarray(to_srgb(image.crop(box))), size)
    method = Image.Resampling[resample.upper()]
    # Converted after the resize, a photo costs little more than one without a profile.
    return np.asarray(to_srgb(image.resize(size, method, box=box)))


def _tf1_bilinear(pixels: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.float32]:
    """Compute tf.image.resize_bilinear(tf.image.convert_image_dtype(pixels, tf.float32), size).

    TensorFlow 1's version: no antialiasing, and corners of pixels are aligned, not their centres.
    pixels is [height, width, 3] in 0..255, size the new (width, height); the result is in [0, 1].
    """
    left, right, x = _tf1_neighbours(pixels.shape[1], size[0])
    above, below, y = _tf1_neighbours(pixels.shape[0], size[1])
    x, y = x[None, :, None], y[:, None, None]

    def row(rows: NDArray[np.intp]) -> NDArray[np.float32]:
        start, end = (_to_unit(pixels[rows][:, columns]) for columns in (left, right))
        return start + (end - start) * x

    top = row(above)
    return top + (row(below) - top) * y


def _tf1_neighbours(
    length: int, new_length: int
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float32]]:
    """Return, for each new pixel along a side, the old pixels around it and the second's weight."""
    scale = np.float32(length) / np.float32(new_length)
    position = np.arange(new_length, dtype=np.float32) * scale
    before = np.floor(position).astype(np.intp)
    return before, np.minimum(before + 1, length - 1), position - np.floor(position)


def _to_unit(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    # convert_image_dtype multiplies, which rounds differently from a division.
    return pixels.astype(np.float32) * np.float32(1 / 255)
