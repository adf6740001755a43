"""Use of the vectors that embed wrote: what is most like a picture, and what is nearly the same.

Likeness is the cosine of two vectors, in [-1, 1]. Both searches are exact: every pair is compared,
a block of rows at a time, by matrix products in float32; what these leave in doubt is computed
again in float64, so that results don't depend on how a product is rounded. A vector that is zero
or not finite has no direction, and is like nothing.

Memory is flat: blocks are copied out of a map of the file that lasts no longer than the copy.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from itertools import combinations_with_replacement, islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nasnet_cli.errors import NasnetError
from nasnet_cli.results.meta import meta_path
from nasnet_cli.results.neighbours import Group, Match, Matched, Member
from nasnet_cli.results.records import Embedded

Vectors = NDArray[np.floating[Any]]
Rows = NDArray[np.intp]
Pairs = Iterable[tuple[int, int]]

# Rows in a block: enough that the product of two runs at the processor's full speed, few enough
# that all that it makes stays under 200 MB.
BLOCK = 4096
# Queries that are looked up in one walk over the index.
_QUERIES = 256


@dataclass(frozen=True, slots=True)
class DetectedModel:
    """A row of the index and its cosine with what was looked for."""

    row: int
    similarity: float


@dataclass(frozen=True, eq=False)
class Index:
    """A file of vectors [rows, depth], float32 or float16, with the lines that say whose they are.

    open_index makes one. offsets is where in the file of lines each row's line begins.
    """

    path: Path
    rows: int
    depth: int
    offsets: NDArray[np.int64]

    def describe(self) -> dict[str, Any]:
        """What a result says of the index."""
        return {"location": os.fspath(self.path), "rows": self.rows, "depth": self.depth}

    def block(self, start: int) -> Vectors:
        """The rows from start on, up to BLOCK of them, as they are in the file."""
        return np.array(_mapped(self.path)[start : start + BLOCK])

    def take(self, rows: Rows) -> Vectors:
        """These rows, as they are in the file."""
        return np.array(_mapped(self.path)[rows])

    def starts(self) -> range:
        """Where the blocks start."""
        return range(0, self.rows, BLOCK)

    def paths(self, rows: Collection[int]) -> dict[int, str]:
        """The paths of the pictures of these rows, bytes that are not UTF-8 as surrogate escapes."""
        with lines_path(self.path).open("rb") as lines:
            found = {}
            for row in rows:
                lines.seek(self.offsets[row])
                found[row] = _path(json.loads(lines.readline()))
        return found

    def meta(self) -> dict[str, Any]:
        """What embed wrote of its model and preprocessing. Raises NasnetError without it."""
        path = meta_path(self.path)
        try:
            found: dict[str, Any] = json.loads(path.read_bytes())
            if all(isinstance(found[name]["digest"], str) for name in ("model", "preprocessing")):
                return found
            problem = f"{path} doesn't say what model the vectors are from."
        except OSError as error:
            problem = (
                f"{path}, which says what model the vectors are from, can't be read: "
                f"{error.strerror}."
            )
        except (ValueError, KeyError, TypeError):
            problem = f"{path} doesn't say what model the vectors are from."
        raise NasnetError(problem, "Make the vectors again with nasnet embed.")


def lines_path(vectors: str | os.PathLike[str]) -> Path:
    """The file beside vectors.npy that says what each row is: vectors.jsonl."""
    return Path(vectors).with_suffix(".jsonl")


def open_index(path: str | os.PathLike[str]) -> Index:
    """The vectors in a .npy file of embed's. Raises NasnetError unless it and its lines are whole."""
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
            f"{path} can't be read: {error.strerror or error}.",
            "Name a file that nasnet embed wrote.",
        ) from error
    except ValueError as error:  # a head that is no head, or more rows in it than in the file
        raise NasnetError(
            f"{path} is damaged or cut short.", "Make it again with nasnet embed."
        ) from error
    return mapped


