"""Class-balanced sampling: how often each image is drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np


def sampling_weights(
    classes: np.ndarray,
    *,
    power: float = 0.5,
    caps: Mapping[float, Sequence[Sequence[int]]] | None = None,
) -> np.ndarray:
    """Return the probability of each image, float64 [n], from the images' classes [n].

    A class of c images is drawn in proportion to c ** power: 0 draws all classes alike, 1 all
    images. caps limits the share that themes (lists of classes) have of all draws; what a theme
    loses goes to the others.
    """
    _, place, counts = np.unique(classes, return_inverse=True, return_counts=True)
    weights = counts[place].astype(np.float64) ** (power - 1)
    weights /= weights.sum()
    for share, themes in (caps or {}).items():
        for theme in themes:
            inside = np.isin(classes, np.asarray(theme))
            has = weights[inside].sum()
            if has > share:
                weights[inside] *= share / has
                weights[~inside] *= (1 - share) / (1 - has)
    return weights


class Sampler:
    """A sampler of images by weights [n], with replacement; those of weight 0 never come."""

    def __init__(self, weights: np.ndarray) -> None:
        ends = np.cumsum(weights)
        self._ends = ends / ends[-1]

    def draw(self, count: int, random: np.random.Generator) -> np.ndarray:
        """Return the numbers of count images."""
        return np.searchsorted(self._ends, random.random(count), side="right")
