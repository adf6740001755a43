"""From a model's outputs to results: top-k classes, unit vectors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np

from nasnet_cli.labels import Label
from nasnet_cli.results.everyday import EverydayLabels
from nasnet_cli.results.records import Prediction

BEST = np.dtype([("index", "<i4"), ("probability", "<f8"), ("output", "<f8")])
"""A class: its index in the model's output, its probability in [0, 1], and the output itself."""


Activation = Literal["softmax", "log_softmax", "sigmoid"]


def _values(
    outputs: np.ndarray, is_logits: bool, activation: Activation
) -> tuple[np.ndarray, np.ndarray]:
    """Return the outputs and the probabilities of each class, in float64."""
    values = outputs.astype(np.float64)
    probabilities = values
    if is_logits:
        probabilities = _ACTIVATIONS[activation](values)
    if values.shape[1] == 1 and activation == "sigmoid":
        values = np.concatenate([-values if is_logits else 1 - values, values], axis=1)
        probabilities = np.concatenate([1 - probabilities, probabilities], axis=1)
    return values, probabilities


def _best_classes(values: np.ndarray, probabilities: np.ndarray, top: int) -> np.ndarray:
    """Return the top-k classes of each row of values [n, classes]: [n, min(top, classes)] of BEST.

    The best come first, and equal ones by index. A row's classes do not depend on the other rows.
    """
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
    outputs: dict[str, np.ndarray],
    *,
    top: int | None,
    is_logits: bool,
    activation: Activation = "softmax",
    everyday: EverydayLabels | None = None,
    sure: float = 0.5,
) -> dict[str, np.ndarray]:
    """Replace the logits in the outputs of n images by their top-k classes, "best", if top is given.

    is_logits is false where the outputs called logits are probabilities.
    everyday adds everyday labels of at least the probability sure: "sure", [n] of SURE.
    """
    if top is None or "logits" not in outputs:
        return outputs
    reduced = {name: values for name, values in outputs.items() if name != "logits"}
    values, probabilities = _values(outputs["logits"], is_logits, activation)
    reduced["best"] = _best_classes(values, probabilities, top)
    if everyday is not None:
        reduced["sure"] = everyday.choose(probabilities, sure)
    return reduced


def predictions(
    best: np.ndarray, labels: Sequence[Label], *, threshold: float = 0.0, with_logits: bool = False
) -> tuple[Prediction, ...]:
    """Return a row of BEST with labels, without classes of a probability under threshold.

    with_logits adds the model's output to each prediction.
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


def unit_vector(vector: np.ndarray) -> np.ndarray:
    """Return a vector [depth] float32 divided by its length, unless that is 0."""
    # In float64, so that the length does not depend on the order of the sum.
    length = np.sqrt(np.square(vector, dtype=np.float64).sum())
    unit: np.ndarray = (vector / (length or 1.0)).astype(np.float32)
    return unit


def _largest(values: np.ndarray, count: int) -> np.ndarray:
    """Return the indices of the count largest values, largest first, equal ones by index."""
    negative = -values
    if count < len(values):
        # Sorting a thousand values takes several times as long as selecting a few.
        candidates = np.flatnonzero(~(negative > np.partition(negative, count - 1)[count - 1]))
    else:
        candidates = np.arange(len(values))
    return candidates[np.argsort(negative[candidates], kind="stable")[:count]]


def _softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def _sigmoid(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(-np.abs(logits))  # no overflow
    return np.asarray(np.where(logits < 0, powers, 1.0) / (1 + powers))


_ACTIVATIONS: dict[Activation, Callable[[np.ndarray], np.ndarray]] = {
    "softmax": _softmax,
    "log_softmax": np.exp,
    "sigmoid": _sigmoid,
}
