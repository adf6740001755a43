"""Accuracy on held-out images, by group of classes."""

from __future__ import annotations

from typing import Any, Literal

import keras
import numpy as np
from keras import ops

from nasnet_cli.training.augment import Box, crop
from nasnet_cli.training.calibration import class_weights, probabilities
from nasnet_cli.training.image_sets import ImageSet

Group = Literal["labelled", "named", "rare"]
SURE = 0.3
ENOUGH = 30


def class_groups(sets: list[ImageSet], classes: int) -> np.ndarray:
    """Return each class's group, as strings [classes].

    "labelled" classes have at least 30 labelled images, "named" ones 30 that have a label or
    that the teacher names with more than 0.3; the rest is "rare".
    """
    labelled, named = np.zeros(classes, int), np.zeros(classes, int)
    for image_set in sets:
        known = image_set.labels >= 0
        np.add.at(labelled, image_set.labels[known], 1)
        if image_set.teacher is not None:
            sure = ~known & (teacher_confidence(image_set) > SURE)
            np.add.at(named, image_set.teacher.classes[sure, 0, 0], 1)
    groups = np.full(classes, "rare", dtype="U8")
    groups[labelled + named >= ENOUGH] = "named"
    groups[labelled >= ENOUGH] = "labelled"
    return groups


def teacher_confidence(image_set: ImageSet) -> np.ndarray:
    """Return the teacher's best probability of each image's first crop, float64 [n]."""
    assert image_set.teacher is not None
    return np.asarray((image_set.teacher.roots[:, 0, 0] / 255) ** 2)


def central_logits(model: keras.Model, image_set: ImageSet, rows: np.ndarray) -> np.ndarray:
    """Return a model's logits of the central crops of some images, float32 [n, classes].

    The crop is the first one that the teacher saw, or the whole image where there is no teacher.
    """
    size, side = model.input_shape[1], image_set.pixels.shape[1]
    outputs = []
    for start in range(0, len(rows), 100):
        part = rows[start : start + 100]
        boxes: list[Box] = [(0.0, 0.0, side, side)] * len(part)
        if image_set.teacher is not None:
            boxes = (image_set.teacher.boxes[part, 0] * (side / 255)).tolist()
        images = crop([image_set.pixels[row] for row in part], boxes, size)
        logits = model.predict_on_batch(images)["Logits"]
        outputs.append(ops.convert_to_numpy(logits))
    return np.concatenate(outputs)


def ranks(logits: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return the place of the true class among each row's logits: 0 is the first, int [n]."""
    own = logits[np.arange(len(truth)), truth][:, None]
    return np.asarray((logits > own).sum(axis=1))


def accuracy_by_group(
    model: keras.Model, held: dict[str, tuple[ImageSet, np.ndarray]], groups: np.ndarray
) -> dict[str, Any]:
    """Measure a model on the rows held out of each set.

    Each set gives top-1 and top-5 of its labelled images; a set with a teacher and unlabelled
    images also the agreement with the teacher where that is surer than 0.3, by the group of the
    class that it names. In these each class weighs the same. Images that show nothing give the
    share that gets more than a half. All are percentages.
    """
    result: dict[str, Any] = {}
    for name, (image_set, rows) in held.items():
        logits = central_logits(model, image_set, rows)
        labels = image_set.labels[rows]
        known = labels >= 0
        if not known.any() and image_set.teacher is None:
            result[f"{name}_sure"] = confident_share(logits)
            continue
        result[name] = _figures(logits[known], labels[known])
        if image_set.teacher is None or known.all():
            continue
        taught = image_set.teacher.classes[rows, 0, 0].astype(int)
        sure = ~known & (teacher_confidence(image_set)[rows] > SURE)
        for group in ("labelled", "named", "rare"):
            chosen = sure & (groups[taught] == group)
            result[f"{name}_{group}"] = _figures(logits[chosen], taught[chosen])
    return result


def confident_share(logits: np.ndarray, least: float = 0.5) -> float:
    """Return the percentage of rows whose best probability is over least."""
    best = probabilities(logits).max(axis=1)
    return round(float(100 * (best > least).mean()), 2)


def _figures(logits: np.ndarray, truth: np.ndarray) -> list[float]:
    if not len(truth):
        return []
    place = ranks(logits, truth)
    weight = class_weights(truth)
    return [round(float(100 * (weight * (place < k)).sum()), 2) for k in (1, 5)]
