"""Sets of training images in memory or on disk: pixels, true labels and a teacher's answers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Teacher:
    """A teacher's answers to crops of each image.

    boxes [n, k, 4] are the crops (left, top, right, bottom in 255ths of the image's sides),
    classes [n, k, m] the m best classes of each crop and roots [n, k, m] their probabilities, as
    255 times the square root. All are integers; the first box of an image is its central square.
    """

    boxes: np.ndarray
    classes: np.ndarray
    roots: np.ndarray


@dataclass(frozen=True)
class ImageSet:
    """Square images of one size with what is known about them.

    pixels is uint8 [n, side, side, 3], labels [n] holds the true classes, -1 where unknown.
    """

    pixels: np.ndarray
    labels: np.ndarray
    teacher: Teacher | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def presumed_classes(self) -> np.ndarray:
        """Return each image's class [n]: the true one, or the teacher's first; -1 for neither."""
        if self.teacher is None:
            return self.labels.astype(np.int64)
        return np.where(self.labels >= 0, self.labels, self.teacher.classes[:, 0, 0]).astype(
            np.int64
        )


def held_out(classes: np.ndarray, part: int = 20, seed: int = 0) -> np.ndarray:
    """Select one image in part of each class, as a mask [n].

    Images are put in order of class, at random within one, and every part-th is taken; so a rare
    class gives none or one, and all classes together exactly their share.
    """
    shuffled = np.random.default_rng([seed, len(classes)]).permutation(len(classes))
    order = shuffled[np.argsort(classes[shuffled], kind="stable")]
    mask = np.zeros(len(classes), bool)
    mask[order[part // 2 :: part]] = True
    return mask
