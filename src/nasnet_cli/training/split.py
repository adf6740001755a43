"""The parts of a set of labelled images: those to train on and those to validate with.

Near-duplicates always lie in the same part: an image that was trained on says nothing about others.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nasnet_cli.similarity.groups import Comparison
from nasnet_cli.similarity.index import Index

NEAR = (0.95, 0.99, 0.999, 0.9999, 0.999999)
"""Cosines of standardized feature vectors from which on two images are near-duplicates.

The first one is used unless it would leave a class without images in one of the parts: to a network
that knows little about a set, many of its images are alike. The last one finds equal images.
"""


@dataclass(frozen=True, eq=False)
class _InMemory(Index):
    """Vectors [n, depth] in memory, to be searched as an index file is."""

    vectors: np.ndarray

    def block(self, start: int) -> np.ndarray:
        return self.vectors[start : self.end(start)]

    def take(self, rows: np.ndarray) -> np.ndarray:
        return np.asarray(self.vectors[rows])


def near_duplicates(vectors: np.ndarray, threshold: float) -> list[np.ndarray]:
    """Return the groups of near-duplicates among vectors [n, depth], each as its rows, sorted."""
    count, depth = vectors.shape
    deviation = vectors.std(axis=0, dtype=np.float64)
    deviation[deviation == 0] = 1.0
    standard = ((vectors - vectors.mean(axis=0, dtype=np.float64)) / deviation).astype(np.float32)
    index = _InMemory(Path(), Path(), count, depth, np.zeros(count, np.int64), standard)
    return list(Comparison(index, threshold).groups())


def hold_out(
    vectors: np.ndarray, classes: np.ndarray, share: float, seed: int
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Return the validation part as a mask [n], and the groups of near-duplicates that it respects.

    Some class may still lack images in one of the parts, when all of its images are equal.
    """
    for threshold in NEAR:
        groups = near_duplicates(vectors, threshold)
        held = split(classes, groups, share, seed)
        if _has_both(classes, held):
            break
    return held, groups


def known_rows(
    vectors: np.ndarray, classes: np.ndarray, held: np.ndarray
) -> tuple[list[int], list[np.ndarray]]:
    """Return the rows that are held [n] but near-duplicates of others, and all groups of these."""
    for threshold in NEAR:
        groups = near_duplicates(vectors, threshold)
        known = {int(r) for rows in groups if not held[rows].all() for r in rows if held[r]}
        left = [row for row in np.flatnonzero(held).tolist() if row not in known]
        if set(classes[left].tolist()) == set(classes[held].tolist()):
            break
    return sorted(known), groups


def _has_both(classes: np.ndarray, held: np.ndarray) -> bool:
    return set(classes[held].tolist()) == set(classes[~held].tolist()) == set(classes.tolist())


def split(classes: np.ndarray, duplicates: list[np.ndarray], share: float, seed: int) -> np.ndarray:
    """Select the validation part, as a mask [n]: about a share of each class, at random.

    classes [n] are the images' classes. Each class with two images or more has at least one in
    each part, unless near-duplicates hold all of them together.
    """
    random = np.random.default_rng(seed)
    group = np.arange(len(classes))
    for rows in duplicates:
        group[rows] = rows[0]
    part = np.full(len(classes), -1)
    for class_ in np.unique(classes):
        members = np.flatnonzero(classes == class_)
        wanted = min(max(1, round(share * len(members))), len(members) - 1)
        taken = int((part[members] == 1).sum())
        for first in random.permutation(np.unique(group[members])):
            rows = np.flatnonzero(group == first)
            if part[rows[0]] >= 0:  # with a class before
                continue
            own = int((classes[rows] == class_).sum())
            fits = taken + own <= wanted
            part[rows] = fits
            taken += own if fits else 0
    return np.asarray(part == 1)
