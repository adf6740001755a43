"""Lengths and cosines of vectors, and the largest errors of their float32 versions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.floating[Any]]
Rows = NDArray[np.intp]

# Rows and columns of a product that stays in the processor's cache while it is looked at.
_TILE = 512
# Shorter and longer vectors lose digits, or all, when they are squared in float32.
_LEAST_SQUARE = np.float32(1e-20)


def units_of(vectors: Vectors) -> Vectors:
    """Return vectors [n, depth] with unit length, float32; NaN where one is zero or not finite."""
    units: Vectors = (vectors / lengths_of(vectors)[:, None]).astype(np.float32)
    return units


def lengths_of(vectors: Vectors) -> NDArray[np.float64]:
    """Return the lengths of vectors [n, depth]; NaN for those without a direction."""
    lengths: NDArray[np.float64] = np.sqrt(np.square(vectors, dtype=np.float64).sum(axis=1))
    lengths[(lengths == 0) | ~np.isfinite(lengths)] = np.nan
    return lengths


def pair_cosines(vectors: Vectors, others: Vectors) -> NDArray[np.float64]:
    """Return the cosines of vectors [n, depth] with others [n or 1, depth], row by row.

    They are in [-1, 1], and 1 for equal vectors. Each depends on its two vectors alone, to the last
    bit, in either order: products are summed along a row.
    """
    left, right = (array.astype(np.float64, order="C") for array in (vectors, others))
    products = (left * right).sum(axis=1)
    squares = np.square(left).sum(axis=1) * np.square(right).sum(axis=1)
    with np.errstate(invalid="ignore"):  # NaN without a direction
        cosines: NDArray[np.float64] = np.clip(products / np.sqrt(squares), -1, 1)
    return cosines


def float32_error(terms: int) -> float:
    """Return the largest error of a cosine as a float32 product of unit vectors of so many terms.

    One rounding for each term, and some for the vectors and for what the product is compared with.
    """
    roundings = (terms + 8) * 2.0**-24
    return roundings / (1 - roundings)  # each also of those before it


class Tile(NamedTuple):
    """A part of a product, from a row and a column on, and where it is large enough."""

    row: int
    column: int
    is_enough: NDArray[np.bool_]


def tiles_above(left: Vectors, right: Vectors, low: np.float32) -> Iterator[Tile]:
    """Yield the parts of left @ right.T, of float32, that have a product of at least low.

    Where left is right, each pair of different rows is there once, the lower one first.
    """
    product = np.empty((_TILE, _TILE), np.float32)
    for i in range(0, len(left), _TILE):
        rows = left[i : i + _TILE]
        for j in range(i if left is right else 0, len(right), _TILE):
            columns = right[j : j + _TILE].T
            scores = product[: len(rows), : columns.shape[1]]
            np.matmul(rows, columns, out=scores)
            if scores.max() < low:  # never with NaN
                continue
            is_enough = scores >= low
            if left is right and i == j:
                is_enough = np.triu(is_enough, 1)
            yield Tile(i, j, is_enough)


def quick_cosines(units: Vectors, vectors: Vectors) -> Vectors:
    """Return the cosines [m, n] of unit vectors [m, depth] with vectors [n, depth], in float32.

    NaN for those without a direction. The error is at most twice float32_error(depth): half of it
    is the product's, the other that of the lengths.
    """
    block = np.asarray(vectors, np.float32)
    with np.errstate(all="ignore"):
        squares = np.einsum("ij,ij->i", block, block)
        cosines: Vectors = units @ block.T
        # Squares of large and small numbers are no numbers in float32.
        odd = np.flatnonzero(~((squares > _LEAST_SQUARE) & (squares < 1 / _LEAST_SQUARE)))
        cosines /= np.sqrt(squares)
    if len(odd):
        cosines[:, odd] = units @ units_of(block[odd]).T
    return cosines
