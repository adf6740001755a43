"""A map of images: their feature vectors projected on a plane, so that similar ones lie together."""

from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nasnet_cli.quiet import silence_errors
from nasnet_cli.similarity.index import Index, open_index

# With fewer images, UMAP has no neighbourhoods to keep.
_FEWEST_FOR_UMAP = 50

Points = NDArray[np.float64]


class ImageMap:
    """The places of the images that a .npy file of nasnet embed has vectors of.

    method says how they were found; used counts the places that were asked for and found. Raises
    NasnetError for a file that is damaged or none of embed.
    """

    def __init__(self, vectors: str) -> None:
        index = open_index(vectors)
        self.method = "principal components"
        if index.rows >= _FEWEST_FOR_UMAP and importlib.util.find_spec("umap"):
            self.method = "UMAP"
            points = _umap(index)
        else:
            points = principal_components(index)
        points = _scaled(points)
        self._rows = {path: row for row, path in enumerate(index.paths(range(index.rows)))}
        self._points = points.astype(np.float32)
        self.used = 0

    def place(self, path: str) -> list[float] | None:
        """Return the [x, y] of an image, both in 0..1; None where it has no vector."""
        row = self._rows.get(path)
        if row is None or not np.isfinite(self._points[row]).all():
            return None
        self.used += 1
        return [round(float(value), 4) for value in self._points[row]]


def principal_components(index: Index) -> Points:
    """Return the vectors' directions along the two axes of their greatest variance, [rows, 2].

    Vectors are taken at unit length, so that only their direction counts, a block at a time. NaN
    stands for those without a direction.
    """
    count, total = 0, np.zeros(index.depth)
    products = np.zeros((index.depth, index.depth))
    for start in index.starts():
        block = _units(index, start)
        block = block[np.isfinite(block).all(axis=1)]
        count += len(block)
        total += block.sum(axis=0)
        products += block.T @ block
    mean = total / max(count, 1)
    _, axes = np.linalg.eigh(products / max(count, 1) - np.outer(mean, mean))
    axes = axes[:, -1:-3:-1]
    # An axis has two directions; the same one always.
    axes = axes * np.where(axes[np.abs(axes).argmax(axis=0), range(axes.shape[1])] < 0, -1, 1)
    points = [(_units(index, start) - mean) @ axes for start in index.starts()]
    flat = np.concatenate([np.empty((0, axes.shape[1])), *points])
    return np.pad(flat, ((0, 0), (0, 2 - flat.shape[1])))


def _umap(index: Index) -> Points:
    units = np.concatenate([_units(index, start) for start in index.starts()])
    points = np.full((index.rows, 2), np.nan)
    has_direction = np.isfinite(units).all(axis=1)
    with silence_errors():  # umap imports TensorFlow where that is installed, which chatters
        from umap import UMAP

        model: Any = UMAP(metric="cosine", random_state=0)
        points[has_direction] = model.fit_transform(units[has_direction])
    return points


def _units(index: Index, start: int) -> Points:
    """Return the block from start on at unit length; not finite where it has no direction."""
    block = index.block(start).astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        units: Points = block / np.linalg.norm(block, axis=1, keepdims=True)
    return units


def _scaled(points: Points) -> Points:
    """Return points within 0..1, the longer side of their extent filling it."""
    if not np.isfinite(points).any():
        return points
    least = np.nanmin(points, axis=0)
    extent = np.nanmax(points, axis=0) - least
    scale = extent.max() or 1.0
    scaled: Points = (points - least + (scale - extent) / 2) / scale
    return scaled
