"""The vectors of an index that are nearest to a query."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from itertools import islice

import numpy as np

from nasnet_cli.results.neighbours import Matched
from nasnet_cli.results.records import Embedded
from nasnet_cli.similarity.ahead import computed_ahead
from nasnet_cli.similarity.index import Index
from nasnet_cli.similarity.numbers import (
    Rows,
    Vectors,
    float32_error,
    pair_cosines,
    quick_cosines,
    units_of,
)

# Queries that are searched for in one pass over the index.
_QUERIES = 256

Nearest = list[tuple[int, float]]


def similar(
    index: Index, queries: Iterable[Embedded], top: int, minimum: float = -1.0
) -> Iterator[Matched]:
    """Yield the top-k matches in the index for each query, in order; ties go to the lower row.

    Matches with a cosine below minimum are left out. A query with an error keeps it. Queries are
    searched for in groups, each with one pass over the index.
    """
    queries = iter(queries)
    while group := list(islice(queries, _QUERIES)):
        vectors = [query.vector for query in group if query.vector is not None]
        found = iter(nearest(index, np.array(vectors), top, minimum) if vectors else ())
        for query in group:
            if query.vector is None:
                yield Matched(query.path, None, query.error)
            else:
                yield Matched(query.path, tuple(index.neighbours(next(found))))


def nearest(index: Index, queries: Vectors, top: int, minimum: float = -1.0) -> list[Nearest]:
    """Return the top-k rows of the index with their cosines for each of queries [n, depth].

    Ties go to the lower row. Rows with a cosine below minimum are left out.
    """
    best: list[Nearest] = [[] for _ in queries]
    search = partial(_search, index, queries, units_of(queries), best, top, minimum)
    for found in computed_ahead(search, index.starts()):
        for query, more in enumerate(found):
            # A new list: threads read the old one.
            ranked = sorted(best[query] + more, key=lambda neighbour: (-neighbour[1], neighbour[0]))
            best[query] = ranked[:top]
    return best


def _search(
    index: Index,
    queries: Vectors,
    units: Vectors,
    best: list[Nearest],
    top: int,
    minimum: float,
    start: int,
) -> list[Nearest]:
    """Return what may be among the top k in a block, for each query.

    best has the neighbours that are known so far, which only get better.
    """
    block = index.view(start)
    error = 2 * float32_error(index.depth)
    found: list[Nearest] = []
    for query, scores, known in zip(queries, quick_cosines(units, block), best, strict=True):
        least = known[-1][1] if len(known) == top else minimum
        rows = _candidates(scores, least, top, error)
        cosines = pair_cosines(block[rows], query[None])
        enough = cosines >= minimum
        found.append(
            list(zip((start + rows[enough]).tolist(), cosines[enough].tolist(), strict=True))
        )
    return found


def _candidates(scores: Vectors, least: float, top: int, error: float) -> Rows:
    """Return the rows of a block that may be in the top k and have a cosine of at least least.

    scores are the block's cosines, each with an error.
    """
    least -= error
    known = scores[~np.isnan(scores)]
    if len(known) > top:
        least = max(least, float(np.partition(known, -top)[-top]) - 2 * error)
    return np.flatnonzero(scores >= np.float32(least - 2.0**-24))
