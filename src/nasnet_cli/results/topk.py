"""From a model's output to the best classes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nasnet_cli.labels import Label
from nasnet_cli.results.records import Prediction

BEST = np.dtype([("index", "<i4"), ("probability", "<f8"), ("output", "<f8")])
"""A class: its place in the model's output, its probability in [0, 1], what the model gave it."""


def best_classes(outputs: np.ndarray, top: int, *, is_logits: bool = True) -> np.ndarray:
    """The top classes of each row of outputs [n, classes]: [n, top] of BEST, or all if there are fewer.

    The best come first, and of equal ones that of the lower index. outputs are logits or, where
    is_logits is false, probabilities. A row's classes don't depend on the other rows.
    """
    values = outputs.astype(np.float64)
    probabilities = _softmax(values) if is_logits else values
    count = min(top, values.shape[1])
    index = np.empty((len(values), count), np.intp)
    for row, value in zip(index, values, strict=True):
        row[:] = _largest(value, count)
    rows = np.arange(len(values))[:, None]
    best = np.empty(index.shape, BEST)
    best["index"] = index
    best["probability"] = probabilities[rows, index]
    best["output"] = values[rows, index]
    return best


def with_best(
    outputs: dict[str, np.ndarray], *, top: int | None, is_logits: bool
) -> dict[str, np.ndarray]:
    """The outputs of n pictures, by name, with the best classes for the logits where top is given."""
    if top is None or "logits" not in outputs:
        return outputs
    rest = {name: values for name, values in outputs.items() if name != "logits"}
    return {"best": best_classes(outputs["logits"], top, is_logits=is_logits), **rest}


def predictions(
    best: np.ndarray, labels: Sequence[Label], *, threshold: float = 0.0, with_logits: bool = False
) -> tuple[Prediction, ...]:
    """A row of best_classes in words, without the classes of a probability under threshold.

    With logits, each prediction has the model's output too.
    """
    return tuple(
        Prediction(
            rank,
            index,
            labels[index].wnid,
            labels[index].name,
            probability,
            output if with_logits else None,
        )
        for rank, (index, probability, output) in enumerate(best.tolist(), start=1)
        if probability >= threshold
    )


def _largest(values: np.ndarray, count: int) -> np.ndarray:
    """The places of the count largest values, largest first and equal ones in their order."""
    negative = -values
    if count < len(values):
        # Sorting all of a thousand takes several times as long as looking for the few.
        candidates = np.flatnonzero(~(negative > np.partition(negative, count - 1)[count - 1]))
    else:
        candidates = np.arange(len(values))
    return candidates[np.argsort(negative[candidates], kind="stable")[:count]]


def _softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))
