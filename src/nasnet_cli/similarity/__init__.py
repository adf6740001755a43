"""Nearest neighbours and near-duplicates among the vectors that embed wrote.

Similarity is the cosine of two vectors, in [-1, 1]. Both searches are exact: what products in
float32 or bounds cannot rule out is computed in float64, so that results do not depend on how a
product is rounded. A vector that is zero or not finite has no direction, and is similar to nothing.
"""

from nasnet_cli.similarity.groups import Comparison, count_pairs
from nasnet_cli.similarity.index import (
    Index,
    lines_path,
    open_index,
    read_meta,
    read_vectors,
    without_direction,
)
from nasnet_cli.similarity.nearest import nearest, similar
from nasnet_cli.similarity.numbers import Rows

__all__ = [
    "Comparison",
    "Index",
    "Rows",
    "count_pairs",
    "lines_path",
    "nearest",
    "open_index",
    "read_meta",
    "read_vectors",
    "similar",
    "without_direction",
]
