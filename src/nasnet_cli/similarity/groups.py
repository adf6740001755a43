"""Groups of near-duplicates: the rows that chains of similar pairs join."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from itertools import combinations_with_replacement
from typing import NamedTuple

import numpy as np

from nasnet_cli.similarity.ahead import computed_ahead
from nasnet_cli.similarity.bounds import Bounds, find_bounds
from nasnet_cli.similarity.index import Index
from nasnet_cli.similarity.numbers import (
    Rows,
    Tile,
    Vectors,
    float32_error,
    pair_cosines,
    tiles_above,
    units_of,
)

Blocks = Iterable[tuple[int, int]]
Pair = tuple[Rows, Rows]

# Blocks of a smaller index are compared before bounds are found.
_FEWEST_BLOCKS = 4
# Pairs of rows that are decided at once, in float64.
_PAIRS = 1024
# Bounds are given up when they have failed for so many more pairs of blocks than they have served.
_PATIENCE = 2


def count_pairs(index: Index) -> int:
    """Return how many pairs of blocks are compared."""
    blocks = len(index.starts())
    return blocks * (blocks + 1) // 2


class Comparison:
    """A comparison of each pair of vectors in an index, whose result is exact.

    threshold, in (0, 1], is the least cosine of a near pair. Most pairs are ruled out by bounds
    where that pays, others by products in float32; pairs too close to call are decided in float64.
    bounded counts the pairs of rows that bounds were asked about, left those that they did not rule
    out.
    """

    def __init__(self, index: Index, threshold: float) -> None:
        self.bounded = self.left = 0
        self._index, self._threshold = index, threshold
        self._joined = UnionFind(index.rows)
        self._bounds: Bounds | None = None
        self._useful = self._useless = 0
        self._undecided: list[Pair] = []

    def groups(self, progress: Callable[[Blocks], Blocks] = iter) -> Iterator[Rows]:
        """Yield the groups of rows that pairs with a cosine of at least the threshold join.

        Two are in one group if a chain of such pairs connects them; the ends of a chain may be less
        similar. A group has at least two rows and is sorted; groups come in the order of their
        first rows. progress may wrap the iteration over the count_pairs pairs of blocks.
        """
        starts = self._index.starts()
        if len(starts) >= _FEWEST_BLOCKS:
            self._bounds = find_bounds(self._index, self._threshold)
        pairs = progress(combinations_with_replacement(starts, 2))
        for compared in computed_ahead(self._compare, self._pairs(pairs)):
            if isinstance(compared, _Products):
                self._join_likely(compared)
            else:
                self.left += len(compared[0])
                self._undecided.append(compared)
                if sum(len(lower) for lower, _ in self._undecided) >= _PAIRS:
                    self._decide()
        self._decide()
        yield from self._joined.groups()

    def _pairs(self, pairs: Blocks) -> Iterator[tuple[_Block, int]]:
        """Yield each pair of blocks, its first as a block."""
        for start, other in pairs:
            if start == other:  # the first pair with this start
                left = _Block(self._index, start)
            yield left, other

    def _compare(self, blocks: tuple[_Block, int]) -> Pair | _Products:
        """Return what may be near in a pair of blocks."""
        left, other = blocks
        if self._bounds is not None and self._useless <= self._useful + _PATIENCE:
            ends = self._index.end(left.start), self._index.end(other)
            found = self._bounds.left((left.start, ends[0]), (other, ends[1]), self._threshold)
            if found is not None:
                self._useful += 1
                self.bounded += (ends[0] - left.start) * (ends[1] - other)
                return found
            self._useless += 1
        right = left if left.start == other else _Block(self._index, other)
        low = np.float32(self._threshold - float32_error(self._index.depth))
        return _Products(left, right, list(tiles_above(left.units, right.units, low)))

    def _decide(self) -> None:
        """Join the pairs that bounds have left and that are near."""
        if not self._undecided:
            return
        lower, higher = map(np.concatenate, zip(*self._undecided, strict=True))
        self._undecided = []
        for start in range(0, len(lower), _PAIRS):
            part = slice(start, start + _PAIRS)
            apart = self._joined.first(lower[part]) != self._joined.first(higher[part])
            rows, others = lower[part][apart], higher[part][apart]
            near = pair_cosines(self._index.take(rows), self._index.take(others)) >= self._threshold
            for pair in np.stack([rows[near], others[near]], axis=1):
                self._joined.join(pair)

    def _join_likely(self, found: _Products) -> None:
        """Join the pairs that products have left and that are near."""
        left, right = found.left, found.right
        first = self._joined.first
        for top, side, likely in found.tiles:
            rows = left.start + top + np.arange(likely.shape[0])
            columns = right.start + side + np.arange(likely.shape[1])
            # Not those that are joined already: a thousand equal images are a million pairs.
            likely &= first(rows)[:, None] != first(columns)
            for i in np.flatnonzero(likely.any(axis=1)):
                row, others = rows[[i]], columns[likely[i]]
                others = others[first(others) != first(row)]
                vectors = right.vectors[others - right.start]
                near = pair_cosines(vectors, left.vectors[[top + i]]) >= self._threshold
                self._joined.join(np.concatenate([row, others[near]]))


class _Block:
    """Rows of an index from start on, in the file's type and as unit vectors, once needed."""

    def __init__(self, index: Index, start: int) -> None:
        self.start = start
        self._index = index

    @cached_property
    def vectors(self) -> Vectors:
        return self._index.block(self.start)

    @cached_property
    def units(self) -> Vectors:
        return units_of(self.vectors)


class _Products(NamedTuple):
    """Two blocks, and the parts of their product with cosines that may reach the threshold."""

    left: _Block
    right: _Block
    tiles: list[Tile]


class UnionFind:
    """Groups of rows, each known by its first row, as a union-find on arrays."""

    def __init__(self, rows: int) -> None:
        self._parent = np.arange(rows)

    def first(self, rows: Rows) -> Rows:
        """Return the first row of each row's group."""
        firsts = self._parent[rows]
        while not np.array_equal(above := self._parent[firsts], firsts):
            firsts = above
        self._parent[rows] = firsts
        return firsts

    def join(self, rows: Rows) -> None:
        """Join the groups of these rows into one."""
        firsts = self.first(rows)
        self._parent[firsts] = firsts.min()

    def groups(self) -> Iterator[Rows]:
        """Return the groups of two rows or more, each sorted, in the order of their first rows."""
        firsts = self._parent
        while not np.array_equal(above := firsts[firsts], firsts):
            firsts = above
        shared = np.flatnonzero(np.bincount(firsts)[firsts] > 1)
        ordered = shared[np.argsort(firsts[shared], kind="stable")]
        ends = np.flatnonzero(np.diff(firsts[ordered])) + 1
        return (rows for rows in np.split(ordered, ends) if len(rows))
