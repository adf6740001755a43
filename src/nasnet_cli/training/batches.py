"""Training batches, each a function of the seed and the step alone.

A resumed run therefore sees the batches that an uninterrupted one would have seen.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal

import numpy as np

from nasnet_cli.training.augment import Augmentation, Box, augment, random_box
from nasnet_cli.training.image_sets import ImageSet
from nasnet_cli.training.sampling import Sampler
from nasnet_cli.training.targets import blend, label_probabilities, teacher_probabilities

Batch = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Part:
    """The part of each batch that comes from one set.

    count is its images in a batch. crop says who chooses the crops: "teacher" takes one of the
    boxes that the teacher saw, "random" any. label_weight is the share of a true label in the
    target, the teacher having the rest; smoothing is that of true labels. Where neither knows a
    image, its target is all classes alike. mixup is the parameter of the beta distribution by
    which images of this part are mixed, 0 for none.
    """

    set_name: str
    count: int
    crop: Literal["teacher", "random"] = "random"
    label_weight: float = 1.0
    smoothing: float = 0.1
    mixup: float = 0.0


class Batches:
    """Batches of training images and targets.

    sets holds the images by the names that parts use, weights each image's probability of
    being drawn. classes is the number of outputs.
    """

    def __init__(
        self,
        sets: Mapping[str, ImageSet],
        weights: Mapping[str, np.ndarray],
        classes: int,
        seed: int,
    ) -> None:
        self.sets, self.classes, self.seed = sets, classes, seed
        self._samplers = {name: Sampler(weights[name]) for name in sets}

    def make(self, step: int, parts: tuple[Part, ...], size: int, change: Augmentation) -> Batch:
        """Return a step's images [n, size, size, 3] in [0, 1] and targets [n, classes], float32."""
        images, targets = [], []
        for number, part in enumerate(parts):
            random = np.random.default_rng([self.seed, step, number])
            one = self._make_part(part, size, change, random)
            images.append(one[0])
            targets.append(one[1])
        return np.concatenate(images), np.concatenate(targets)

    def _make_part(
        self, part: Part, size: int, change: Augmentation, random: np.random.Generator
    ) -> Batch:
        image_set = self.sets[part.set_name]
        rows = np.sort(self._samplers[part.set_name].draw(part.count, random))
        side = image_set.pixels.shape[1]
        true = label_probabilities(image_set.labels[rows], part.smoothing, self.classes)
        boxes: list[Box]
        if image_set.teacher is None:
            targets = blend(true, np.full_like(true, 1 / self.classes), 1.0)
            boxes = [random_box(side, side, change, random) for _ in rows]
        else:
            teacher = image_set.teacher
            choice = random.integers(teacher.boxes.shape[1], size=len(rows))
            if part.crop == "teacher":
                boxes = (teacher.boxes[rows, choice] * (side / 255)).tolist()
            else:
                boxes = [random_box(side, side, change, random) for _ in rows]
            taught = teacher_probabilities(
                teacher.classes[rows, choice], teacher.roots[rows, choice], self.classes
            )
            targets = blend(true, taught, part.label_weight)
        images = augment([image_set.pixels[row] for row in rows], boxes, size, change, random)
        return mix_up(images, targets, part.mixup, random) if part.mixup else (images, targets)


def mix_up(
    images: np.ndarray, targets: np.ndarray, alpha: float, random: np.random.Generator
) -> Batch:
    """Mix each image and its target with another of the batch, by shares of a beta(alpha, alpha)."""
    share = random.beta(alpha, alpha, len(images)).astype(np.float32)
    share = np.maximum(share, 1 - share)
    other = random.permutation(len(images))
    wide, flat = share[:, None, None, None], share[:, None]
    return (
        images * wide + images[other] * (1 - wide),
        targets * flat + targets[other] * (1 - flat),
    )


def prefetch(
    make: Callable[[int], Batch], first: int, last: int, *, depth: int = 4
) -> Iterator[Batch]:
    """Yield make(step) of the steps first to last - 1, made ahead of use in another thread."""
    with ThreadPoolExecutor(1) as pool:
        waiting: deque[Future[Batch]] = deque()
        try:
            for step in range(first, last):
                waiting.append(pool.submit(make, step))
                if len(waiting) > depth:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
