"""Pictures to compare models by, made by a formula: noise, blocks of colour, and soft gradients."""

from __future__ import annotations

import numpy as np

COUNT = 16


def probe_images(size: int) -> np.ndarray:
    """float32 [COUNT, size, size, 3] in [0, 1], the same for the same size."""
    random = np.random.RandomState(20260401)
    noise = random.uniform(0, 1, (2, size, size, 3))
    colours = random.uniform(0, 1, (6, 7, 7, 3))
    place = np.arange(size) * 7 // size
    blocks = colours[:, place][:, :, place]
    pictures = np.concatenate([noise, blocks, _gradients(random, COUNT - 8, size)])
    return pictures.astype(np.float32)


def _gradients(random: np.random.RandomState, count: int, size: int) -> np.ndarray:
    """Slow waves of colour in all directions with some grain, as in photos out of focus."""
    y, x = np.mgrid[0:size, 0:size] / size
    pictures = np.empty((count, size, size, 3))
    for picture in pictures:
        for channel in range(3):
            fx, fy, phase = random.uniform(-3, 3), random.uniform(-3, 3), random.uniform(0, 7)
            picture[..., channel] = 0.5 + 0.4 * np.sin(2 * np.pi * (fx * x + fy * y) + phase)
    grain = random.uniform(-0.1, 0.1, pictures.shape)
    return np.clip(pictures + grain, 0, 1)
