"""Nearest neighbours and near-duplicates among the vectors that embed wrote.

Similarity is the cosine of two vectors, in [-1, 1]. Both searches are exact: every pair is compared,
a block of rows at a time, by matrix products in float32; pairs too close to call are computed again
in float64, so that results do not depend on how a product is rounded. A vector that is zero or not
finite has no direction, and is similar to nothing.

Memory is flat: blocks are copied from a memory map that is closed after each copy.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement, islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nasnet_cli.errors import NasnetError
from nasnet_cli.results.meta import meta_path
from nasnet_cli.results.neighbours import Matched, Neighbour
from nasnet_cli.results.records import Embedded

Vectors = NDArray[np.floating[Any]]
Rows = NDArray[np.intp]
Pairs = Iterable[tuple[int, int]]

# Rows in a block: enough that the product of two blocks runs at the processor's full speed, few
# enough that it takes less than 200 MB.
BLOCK = 4096
# Queries that are searched for in one pass over the index.
_QUERIES = 256


@dataclass(frozen=True, eq=False)
class Index:
    """A file of vectors [rows, depth], float32 or float16, and the lines with their paths.

    open_index returns one. offsets are the positions of each row's line in the file of lines.
    """

    path: Path
    rows: int
    depth: int
    offsets: NDArray[np.int64]

    def describe(self) -> dict[str, Any]:
        """Return the description of the index for a result."""
        return {"location": os.fspath(self.path), "rows": self.rows, "depth": self.depth}

    def block(self, start: int) -> Vectors:
        """Return the rows from start on, up to BLOCK of them, in the file's type."""
        return np.array(_mapped(self.path)[start : start + BLOCK])

    def take(self, rows: Rows) -> Vectors:
        """Return these rows, in the file's type."""
        return np.array(_mapped(self.path)[rows])

    def starts(self) -> range:
        """Return the first rows of the blocks."""
        return range(0, self.rows, BLOCK)

    def paths(self, rows: Iterable[int]) -> Iterator[str]:
        """Yield the paths of these rows; bytes that are not UTF-8 are surrogate escapes."""
        with lines_path(self.path).open("rb") as lines:
            for row in rows:
                lines.seek(self.offsets[row])
                yield _path(json.loads(lines.readline()))

    def neighbours(self, cosines: Sequence[tuple[int, float]]) -> Iterator[Neighbour]:
        """Yield the images of these rows and cosines, with their paths."""
        paths = self.paths(row for row, _ in cosines)
        for (row, cosine), path in zip(cosines, paths, strict=True):
            yield Neighbour(row, path, cosine)

    def cosines(self, rows: Rows, row: int) -> NDArray[np.float64]:
        """Return the exact cosines of these rows with another row."""
        (other,) = self.take(np.array([row]))
        parts = [rows[start : start + BLOCK] for start in range(0, len(rows), BLOCK)]
        return np.concatenate([np.empty(0), *(_cosines(self.take(part), other) for part in parts)])

    def meta(self) -> dict[str, Any]:
        """Return the OUT.meta.json of embed, with digests of the model and the preprocessing.

        Raises NasnetError if it is missing or damaged.
        """
        path = meta_path(self.path)
        problem = f"{path} does not say which model made the vectors."
        try:
            meta: dict[str, Any] = json.loads(path.read_bytes())
            if all(isinstance(meta[name]["digest"], str) for name in ("model", "preprocessing")):
                return meta
        except OSError as error:
            problem = (
                f"{path}, which says which model made the vectors, cannot be read: "
                f"{error.strerror}."
            )
        except (ValueError, KeyError, TypeError):
            pass
        raise NasnetError(problem, "Make the vectors again with nasnet embed.")


def lines_path(vectors: str | os.PathLike[str]) -> Path:
    """Return the file of lines beside vectors.npy: vectors.jsonl."""
    return Path(vectors).with_suffix(".jsonl")


