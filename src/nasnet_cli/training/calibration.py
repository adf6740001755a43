"""Calibration: a temperature for logits, and the error that is left."""

from __future__ import annotations

import numpy as np


def probabilities(logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """Return the softmax of logits [n, classes] divided by a temperature, float64."""
    scaled = logits.astype(np.float64) / temperature
    scaled = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    return np.asarray(scaled / scaled.sum(axis=1, keepdims=True))


def class_weights(truth: np.ndarray) -> np.ndarray:
    """Return weights [n] by which each class counts the same; their sum is 1."""
    _, place, counts = np.unique(truth, return_inverse=True, return_counts=True)
    return np.asarray(1 / (counts[place] * len(counts)))


def fit_temperature(logits: np.ndarray, truth: np.ndarray, weights: np.ndarray) -> float:
    """Return the temperature of the least weighted cross-entropy, between 0.1 and 10.

    The cross-entropy has one minimum in the logarithm of the temperature, found by golden section.
    """
    rows = np.arange(len(truth))

    def loss(log_temperature: float) -> float:
        own = probabilities(logits, float(np.exp(log_temperature)))[rows, truth]
        return float(-(weights * np.log(np.maximum(own, 1e-30))).sum())

    low, high, ratio = np.log(0.1), np.log(10), (5**0.5 - 1) / 2
    while high - low > 1e-4:
        left, right = high - ratio * (high - low), low + ratio * (high - low)
        if loss(left) < loss(right):
            high = right
        else:
            low = left
    return float(np.exp((low + high) / 2))


def calibration_error(
    confidence: np.ndarray, hits: np.ndarray, weights: np.ndarray, bins: int = 10
) -> float:
    """Return the expected calibration error in bins of equal weight.

    confidence [n] is the probability of each first answer, hits [n] tells which are right.
    """
    order = np.argsort(confidence, kind="stable")
    weights = weights[order] / weights.sum()
    place = np.minimum((np.cumsum(weights) - weights / 2) * bins, bins - 1).astype(int)
    gaps = np.bincount(place, weights * (confidence[order] - hits[order]), minlength=bins)
    return float(np.abs(gaps).sum())
