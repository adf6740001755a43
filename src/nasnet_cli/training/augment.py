"""Augmentation: crops, resamplings, flips, light, colour, blur and sharpness.

Real photos reach the network through other resampling filters and at other scales than a training
set's thumbnails did, so training sees several of each.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFilter

FILTERS = (Image.Resampling.BOX, Image.Resampling.BILINEAR, Image.Resampling.BICUBIC)
_SOFTER = ImageFilter.GaussianBlur(0.7)
_SHARPER = ImageFilter.UnsharpMask(radius=1, percent=80, threshold=0)

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Augmentation:
    """The amount of change.

    area is the range of a random crop's share of the image and ratio the largest stretch of one
    side against the other. light is the largest relative change of brightness, contrast and
    saturation, tint that of each colour channel, focus the share of images that are blurred, and
    also of those that are sharpened.
    """

    area: tuple[float, float] = (0.35, 1.0)
    ratio: float = 1.33
    light: float = 0.3
    tint: float = 0.05
    focus: float = 0.1


def random_box(
    width: float, height: float, change: Augmentation, random: np.random.Generator
) -> Box:
    """Return a random crop (left, top, right, bottom) of an image, in pixels."""
    side = math.sqrt(random.uniform(*change.area))
    stretch = math.sqrt(math.exp(random.uniform(-1, 1) * math.log(change.ratio)))
    w, h = width * min(1.0, side * stretch), height * min(1.0, side / stretch)
    left, top = random.uniform(0, width - w), random.uniform(0, height - h)
    return (left, top, left + w, top + h)


def augment(
    images: Sequence[np.ndarray],
    boxes: Sequence[Box],
    size: int,
    change: Augmentation,
    random: np.random.Generator,
) -> np.ndarray:
    """Return changed crops of images (uint8 [height, width, 3] each).

    boxes are the crops in pixels. The result is float32 [n, size, size, 3] in [0, 1].
    """
    out = np.empty((len(images), size, size, 3), np.uint8)
    filters = random.integers(len(FILTERS), size=len(images))
    flips, focuses = random.random((2, len(images)))
    for i, image in enumerate(images):
        piece = Image.fromarray(image).resize((size, size), FILTERS[filters[i]], boxes[i])
        if flips[i] < 0.5:
            piece = piece.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        if focuses[i] < change.focus:
            piece = piece.filter(_SOFTER)
        elif focuses[i] > 1 - change.focus:
            piece = piece.filter(_SHARPER)
        out[i] = np.asarray(piece)
    return _relight(out.astype(np.float32) / np.float32(255), change, random)


def crop(images: Sequence[np.ndarray], boxes: Sequence[Box], size: int) -> np.ndarray:
    """Return crops without any change, float32 [n, size, size, 3] in [0, 1].

    What is larger than size is averaged (box), what is smaller made larger by the bicubic filter.
    """
    out = np.empty((len(images), size, size, 3), np.uint8)
    for i, (image, box) in enumerate(zip(images, boxes, strict=True)):
        smaller = size < min(box[2] - box[0], box[3] - box[1])
        resample = Image.Resampling.BOX if smaller else Image.Resampling.BICUBIC
        out[i] = np.asarray(Image.fromarray(image).resize((size, size), resample, box))
    return out.astype(np.float32) / np.float32(255)


def _relight(images: np.ndarray, change: Augmentation, random: np.random.Generator) -> np.ndarray:
    shape = (len(images), 1, 1, 1)
    brightness, contrast, saturation = (
        random.uniform(1 - change.light, 1 + change.light, shape).astype(np.float32)
        for _ in range(3)
    )
    tint = random.uniform(1 - change.tint, 1 + change.tint, (len(images), 1, 1, 3))
    grey = images.mean(axis=3, keepdims=True)
    images = grey + (images - grey) * saturation
    mean = images.mean(axis=(1, 2, 3), keepdims=True)
    images = (mean + (images - mean) * contrast) * (brightness * tint.astype(np.float32))
    return np.clip(images, 0.0, 1.0, out=images)