def _offsets(path: Path, rows: int) -> NDArray[np.int64]:
    """Where each row's line begins; the lines of inputs that failed have no row."""
    lines = lines_path(path)
    offsets = np.zeros(rows, np.int64)
    count = place = 0
    try:
        with lines.open("rb") as stream:
            for line in stream:
                row = json.loads(line).get("row")
                if row is not None:
                    if row != count or count == rows:
                        raise ValueError
                    offsets[row] = place
                    count += 1
                place += len(line)
        if count != rows:
            raise ValueError
    except OSError as error:
        raise NasnetError(
            f"{lines}, which says whose the vectors are, can't be read: {error.strerror}.",
            f"It must stand beside {path.name}, where nasnet embed writes it.",
        ) from error
    except (ValueError, AttributeError) as error:
        raise NasnetError(
            f"{lines} doesn't belong to {path}: their rows are not the same.",
            "Make both again with nasnet embed.",
        ) from error
    return offsets


def _path(line: dict[str, str]) -> str:
    if "path_bytes" in line:
        return os.fsdecode(base64.b64decode(line["path_bytes"]))
    return line["path"]


def similar(index: Index, queries: Iterable[Embedded], top: int) -> Iterator[Matched]:
    """For each query, in order, the top pictures of the index that are most like it.

    A query with an error keeps it. Ties go to the lower row. Queries are looked up in groups, each
    with one walk over the index.
    """
    queries = iter(queries)
    while group := list(islice(queries, _QUERIES)):
        vectors = [query.vector for query in group if query.vector is not None]
        found = iter(nearest(index, np.array(vectors), top) if vectors else ())
        for query in group:
            if query.vector is None:
                yield Matched(query.path, None, query.error)
            else:
                yield Matched(query.path, _matches(index, next(found)))


def _matches(index: Index, found: list[DetectedModel]) -> tuple[Match, ...]:
    paths = index.paths([one.row for one in found])
    return tuple(
        Match(rank, one.row, paths[one.row], one.similarity)
        for rank, one in enumerate(found, start=1)
    )


def nearest(index: Index, queries: Vectors, top: int) -> list[list[DetectedModel]]:
    """For each of queries [n, depth] the top rows of the index, most like first, ties by row."""
    units = _units(queries)
    best: list[list[DetectedModel]] = [[] for _ in queries]
    for start in index.starts():
        block = index.block(start)
        scores = units @ _units(block).T
        for query, likely, found in zip(queries, scores, best, strict=True):
            rows = _candidates(likely, found, top, _margin(index.depth))
            exact = _cosines(block[rows], query)
            found += [
                DetectedModel(start + int(r), float(c)) for r, c in zip(rows, exact, strict=True)
            ]
            found.sort(key=lambda one: (-one.similarity, one.row))
            del found[top:]
    return best


def _candidates(
    scores: Vectors, found: list[DetectedModel], top: int, margin: float
) -> NDArray[np.intp]:
    """The rows of a block that may be among the top; scores are the block's cosines, in float32."""
    least = found[-1].similarity - margin if len(found) == top else -np.inf
    known = scores[~np.isnan(scores)]
    if len(known) > top:
        least = max(least, np.partition(known, -top)[-top] - 2 * margin)
    return np.flatnonzero(scores >= least)


def near_groups(
    index: Index, threshold: float, progress: Callable[[Pairs], Pairs] = iter
) -> Iterator[Group]:
    """The groups of pictures that are joined by cosines of at least threshold, in (0, 1].

    Two are in a group when a chain of such pairs leads from one to the other; the ends of a chain
    may be less alike. A group has at least two, sorted by row; groups come in the order of their
    first rows. progress may wrap the walk over pairs of blocks, of which there are count_pairs.
    """
    joined = _Joined(index.rows)
    for start, other in progress(combinations_with_replacement(index.starts(), 2)):
        if start == other:  # the first pair with this start
            left = right = _Block(index, start)
        else:
            right = _Block(index, other)
        _join_near(joined, left, right, threshold)
    for number, rows in enumerate(joined.groups(), start=1):
        yield _group(index, number, rows)


def without_direction(index: Index) -> int:
    """How many vectors are zero or not finite, and so like nothing."""
    return sum(int(np.isnan(_lengths(index.block(start))).sum()) for start in index.starts())


