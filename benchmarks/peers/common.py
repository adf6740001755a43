"""Code that all peers share: their arguments, the published crop with Pillow, and writing the top five."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from PIL import Image


def arguments() -> argparse.Namespace:
    """Parse model, photos (a folder), size (pixels a side) and out (JSON lines)."""
    parser = argparse.ArgumentParser()
    parser.add_argument("model", type=Path)
    parser.add_argument("photos", type=Path)
    parser.add_argument("size", type=int)
    parser.add_argument("out", type=Path)
    return parser.parse_args()


def load(path: Path, size: int) -> np.ndarray:
    """Return the central 87.5 % of each side, stretched: uint8 [size, size, 3]."""
    image = Image.open(path).convert("RGB")
    width, height = image.size
    box = (width / 16, height / 16, width * 15 / 16, height * 15 / 16)
    return np.asarray(image.resize((size, size), Image.Resampling.BILINEAR, box=box))


def write_top5(out: Path, names: list[str], logits: np.ndarray) -> None:
    """Write a line for each image: its name, and its five best classes with probabilities."""
    top = np.argsort(-logits, axis=1)[:, :5]
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities = np.take_along_axis(odds / odds.sum(axis=1, keepdims=True), top, axis=1)
    with out.open("w") as file:
        for name, classes, values in zip(names, top, probabilities, strict=True):
            line = {"path": name, "top": classes.tolist(), "probabilities": values.tolist()}
            print(json.dumps(line), file=file)