def open_index(path: str | os.PathLike[str]) -> Index:
    """Open the vectors in a .npy file of embed. Raises NasnetError if it or its lines are damaged."""
    path = Path(path)
    vectors = _mapped(path)
    if vectors.ndim != 2 or vectors.dtype not in (np.float32, np.float16):
        raise NasnetError(
            f"{path} holds {vectors.dtype} {list(vectors.shape)}, not vectors [N, depth] of "
            "float32 or float16.",
            "Name a file that nasnet embed wrote.",
        )
    rows, depth = vectors.shape
    return Index(path, rows, depth, _offsets(path, rows))


def _mapped(path: Path) -> Vectors:
    try:
        with path.open("rb") as stream:
            is_npy = stream.read(6) == b"\x93NUMPY"
        if not is_npy:
            raise NasnetError(f"{path} is not a .npy file.", "Name a file that nasnet embed wrote.")
        mapped: Vectors = np.load(path, mmap_mode="r", allow_pickle=False)
    except OSError as error:
        raise NasnetError(
            f"{path} cannot be read: {error.strerror or error}.",
            "Name a file that nasnet embed wrote.",
        ) from error
    except ValueError as error:  # a damaged header, or one of more rows than the file has
        raise NasnetError(
            f"{path} is damaged or cut short.", "Make it again with nasnet embed."
        ) from error
    return mapped


def _offsets(path: Path, rows: int) -> NDArray[np.int64]:
    """Return the position of each row's line; lines of failed inputs have no row."""
    lines = lines_path(path)
    offsets = np.zeros(rows, np.int64)
    count = position = 0
    try:
        with lines.open("rb") as stream:
            for line in stream:
                row = json.loads(line).get("row")
                if row is not None:
                    if row != count or count == rows:
                        raise ValueError
                    offsets[row] = position
                    count += 1
                position += len(line)
        if count != rows:
            raise ValueError
    except OSError as error:
        raise NasnetError(
            f"{lines}, which names the images of the vectors, cannot be read: {error.strerror}.",
            f"It must be beside {path.name}, where nasnet embed writes it.",
        ) from error
    except (ValueError, AttributeError) as error:
        raise NasnetError(
            f"{lines} does not belong to {path}: their rows differ.",
            "Make both again with nasnet embed.",
        ) from error
    return offsets


def _path(line: dict[str, str]) -> str:
    if "path_bytes" in line:
        return os.fsdecode(base64.b64decode(line["path_bytes"]))
    return line["path"]


def similar(index: Index, queries: Iterable[Embedded], top: int) -> Iterator[Matched]:
    """Yield the top-k matches in the index for each query, in order; ties go to the lower row.

    A query with an error keeps it. Queries are searched for in groups, each with one pass over the
    index.
    """
    queries = iter(queries)
    while group := list(islice(queries, _QUERIES)):
        vectors = [query.vector for query in group if query.vector is not None]
        neighbours = iter(nearest(index, np.array(vectors), top) if vectors else ())
        for query in group:
            if query.vector is None:
                yield Matched(query.path, None, query.error)
            else:
                yield Matched(query.path, tuple(index.neighbours(next(neighbours))))


def nearest(index: Index, queries: Vectors, top: int) -> list[list[tuple[int, float]]]:
    """Return the top-k rows of the index with their cosines for each of queries [n, depth].

    Ties go to the lower row.
    """
    units = _units(queries)
    best: list[list[tuple[int, float]]] = [[] for _ in queries]
    for start in index.starts():
        block = index.block(start)
        scores = units @ _units(block).T
        for query, approximate, neighbours in zip(queries, scores, best, strict=True):
            rows = _candidates(approximate, neighbours, top, _margin(index.depth))
            exact = _cosines(block[rows], query)
            neighbours += zip((start + rows).tolist(), exact.tolist(), strict=True)
            neighbours.sort(key=lambda neighbour: (-neighbour[1], neighbour[0]))
            del neighbours[top:]
    return best