def count_pairs(index: Index) -> int:
    """How many pairs of blocks near_groups walks over."""
    blocks = len(index.starts())
    return blocks * (blocks + 1) // 2


class _Block:
    """Rows of an index from start on, as they are and of unit length."""

    def __init__(self, index: Index, start: int) -> None:
        self.start = start
        self.vectors = index.block(start)
        self.units = _units(self.vectors)


def _join_near(joined: _Joined, left: _Block, right: _Block, threshold: float) -> None:
    likely = left.units @ right.units.T >= threshold - _margin(left.units.shape[1])
    if left is right:
        likely = np.triu(likely, 1)
    for i in np.flatnonzero(likely.any(axis=1)):
        row = np.array([left.start + i])
        others = np.flatnonzero(likely[i])
        # What is joined already need not be computed: a thousand equal pictures are a million pairs.
        others = others[joined.first(right.start + others) != joined.first(row)]
        near = _cosines(right.vectors[others], left.vectors[i]) >= threshold
        joined.join(np.concatenate([row, right.start + others[near]]))


class _Joined:
    """Rows in groups, each known by its first row: a union-find on arrays."""

    def __init__(self, rows: int) -> None:
        self._parent = np.arange(rows)

    def first(self, rows: Rows) -> Rows:
        """The first row of each one's group."""
        firsts = self._parent[rows]
        while not np.array_equal(above := self._parent[firsts], firsts):
            firsts = above
        self._parent[rows] = firsts
        return firsts

    def join(self, rows: Rows) -> None:
        """Makes one group of the groups of rows."""
        firsts = self.first(rows)
        self._parent[firsts] = firsts.min()

    def groups(self) -> Iterator[Rows]:
        """The groups of two rows or more, each sorted, in the order of their first rows."""
        firsts = self.first(np.arange(len(self._parent)))
        shared = np.flatnonzero(np.bincount(firsts)[firsts] > 1)
        ordered = shared[np.argsort(firsts[shared], kind="stable")]
        ends = np.flatnonzero(np.diff(firsts[ordered])) + 1
        return (rows for rows in np.split(ordered, ends) if len(rows))


def _group(index: Index, number: int, rows: Rows) -> Group:
    members: list[Member] = []
    (first,) = index.take(rows[:1])
    for start in range(0, len(rows), BLOCK):
        part = rows[start : start + BLOCK]
        paths = index.paths(part.tolist())
        cosines = _cosines(index.take(part), first).tolist()
        members += [
            Member(row, path, cosine)
            for (row, path), cosine in zip(paths.items(), cosines, strict=True)
        ]
    return Group(number, tuple(members))


def _units(vectors: Vectors) -> Vectors:
    """vectors [n, depth] of unit length, float32; NaN where one is zero or not finite."""
    units: Vectors = (vectors / _lengths(vectors)[:, None]).astype(np.float32)
    return units


def _lengths(vectors: Vectors) -> NDArray[np.float64]:
    """The lengths of vectors [n, depth]; NaN for those that have no direction."""
    lengths: NDArray[np.float64] = np.sqrt(np.square(vectors, dtype=np.float64).sum(axis=1))
    lengths[(lengths == 0) | ~np.isfinite(lengths)] = np.nan
    return lengths


def _cosines(vectors: Vectors, other: Vectors) -> NDArray[np.float64]:
    """The cosines of vectors [n, depth] with other [depth], in [-1, 1] and 1 for equal ones.

    Each depends on its two vectors alone, to the last bit: sums of products run along a row.
    """
    many, one = vectors.astype(np.float64), other.astype(np.float64)
    products = (many * one).sum(axis=1)
    squares = np.square(many).sum(axis=1) * np.square(one).sum()
    cosines: NDArray[np.float64] = np.clip(products / np.sqrt(squares), -1, 1)
    return cosines


def _margin(depth: int) -> float:
    """The most by which a cosine computed in float32 is off: a rounding for each of its terms."""
    return (depth + 4) * 2.0**-24
