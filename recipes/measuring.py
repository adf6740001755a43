"""Calibrate and measure a trained network on images that training never saw."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from accuracy import central_logits, confident_share, ranks
from patterns import KINDS, make_patterns

from nasnet_cli.training.calibration import (
    calibration_error,
    class_weights,
    probabilities,
)
from nasnet_cli.training.image_sets import ImageSet

# How much of the prior is taken away: from a half on, held-out images gain the same, with each class
# weighing the same.
BALANCE = 0.5


@dataclass(frozen=True)
class Calibration:
    """A temperature with the expected calibration errors before and after it."""

    temperature: float
    error_before: float
    error: float
    pictures: int


def calibrate(model: keras.Model, image_set: ImageSet, rows: np.ndarray) -> Calibration:
    """Find the temperature of the least calibration error of the labelled images among rows.

    Each class weighs the same. The temperature of the least cross-entropy leaves a larger error.
    """
    rows = rows[image_set.labels[rows] >= 0]
    truth = image_set.labels[rows]
    logits = central_logits(model, image_set, rows)
    weights = class_weights(truth)
    hits = ranks(logits, truth) == 0

    def error(temperature: float, bins: int = 10) -> float:
        confidence = probabilities(logits, temperature).max(axis=1)
        return calibration_error(confidence, hits, weights, bins)

    def mean_error(temperature: float) -> float:
        # With one number of bins, the error jumps between neighbouring temperatures.
        return sum(error(temperature, bins) for bins in range(5, 21)) / 16

    temperature = min(range(50, 200), key=lambda t: mean_error(t / 100)) / 100
    return Calibration(temperature, round(error(1.0), 4), round(error(temperature), 4), len(rows))


def class_prior(model: keras.Model, image_set: ImageSet, rows: np.ndarray) -> np.ndarray:
    """Return the mean probability that a model gives each class on some images, float64 [classes]."""
    return np.asarray(probabilities(central_logits(model, image_set, rows)).mean(axis=0))


def balanced(weights: dict[str, np.ndarray], prior: np.ndarray) -> dict[str, np.ndarray]:
    """Return the weights by their TF-Slim names without the classes' prior.

    A network has learnt how often each class came in training. The biases of the last layer lose
    BALANCE times the logarithm of that, so that a class counts the same whether its images were
    many or few (logit adjustment, Menon et al., 2021).
    """
    name = "final_layer/FC/biases"
    return {**weights, name: weights[name] - np.float32(BALANCE) * np.log(prior).astype(np.float32)}


def calibrated(weights: dict[str, np.ndarray], temperature: float) -> dict[str, np.ndarray]:
    """Return the weights by their TF-Slim names with the last layer's divided by a temperature."""
    last = [name for name in weights if name.startswith("final_layer/FC/")]
    return {**weights, **{name: weights[name] / np.float32(temperature) for name in last}}


def tiny_validation(model: keras.Model, image_set: ImageSet) -> dict[str, list[float]]:
    """Return top-1 and top-5 of Tiny ImageNet's validation images, as percentages.

    "all" is among the 1001 classes, "own" among the 200 that the set has.
    """
    logits = central_logits(model, image_set, np.arange(len(image_set)))
    own = np.full(logits.shape[1], -np.inf, np.float32)
    own[np.unique(image_set.labels)] = 0
    result = {}
    for name, scores in (("all", logits), ("own", logits + own)):
        place = ranks(scores, image_set.labels)
        result[name] = [round(float(100 * (place < k).mean()), 2) for k in (1, 5)]
    return result


def sure_of_nothing(model: keras.Model, temperature: float, seed: int) -> dict[str, float]:
    """Return the percentage of new patterns of each kind that get more than a half."""
    result = {}
    for kind in KINDS:
        patterns = ImageSet(make_patterns(200, 112, seed, (kind,)), np.full(200, -1))
        logits = central_logits(model, patterns, np.arange(200))
        result[kind] = confident_share(logits / temperature)
    return result


def figures(
    model: keras.Model, calibration: Calibration, validation: ImageSet, groups: dict[str, Any]
) -> dict[str, Any]:
    """Return all figures of a model; groups are those of accuracy_by_group."""
    return {
        "held_out": groups,
        "tiny_validation": tiny_validation(model, validation),
        "sure_of_nothing": sure_of_nothing(model, calibration.temperature, seed=99),
    }
