"""Accuracy on held-out pictures, by group of classes."""

from __future__ import annotations

from typing import Any, Literal

import keras
import numpy as np
from keras import ops

from nasnet_cli.training.augment import Box, crop
from nasnet_cli.training.calibration import class_weights, probabilities
from nasnet_cli.training.pictures import PictureSet

Group = Literal["labelled", "named", "rare"]
SURE = 0.3
ENOUGH = 30


def class_groups(sets: list[PictureSet], classes: int) -> np.ndarray:
    """Return each class's group, as strings [classes].

    "labelled" classes have at least 30 labelled pictures, "named" ones 30 that have a label or
    that the teacher names with more than 0.3; the rest is "rare".
    """
    labelled, named = np.zeros(classes, int), np.zeros(classes, int)
    for pictures in sets:
        known = pictures.labels >= 0
        np.add.at(labelled, pictures.labels[known], 1)
        if pictures.teacher is not None:
            sure = ~known & (teacher_confidence(pictures) > SURE)
            np.add.at(named, pictures.teacher.classes[sure, 0, 0], 1)
    groups = np.full(classes, "rare", dtype="U8")
    groups[labelled + named >= ENOUGH] = "named"
    groups[labelled >= ENOUGH] = "labelled"
    return groups


def teacher_confidence(pictures: PictureSet) -> np.ndarray:
    """Return the teacher's best probability of each picture's first crop, float64 [n]."""
    assert pictures.teacher is not None
    return np.asarray((pictures.teacher.roots[:, 0, 0] / 255) ** 2)


def central_logits(model: keras.Model, pictures: PictureSet, rows: np.ndarray) -> np.ndarray:
    """Return a model's logits of the central crops of some pictures, float32 [n, classes].

    The crop is the first one that the teacher saw, or the whole picture where there is no teacher.
    """
    size, side = model.input_shape[1], pictures.pixels.shape[1]
    outputs = []
    for start in range(0, len(rows), 100):
        part = rows[start : start + 100]
        boxes: list[Box] = [(0.0, 0.0, side, side)] * len(part)
        if pictures.teacher is not None:
            boxes = (pictures.teacher.boxes[part, 0] * (side / 255)).tolist()
        images = crop([pictures.pixels[row] for row in part], boxes, size)
        logits = model.predict_on_batch(images)["Logits"]
        outputs.append(ops.convert_to_numpy(logits))
    return np.concatenate(outputs)


def ranks(logits: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return the place of the true class among each row's logits: 0 is the first, int [n]."""
    own = logits[np.arange(len(truth)), truth][:, None]
    return np.asarray((logits > own).sum(axis=1))


def accuracy_by_group(
    model: keras.Model, held: dict[str, tuple[PictureSet, np.ndarray]], groups: np.ndarray
) -> dict[str, Any]:
    """Measure a model on the rows held out of each set.

    Each set gives top-1 and top-5 of its labelled pictures; a set with a teacher and unlabelled
    pictures also the agreement with the teacher where that is surer than 0.3, by the group of the
    class that it names. In these each class weighs the same. Pictures that show nothing give the
    share that gets more than a half. All are percentages.
    """
    result: dict[str, Any] = {}
    for name, (pictures, rows) in held.items():
        logits = central_logits(model, pictures, rows)
        labels = pictures.labels[rows]
        known = labels >= 0
        if not known.any() and pictures.teacher is None:
            result[f"{name}_sure"] = confident_share(logits)
            continue
        result[name] = _figures(logits[known], labels[known])
        if pictures.teacher is None or known.all():
            continue
        taught = pictures.teacher.classes[rows, 0, 0].astype(int)
        sure = ~known & (teacher_confidence(pictures)[rows] > SURE)
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
