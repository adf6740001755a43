"""Images to compare models with, from a formula: noise, color blocks and soft gradients."""

from __future__ import annotations

import numpy as np

COUNT = 16


def probe_images(size: int) -> np.ndarray:
    """Return float32 [COUNT, size, size, 3] in [0, 1], always the same for one size."""
    random = np.random.RandomState(20260401)
    noise = random.uniform(0, 1, (2, size, size, 3))
    colors = random.uniform(0, 1, (6, 7, 7, 3))
    place = np.arange(size) * 7 // size
    blocks = colors[:, place][:, :, place]
    images = np.concatenate([noise, blocks, _gradients(random, COUNT - 8, size)])
    return images.astype(np.float32)


def _gradients(random: np.random.RandomState, count: int, size: int) -> np.ndarray:
    """Return slow waves of color in all directions with some grain, like photos out of focus."""
    y, x = np.mgrid[0:size, 0:size] / size
    images = np.empty((count, size, size, 3))
    for image in images:
        for channel in range(3):
            fx, fy, phase = random.uniform(-3, 3), random.uniform(-3, 3), random.uniform(0, 7)
            image[..., channel] = 0.5 + 0.4 * np.sin(2 * np.pi * (fx * x + fy * y) + phase)
    grain = random.uniform(-0.1, 0.1, images.shape)
    return np.clip(images + grain, 0, 1)
