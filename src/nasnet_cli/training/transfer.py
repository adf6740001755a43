"""Transfer of a trained network to new classes: a new last layer, with its accuracy in the card."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from nasnet_cli.evaluation.metrics import (
    Share,
    Threshold,
    calibration_error,
    reliability,
    share_of,
    thresholds,
)
from nasnet_cli.labels import Label
from nasnet_cli.models.card import PUBLISHED_PREPROCESSING, Card
from nasnet_cli.models.formats.base import Network
from nasnet_cli.network.weights import Weights
from nasnet_cli.results.text import rounded
from nasnet_cli.training.calibration import class_weights, fit_temperature, probabilities
from nasnet_cli.training.head import Head, fit_head

_WEIGHTS, _BIASES = "final_layer/FC/weights", "final_layer/FC/biases"

NEW_HEAD = "A new last layer, by nasnet train, for"
FROM_SCRATCH = "Trained from random weights, by nasnet train, in the size"
TUNED = "All weights trained further, by nasnet train --full, of"

LEVEL = 0.9
"""The precision on the validation part from which on a label is worth saying."""


@dataclass(frozen=True)
class Trained:
    """A head with its results on the validation part.

    counts [classes, 2] are the images to train on and to validate with; shares the top-1 accuracy
    of each class; bottom the probability from which on LEVEL of the labels are right.
    """

    head: Head
    counts: np.ndarray
    top1: Share
    top5: Share | None
    shares: list[Share]
    calibration_error: float
    level: Threshold


def train_head(vectors: np.ndarray, classes: np.ndarray, held: np.ndarray, count: int) -> Trained:
    """Fit a head to the images that are not held, and measure it on those that are.

    vectors are float32 [n, depth], classes [n] numbers below count, held a mask [n].
    """
    head = fit_head(vectors[~held], classes[~held], vectors[held], classes[held], count)
    return measured(head, head.logits(vectors[held]), classes, held, count)


def measured(
    head: Head, logits: np.ndarray, classes: np.ndarray, held: np.ndarray, count: int
) -> Trained:
    """Return a head with the results of its logits of the images that are held."""
    found = probabilities(logits)
    truth = classes[held]
    own = found[np.arange(len(truth)), truth]
    rank = (found > own[:, None]).sum(axis=1)
    confidence, hits = found.max(axis=1), found.argmax(axis=1) == truth
    return Trained(
        head,
        np.stack([np.bincount(classes[part], minlength=count) for part in (~held, held)], axis=1),
        share_of(hits),
        share_of(rank < 5) if count > 5 else None,
        [share_of(hits[truth == number]) for number in range(count)],
        calibration_error(reliability(confidence, hits)),
        thresholds(confidence, hits, (LEVEL,))[0],
    )


def calibrated_head(weights: Weights, logits: np.ndarray, truth: np.ndarray) -> Head:
    """Return the last layer of a network's weights at the best temperature for the logits [n,
    classes] of validation images."""
    temperature = fit_temperature(logits, truth, class_weights(truth))
    kernel, biases = ((weights[n] / temperature).astype(np.float32) for n in (_WEIGHTS, _BIASES))
    return Head(kernel, biases, None, temperature)


def with_head(
    network: Network,
    trained: Trained,
    labels: tuple[Label, ...],
    name: str,
    about: dict[str, Any],
    how: str = NEW_HEAD,
) -> Network:
    """Return a network with a new last layer; about goes into its card beside the accuracy.

    how says in the card what was done to the network before, whose name follows.
    """
    spec = replace(network.spec, classes=len(labels))
    weights = {**network.weights, _WEIGHTS: trained.head.weights, _BIASES: trained.head.biases}
    old = network.card or Card(network.name, preprocessing=dict(PUBLISHED_PREPROCESSING))
    preprocessing = dict(old.preprocessing)
    if network.input_range:
        preprocessing.setdefault("input_range", network.input_range)
    card = new_card(name, preprocessing, old, trained, labels, about, how)
    return Network(name, spec, weights, True, card, labels, None, "softmax", network.input_range)


def new_card(
    name: str,
    preprocessing: dict[str, Any],
    old: Card,
    trained: Trained,
    labels: tuple[Label, ...],
    about: dict[str, Any],
    how: str = NEW_HEAD,
) -> Card:
    """Return the card of a model with a new last layer; old is that of the model before."""
    return Card(
        name=name,
        preprocessing=preprocessing,
        accuracy={**accuracy(trained, labels), **about},
        source=f"{how} {old.name}. {old.source}".strip(),
        licence=old.licence,
    )


def accuracy(trained: Trained, labels: tuple[Label, ...]) -> dict[str, Any]:
    """Return the results on the validation part, for a card."""
    level, (low, high) = trained.level, trained.top1.interval or (None, None)
    penalty = trained.head.penalty
    figures: dict[str, Any] = {
        "pictures": trained.top1.count,
        "top1": rounded(trained.top1.value),
        "top1_interval": [rounded(low), rounded(high)],
    }
    if trained.top5:
        figures["top5"] = rounded(trained.top5.value)
    return {
        **figures,
        "calibration": {
            "temperature": rounded(trained.head.temperature),
            "error": rounded(trained.calibration_error),
        },
        "level": {"precision": level.precision, "probability": rounded(level.probability)},
        **({"penalty": float(f"{penalty:.3g}")} if penalty is not None else {}),
        "classes": [
            {
                "name": label.name,
                "train": int(train),
                "validation": int(validation),
                "top1": rounded(share.value),
            }
            for label, (train, validation), share in zip(
                labels, trained.counts, trained.shares, strict=True
            )
        ],
    }
