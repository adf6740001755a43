"""From a model's output to the best classes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nasnet_cli.labels import Label
from nasnet_cli.results.records import Prediction


def best_classes(
    output: np.ndarray,
    labels: Sequence[Label],
    *,
    top: int,
    threshold: float = 0.0,
    is_logits: bool = True,
    with_logits: bool = False,
) -> tuple[Prediction, ...]:
    """The top classes of output [classes], best first and ties by lower index.

    output is logits or, where is_logits is false, probabilities. Classes whose probability is
    under threshold (in [0, 1]) are left out. With logits, each prediction has the raw output too.
    """
    values = output.astype(np.float64)
    best = np.argsort(-values, kind="stable")[:top]
    probabilities = _softmax(values) if is_logits else values
    return tuple(
        Prediction(
            rank,
            int(index),
            labels[index].wnid,
            labels[index].name,
            float(probabilities[index]),
            float(values[index]) if with_logits else None,
        )
        for rank, index in enumerate(best, start=1)
        if probabilities[index] >= threshold
    )


def _softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max())
    return np.asarray(powers / powers.sum())