def _candidates(
    scores: Vectors, neighbours: list[tuple[int, float]], top: int, margin: float
) -> NDArray[np.intp]:
    """Return the rows of a block that may be in the top k, by its cosines in float32, scores."""
    least = neighbours[-1][1] - margin if len(neighbours) == top else -np.inf
    known = scores[~np.isnan(scores)]
    if len(known) > top:
        least = max(least, np.partition(known, -top)[-top] - 2 * margin)
    return np.flatnonzero(scores >= least)


def near_groups(
    index: Index, threshold: float, progress: Callable[[Pairs], Pairs] = iter
) -> Iterator[Rows]:
    """Yield the groups of rows that pairs with a cosine of at least threshold, in (0, 1], join.

    Two are in one group if a chain of such pairs connects them; the ends of a chain may be less
    similar. A group has at least two rows and is sorted; groups come in the order of their first
    rows. progress may wrap the iteration over the count_pairs pairs of blocks.
    """
    joined = _UnionFind(index.rows)
    for start, other in progress(combinations_with_replacement(index.starts(), 2)):
        if start == other:  # the first pair with this start
            left = right = _Block(index, start)
        else:
            right = _Block(index, other)
        _join_near(joined, left, right, threshold)
    yield from joined.groups()


def without_direction(index: Index) -> int:
    """Return how many vectors are zero or not finite."""
    return sum(int(np.isnan(_lengths(index.block(start))).sum()) for start in index.starts())


def count_pairs(index: Index) -> int:
    """Return how many pairs of blocks near_groups compares."""
    blocks = len(index.starts())
    return blocks * (blocks + 1) // 2


class _Block:
    """Rows of an index from start on, in the file's type and as unit vectors."""

    def __init__(self, index: Index, start: int) -> None:
        self.start = start
        self.vectors = index.block(start)
        self.units = _units(self.vectors)


def _join_near(joined: _UnionFind, left: _Block, right: _Block, threshold: float) -> None:
    likely = left.units @ right.units.T >= threshold - _margin(left.units.shape[1])
    if left is right:
        likely = np.triu(likely, 1)
    for i in np.flatnonzero(likely.any(axis=1)):
        row = np.array([left.start + i])
        others = np.flatnonzero(likely[i])
        # Not those that are joined already: a thousand equal images are a million pairs.
        others = others[joined.first(right.start + others) != joined.first(row)]
        near = _cosines(right.vectors[others], left.vectors[i]) >= threshold
        joined.join(np.concatenate([row, right.start + others[near]]))


class _UnionFind:
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
        firsts = self.first(np.arange(len(self._parent)))
        shared = np.flatnonzero(np.bincount(firsts)[firsts] > 1)
        ordered = shared[np.argsort(firsts[shared], kind="stable")]
        ends = np.flatnonzero(np.diff(firsts[ordered])) + 1
        return (rows for rows in np.split(ordered, ends) if len(rows))


def _units(vectors: Vectors) -> Vectors:
    """Return vectors [n, depth] with unit length, float32; NaN where one is zero or not finite."""
    units: Vectors = (vectors / _lengths(vectors)[:, None]).astype(np.float32)
    return units


def _lengths(vectors: Vectors) -> NDArray[np.float64]:
    """Return the lengths of vectors [n, depth]; NaN for those without a direction."""
    lengths: NDArray[np.float64] = np.sqrt(np.square(vectors, dtype=np.float64).sum(axis=1))
    lengths[(lengths == 0) | ~np.isfinite(lengths)] = np.nan
    return lengths


def _cosines(vectors: Vectors, other: Vectors) -> NDArray[np.float64]:
    """Return the cosines of vectors [n, depth] with other [depth], in [-1, 1], 1 for equal ones.

    Each depends on its two vectors alone, to the last bit: products are summed along a row.
    """
    many, single = vectors.astype(np.float64), other.astype(np.float64)
    products = (many * single).sum(axis=1)
    squares = np.square(many).sum(axis=1) * np.square(single).sum()
    cosines: NDArray[np.float64] = np.clip(products / np.sqrt(squares), -1, 1)
    return cosines


def _margin(depth: int) -> float:
    """Return the largest error of a cosine in float32: one rounding for each of its terms."""
    return (depth + 4) * 2.0**-24
