"""Nearest neighbours and near-duplicates among the vectors that embed wrote.

Similarity is the cosine of two vectors, in [-1, 1]. Both searches are exact: what products in
float32 or bounds cannot rule out is computed in float64, so that results do not depend on how a
product is rounded. A vector that is zero or not finite has no direction, and is similar to nothing.
"""
