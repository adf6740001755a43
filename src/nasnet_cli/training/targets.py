"""Training targets: a probability for each class, from true labels and a teacher's answers."""

from __future__ import annotations

import numpy as np


def teacher_probabilities(classes: np.ndarray, roots: np.ndarray, count: int) -> np.ndarray:
    """Return a teacher's probabilities of all classes, float32 [n, count].

    classes [n, m] are its best classes and roots [n, m] 255 times the square roots of their
    probabilities. What these leave of 1 is spread evenly over all classes.
    """
    known = (roots.astype(np.float32) / np.float32(255)) ** 2
    sums = known.sum(axis=1, keepdims=True)
    known /= np.maximum(sums, 1)
    missing = np.maximum(1 - sums, 0) / np.float32(count)
    result = np.repeat(missing, count, axis=1)
    rows = np.arange(len(classes))[:, None]
    np.add.at(result, (rows, classes), known)
    return result


def label_probabilities(labels: np.ndarray, smoothing: float, count: int) -> np.ndarray:
    """Return smoothed one-hot targets, float32 [n, count]; a row of zeros for a label of -1."""
    known = labels >= 0
    result = np.zeros((len(labels), count), np.float32)
    result[known] = smoothing / count
    result[known, labels[known]] += np.float32(1 - smoothing)
    return result


def blend(true: np.ndarray, taught: np.ndarray, label_weight: float) -> np.ndarray:
    """Mix the rows of two targets [n, count], with label_weight for the true ones where known."""
    known = true.any(axis=1, keepdims=True)
    weight = np.where(known, np.float32(label_weight), np.float32(0))
    return np.asarray(weight * true + (1 - weight) * taught)
