"""Figures of an evaluation, from arrays: shares with their intervals, calibration, thresholds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

BINS = 15
"""Bins of the calibration error, as in Guo, Pleiss, Sun and Weinberger (ICML 2017)."""

PRECISIONS = (0.8, 0.9, 0.95)

_Z = 1.959963984540054  # of a two-sided interval of 95 %


@dataclass(frozen=True)
class Share:
    """A share: hits of count, with Wilson's 95 % interval."""

    hits: int
    count: int

    @property
    def value(self) -> float | None:
        """The share in [0, 1]; None of nothing."""
        return self.hits / self.count if self.count else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """The ends of the interval in [0, 1]; None of nothing."""
        if not self.count:
            return None
        share, over = self.hits / self.count, _Z * _Z / self.count
        middle = (share + over / 2) / (1 + over)
        reach = math.sqrt(share * (1 - share) * over + over * over / 4) / (1 + over)
        # Exact at the ends, where rounding would put the share outside of its interval.
        low = 0.0 if self.hits == 0 else middle - reach
        high = 1.0 if self.hits == self.count else middle + reach
        return low, high


def share_of(hits: np.ndarray) -> Share:
    """Return the share of true values in a bool array [n]."""
    return Share(int(hits.sum()), len(hits))


@dataclass(frozen=True)
class Bin:
    """The images whose probability is over low and at most high: count, means of both."""

    low: float
    high: float
    count: int
    confidence: float
    accuracy: float


def reliability(confidence: np.ndarray, hits: np.ndarray, bins: int = BINS) -> list[Bin]:
    """Return the bins of equal width that have images.

    confidence [n] is the probability in [0, 1] of each image's best label, hits [n] whether it is
    right.
    """
    place = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    found = []
    for number in np.unique(place):
        inside = place == number
        found.append(
            Bin(
                float(number / bins),
                float((number + 1) / bins),
                int(inside.sum()),
                float(confidence[inside].mean()),
                float(hits[inside].mean()),
            )
        )
    return found


def calibration_error(bins: Sequence[Bin]) -> float:
    """Return the expected calibration error: the mean distance of confidence and accuracy."""
    total = sum(bin_.count for bin_ in bins)
    return sum(b.count * abs(b.confidence - b.accuracy) for b in bins) / total


@dataclass(frozen=True)
class Threshold:
    """The least probability from which on labels are right for a share of precision of the images.

    probability and reached are None where no probability has that precision.
    """

    precision: float
    probability: float | None
    reached: Share | None


def thresholds(
    confidence: np.ndarray, hits: np.ndarray, precisions: Sequence[float] = PRECISIONS
) -> list[Threshold]:
    """Return the threshold of each precision; the arrays are reliability's."""
    order = np.argsort(-confidence, kind="stable")
    values, right = confidence[order], np.cumsum(hits[order])
    counts = np.arange(1, len(values) + 1)
    # All images of one probability are over a threshold, or none.
    is_last = np.append(values[1:] != values[:-1], True)
    found = []
    for precision in precisions:
        places = np.flatnonzero(is_last & (right >= precision * counts))
        if not len(places):
            found.append(Threshold(precision, None, None))
            continue
        last = int(places[-1])
        share = Share(int(right[last]), last + 1)
        found.append(Threshold(precision, float(values[last]), share))
    return found


def confusion_matrix(truth: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """Return the counts [classes, classes + 1] by true and predicted class.

    truth and predicted [n] count from 0; the last column has what is predicted as none of the true
    classes, -1.
    """
    column = np.where(predicted < 0, classes, predicted)
    matrix = np.zeros((classes, classes + 1), np.int64)
    np.add.at(matrix, (truth, column), 1)
    return matrix
