"""What a model gave for an input, as a record."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from nasnet_cli.labels import Label
from nasnet_cli.results.records import Classified, Embedded, Failure
from nasnet_cli.results.topk import predictions

if TYPE_CHECKING:
    from nasnet_cli.pipeline import Result


def failure(result: Result[Any]) -> Failure:
    """Why a result has no outputs."""
    error = result.error
    assert error is not None  # a result has outputs or an error
    return Failure(error.kind, error.message)


def classified(
    result: Result[Any], labels: Sequence[Label], *, threshold: float = 0.0, logits: bool = False
) -> Classified:
    """The record of a result that has the best classes (results/top.py), or an error."""
    path = result.source.path
    if result.outputs is None:
        return Classified(path, None, failure(result))
    best = result.outputs["best"]
    return Classified(path, predictions(best, labels, threshold=threshold, with_logits=logits))


def embedded(result: Result[Any], *, normalize: bool = False) -> Embedded:
    """The record of a result that has features, or an error."""
    path = result.source.path
    if result.outputs is None:
        return Embedded(path, None, failure(result))
    vector = result.outputs["features"]
    # A copy, or who keeps it would keep those of many pictures.
    return Embedded(path, of_unit_length(vector) if normalize else vector.copy())


def of_unit_length(vector: np.ndarray) -> np.ndarray:
    """A vector [depth] float32 divided by its length, unless that is 0."""
    # In float64, so that the length doesn't depend on the order of the sum.
    length = np.sqrt(np.square(vector, dtype=np.float64).sum())
    unit: np.ndarray = (vector / (length or 1.0)).astype(np.float32)
    return unit
