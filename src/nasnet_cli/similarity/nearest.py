"""The vectors of an index that are nearest to a query."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from nasnet_cli.results.neighbours import Matched
from nasnet_cli.results.records import Embedded
from nasnet_cli.similarity.index import Index
from nasnet_cli.similarity.numbers import Vectors, float32_error, pair_cosines, units_of

# Queries that are searched for in one pass over the index.
_QUERIES = 256


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
    units = units_of(queries)
    best: list[list[tuple[int, float]]] = [[] for _ in queries]
    for start in index.starts():
        block = index.block(start)
        scores = units @ units_of(block).T
        for query, approximate, neighbours in zip(queries, scores, best, strict=True):
            rows = _candidates(approximate, neighbours, top, float32_error(index.depth))
            exact = pair_cosines(block[rows], query[None])
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
