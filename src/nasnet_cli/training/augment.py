"""Training pictures from small ones: random crops, flips, resamplings and light.

Real photos reach the network through other resamplings and at other scales than a training set's
thumbnails did, so that training sees several of each.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image

FILTERS = (
    Image.Resampling.BOX,
    Image.Resampling.BILINEAR,
    Image.Resampling.HAMMING,
    Image.Resampling.BICUBIC,
    Image.Resampling.LANCZOS,
)


@dataclass(frozen=True)
class Augmentation:
    """How much a picture is changed.

    area is the range of the crop's share of the picture, ratio the largest stretch of one side
    against the other, light the largest relative change of brightness, contrast and saturation.
    """

    area: tuple[float, float] = (0.5, 1.0)
    ratio: float = 1.2
    light: float = 0.2


def augment(
    pictures: np.ndarray, size: int, how: Augmentation, random: np.random.Generator
) -> np.ndarray:
    """Random training pictures from pictures [n, height, width, 3] uint8.

    Returns float32 [n, size, size, 3] in [0, 1].
    """
    out = np.empty((len(pictures), size, size, 3), np.uint8)
    for i, picture in enumerate(pictures):
        image = Image.fromarray(picture)
        resample = FILTERS[random.integers(len(FILTERS))]
        box = _random_box(image.width, image.height, how, random)
        image = image.resize((size, size), resample, box=box)
        if random.random() < 0.5:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        out[i] = np.asarray(image)
    return _relight(out.astype(np.float32) / np.float32(255), how.light, random)


def _random_box(
    width: int, height: int, how: Augmentation, random: np.random.Generator
) -> tuple[float, float, float, float]:
    side = math.sqrt(random.uniform(*how.area))
    stretch = math.sqrt(math.exp(random.uniform(-1, 1) * math.log(how.ratio)))
    w, h = width * min(1.0, side * stretch), height * min(1.0, side / stretch)
    left, top = random.uniform(0, width - w), random.uniform(0, height - h)
    return (left, top, left + w, top + h)


def _relight(images: np.ndarray, light: float, random: np.random.Generator) -> np.ndarray:
    if not light:
        return images
    shape = (len(images), 1, 1, 1)
    brightness, contrast, saturation = (
        random.uniform(1 - light, 1 + light, shape).astype(np.float32) for _ in range(3)
    )
    grey = images.mean(axis=3, keepdims=True)
    images = grey + (images - grey) * saturation
    mean = images.mean(axis=(1, 2, 3), keepdims=True)
    images = (mean + (images - mean) * contrast) * brightness
    return np.clip(images, 0.0, 1.0, out=images)
