"""The golden data: weights by a formula, and what the reference computes with them.

Made with TF-Slim's NASNet-A (the revision of November 2017) under TensorFlow 1.15.5. Every weight
is drawn from a generator seeded by the CRC-32 of its name, so that no weights need to be kept; the
outputs stand in tests/data.
"""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np

DATA = Path(__file__).parents[1] / "data"


def weight(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """The golden value of the TF-Slim variable of that name."""
    random = np.random.RandomState(zlib.crc32(name.encode()))
    leaf = name.rsplit("/", 1)[-1]
    if leaf in ("moving_variance", "gamma"):
        value = random.uniform(0.5, 1.5, shape)
    elif leaf in ("beta", "moving_mean", "biases"):
        value = random.uniform(-0.1, 0.1, shape)
    else:
        inputs = shape[:2] if leaf == "depthwise_weights" else shape[:-1]
        value = random.uniform(-1, 1, shape) * np.sqrt(3.0 / np.prod(inputs))
    return value.astype(np.float32)


def weights(shapes: dict[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    return {name: weight(name, shape) for name, shape in shapes.items()}


def noise(count: int, size: int) -> np.ndarray:
    """Uniform noise [count, size, size, 3] in [0, 1]."""
    random = np.random.RandomState(20171004)
    return random.uniform(0, 1, (count, size, size, 3)).astype(np.float32)


def blocks(count: int, size: int) -> np.ndarray:
    """Seven by seven blocks of one colour each, [count, size, size, 3] in [0, 1]."""
    colours = np.random.RandomState(20171005).uniform(0, 1, (count, 7, 7, 3)).astype(np.float32)
    place = np.arange(size) * 7 // size
    return colours[:, place][:, :, place]


def facts(size: str) -> dict[str, Any]:
    """Variables, shapes and endpoint statistics of the reference network of that size."""
    return json.loads((DATA / f"golden_slim_{size}.json").read_text())


def outputs(size: str) -> dict[str, np.ndarray]:
    """Outputs of the reference network of that size."""
    with np.load(DATA / f"golden_slim_{size}.npz") as saved:
        return {name: saved[name] for name in saved.files}
