"""Upper bounds of cosines from a few components, by which most pairs of vectors are ruled out.

Unit vectors u and v have projections p and q on a few orthonormal directions, and rests r and s
orthogonal to these. u·v = p·q + r·s is at most p·q + |r||s| (Cauchy-Schwarz): the product of the
vectors (p, |r|) and (q, |s|), which are short. The bound is close where the directions are those in
which the vectors differ most, the principal components of a sample. Whatever they are, it holds.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nasnet_cli.similarity.index import Index
from nasnet_cli.similarity.numbers import Rows, Vectors, float32_error, lengths_of, tiles_above

_SAMPLE = 768
_COMPONENTS = (16, 32, 64)
# What it takes to decide one pair by itself, in products of whole vectors.
_PAIR_TERMS = 400
# The part of a block's pairs that may be left: for more, one product of all is faster.
MOST_LEFT = 1 / 512


@dataclass(frozen=True)
class Bounds:
    """Short vectors [rows, components + 1], float32, whose products are bounds of cosines.

    Vectors without a direction are zero. error is the largest by which a product in float32 may be
    below the cosine as computed in float64.
    """

    short: NDArray[np.float32]
    error: float

    @property
    def components(self) -> int:
        """The number of components."""
        return int(self.short.shape[1]) - 1

    def left(
        self, block: tuple[int, int], later: tuple[int, int], threshold: float
    ) -> tuple[Rows, Rows] | None:
        """Return the pairs of rows of two blocks whose cosine may reach the threshold.

        A block is its first row and its end; later is the same block or one behind it. A pair is
        there once, its lower row first. None where so many are left that bounds are of no use.
        """
        low = np.float32(threshold - self.error)
        start, other = block[0], later[0]
        left, right = self.short[slice(*block)], self.short[slice(*later)]
        most = int(len(left) * len(right) * MOST_LEFT)
        found: list[tuple[Rows, Rows]] = []
        for top, side, likely in tiles_above(left, left if start == other else right, low):
            lower, higher = np.nonzero(likely)
            found.append((lower + (start + top), higher + (other + side)))
            most -= len(lower)
            if most < 0:
                return None
        none = np.empty(0, np.intp)
        return (
            np.concatenate([none, *(lower for lower, _ in found)]),
            np.concatenate([none, *(higher for _, higher in found)]),
        )


def find_bounds(index: Index, threshold: float) -> Bounds | None:
    """Return bounds for the vectors of an index, None where they would rule out too few pairs.

    How many they rule out is measured on a sample. Takes 4 bytes a row and component.
    """
    sample = _directions(index.take(np.unique(np.linspace(0, index.rows - 1, _SAMPLE).astype(int))))
    sample = sample[~np.isnan(sample[:, 0])]
    # Components describe the vectors that they are from better than others.
    sample, others = sample[::2], sample[1::2]
    if len(others) < 2:
        return None
    best, least = None, index.depth / 2
    principal = _principal(sample, max(_COMPONENTS))
    for count in _COMPONENTS:
        components = principal[:count]
        if len(components) == count < index.depth and _are_orthonormal(components):
            short = _shorten(others, components)
            terms = count + _PAIR_TERMS * index.depth * _share_left(short, threshold)
            if terms < least:
                best, least = components, terms
    if best is None:
        return None
    slack = _slack(*best.shape)
    short = np.empty((index.rows, len(best) + 1), np.float32)
    for start in index.starts():
        block = _directions(index.block(start))
        short[start : start + len(block)] = _shorten(np.nan_to_num(block), best)
        short[start : start + len(block)][np.isnan(block[:, 0])] = 0
    return Bounds(short, float32_error(short.shape[1]) + slack)


def _directions(vectors: Vectors) -> NDArray[np.float64]:
    """Return vectors [n, depth] with unit length, in float64; NaN for those without a direction."""
    return vectors / lengths_of(vectors)[:, None]


def _principal(units: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """Return up to count principal components [n, depth] of vectors, about zero, orthonormal."""
    if len(units) < units.shape[1]:
        # The same from the products of the vectors with each other, which are fewer.
        _, vectors = np.linalg.eigh(units @ units.T)
        found = units.T @ vectors[:, ::-1][:, :count]
    else:
        _, vectors = np.linalg.eigh(units.T @ units)
        found = vectors[:, ::-1][:, :count]
    components: NDArray[np.float64] = np.linalg.qr(found)[0].T
    return components


def _are_orthonormal(components: NDArray[np.float64]) -> bool:
    products = components @ components.T
    return bool(np.linalg.norm(products - np.eye(len(products))) < _slack(*components.shape) / 4)


def _shorten(units: NDArray[np.float64], components: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return projections and the lengths of the rests, which are rounded up by the slack."""
    projected = units @ components.T
    rest = np.maximum(0, 1 - np.square(projected).sum(axis=1)) + _slack(*components.shape)
    return np.concatenate([projected, np.sqrt(rest)[:, None]], axis=1).astype(np.float32)


def _slack(count: int, depth: int) -> float:
    """Return an upper bound of all errors in float64.

    These are of lengths, projections and their squares (depth roundings for each of count
    components), of the components, which are orthonormal to a few roundings, and of a cosine.
    """
    return float(16 * (depth + count) * np.sqrt(count + 1) * 2.0**-53)


def _share_left(short: NDArray[np.float32], threshold: float) -> float:
    """Return the part of all pairs that the bounds leave."""
    left = int(np.count_nonzero(short @ short.T >= threshold)) - len(short)
    return max(0, left) / (len(short) * (len(short) - 1))
