"""A new last layer for a trained network: multinomial logistic regression on its feature vectors.

The solver is SciPy's L-BFGS-B, in float64. The strength of the L2 penalty is the one of the least
cross-entropy on the validation part, and a temperature makes the probabilities believable there.
Each class weighs the same, however many images it has.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nasnet_cli.errors import NasnetError
from nasnet_cli.training.calibration import class_weights, fit_temperature, probabilities

PENALTIES = tuple(float(10.0**exponent) for exponent in np.arange(1, -6.1, -0.5))
"""Strengths of the penalty, from strong to weak; each solution is the next one's start."""

_LEAST_DEVIATION = 0.01
"""The least standard deviation that a feature is scaled by, as a share of the largest one."""

_PATIENCE = 3
_STEPS = 1000


@dataclass(frozen=True)
class Head:
    """A last layer: weights [depth, classes] and biases [classes], float32.

    The temperature is part of them. penalty is the strength that was chosen, None where the whole
    network was trained.
    """

    weights: np.ndarray
    biases: np.ndarray
    penalty: float | None
    temperature: float

    def logits(self, features: np.ndarray) -> np.ndarray:
        """Return the logits [n, classes] of feature vectors [n, depth], float64."""
        weights, biases = self.weights.astype(np.float64), self.biases.astype(np.float64)
        return np.asarray(features.astype(np.float64) @ weights + biases)


@dataclass(frozen=True)
class _Solution:
    weights: np.ndarray
    biases: np.ndarray


def require() -> None:
    """Raise NasnetError when SciPy or threadpoolctl is missing."""
    try:
        import scipy  # noqa: F401
        import threadpoolctl  # noqa: F401
    except ImportError as error:
        raise NasnetError(
            f"Training needs {error.name}.", "Run: pip install scipy threadpoolctl."
        ) from None


def fit_head(
    features: np.ndarray,
    classes: np.ndarray,
    validation: np.ndarray,
    validation_classes: np.ndarray,
    count: int,
) -> Head:
    """Fit a head of count classes to features [n, depth] of images with classes [n].

    The same arrays give the same numbers on a machine: matrix products have one thread.
    """
    from threadpoolctl import threadpool_limits

    mean, deviation = (
        features.mean(axis=0, dtype=np.float64),
        features.std(axis=0, dtype=np.float64),
    )
    # What hardly varies here may vary elsewhere, and would then decide alone.
    deviation = np.maximum(deviation, max(_LEAST_DEVIATION * deviation.max(), 1e-12))
    train, held = ((part - mean) / deviation for part in (features, validation))
    weights, held_weights = class_weights(classes), class_weights(validation_classes)
    best: tuple[float, float, float, _Solution] | None = None
    solution = _Solution(np.zeros((train.shape[1], count)), np.zeros(count))
    worse = 0
    with threadpool_limits(1):
        for penalty in PENALTIES:
            solution = solve(train, classes, weights, penalty, solution)
            logits = held @ solution.weights + solution.biases
            temperature = fit_temperature(logits, validation_classes, held_weights)
            loss = cross_entropy(logits / temperature, validation_classes, held_weights)
            if best is None or loss < best[0]:
                best, worse = (loss, penalty, temperature, solution), 0
            elif (worse := worse + 1) == _PATIENCE:
                break
    assert best is not None
    _, penalty, temperature, solution = best
    unscaled = solution.weights / deviation[:, None]
    return Head(
        (unscaled / temperature).astype(np.float32),
        ((solution.biases - mean @ unscaled) / temperature).astype(np.float32),
        penalty,
        temperature,
    )


def solve(
    features: np.ndarray,
    classes: np.ndarray,
    weights: np.ndarray,
    penalty: float,
    start: _Solution | None = None,
) -> _Solution:
    """Return the least weighted cross-entropy plus penalty / 2 times the sum of squared weights.

    features are float64 [n, depth], weights [n] those of the images, which add up to 1. Biases
    have no penalty.
    """
    from scipy.optimize import minimize

    count = len(start.biases) if start else int(classes.max()) + 1
    depth = features.shape[1]
    target = np.eye(count)[classes]

    def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
        matrix, biases = flat[:-count].reshape(depth, count), flat[-count:]
        logits = features @ matrix + biases
        error = (probabilities(logits) - target) * weights[:, None]
        value = cross_entropy(logits, classes, weights) + penalty / 2 * (matrix**2).sum()
        gradient = features.T @ error + penalty * matrix
        return value, np.concatenate([gradient.ravel(), error.sum(axis=0)])

    first = np.zeros((depth + 1) * count)
    if start is not None:
        first = np.concatenate([start.weights.ravel(), start.biases])
    found = minimize(
        loss,
        first,
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": _STEPS, "maxfun": 2 * _STEPS, "gtol": 1e-6, "ftol": 1e-12},
    ).x
    return _Solution(found[:-count].reshape(depth, count), found[-count:])


def cross_entropy(logits: np.ndarray, classes: np.ndarray, weights: np.ndarray) -> float:
    """Return the weighted cross-entropy of logits [n, classes]."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    own = shifted[np.arange(len(classes)), classes] - np.log(np.exp(shifted).sum(axis=1))
    return float(-(weights * own).sum())
