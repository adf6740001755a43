"""The tally of an evaluation: labels are compared with the truth, image by image."""

from __future__ import annotations

import heapq
import math
from array import array
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from nasnet_cli.errors import ErrorKind, NasnetError
from nasnet_cli.evaluation.truth import TrueClass, Truth
from nasnet_cli.results.records import Classified, Prediction

TOP = 5


class Mistake(NamedTuple):
    """An image whose best label is wrong."""

    path: str
    number: int
    true_class: TrueClass
    predicted: Prediction


@dataclass
class Tally:
    """The results of images, as they come; name_of returns what the user calls a path's class.

    classes is the number of the model's, None where it is not known. For each image that has a
    true class and labels, true_numbers has the class's place in truth.classes, predicted that of
    the best label (-1 for none of them), ranks the rank of the first right label (0 for none of the
    recorded ones), confidences the best label's probability, and sure 1 or 0 for a right or wrong
    everyday label, -1 without one. errors counts the images with an error by kind, without_class
    those whose class is not known.
    """

    truth: Truth
    name_of: Callable[[str], str | None]
    classes: int | None = None
    mistakes_kept: int = 10
    errors: Counter[ErrorKind] = field(default_factory=Counter)
    without_class: int = 0
    fewest: int | None = None
    true_numbers: array[int] = field(default_factory=lambda: array("i"))
    predicted: array[int] = field(default_factory=lambda: array("i"))
    ranks: array[int] = field(default_factory=lambda: array("i"))
    confidences: array[float] = field(default_factory=lambda: array("d"))
    sure: array[int] = field(default_factory=lambda: array("b"))
    _mistakes: list[tuple[float, int, Mistake]] = field(default_factory=list)
    _containing: dict[tuple[str, str], list[int]] = field(default_factory=dict)

    def add(self, row: Classified) -> None:
        """Add an image. Raises NasnetError for one whose labels were left out."""
        name = self.name_of(row.path)
        number = None if name is None else self.truth.number(name)
        if number is None:
            self.without_class += 1
        elif row.error is not None:
            self.errors[row.error.kind] += 1
        else:
            check_has_labels(row)
            self._add(row, number, row.predictions or ())

    def _add(self, row: Classified, number: int, predictions: tuple[Prediction, ...]) -> None:
        true_class, best = self.truth.classes[number], predictions[0]
        has = (p.rank for p in predictions if true_class.has(p.wnid, p.label))
        rank = next(has, 0)
        self.fewest = min(len(predictions), self.fewest or len(predictions))
        self.true_numbers.append(number)
        self.predicted.append(number if rank == 1 else self._number_of(best))
        self.ranks.append(rank)
        # To six digits, as results have it: they give the same figures.
        self.confidences.append(round(best.probability, 6))
        if row.sure is None or not true_class.wnid:
            self.sure.append(-1)
        else:
            self.sure.append(true_class.is_shown_by(row.sure.wnid))
        if rank != 1 and math.isfinite(best.probability) and self.mistakes_kept:
            # Of equal ones the first images stay.
            mistake = Mistake(row.path, len(self.ranks), true_class, best)
            entry = (best.probability, -len(self.ranks), mistake)
            if len(self._mistakes) < self.mistakes_kept:
                heapq.heappush(self._mistakes, entry)
            else:
                heapq.heappushpop(self._mistakes, entry)

    def _number_of(self, best: Prediction) -> int:
        """Return the narrowest of the true classes that a label belongs to, -1 for none."""
        key = best.wnid, best.label
        known = self.truth.classes
        if key not in self._containing:
            self._containing[key] = [n for n, c in enumerate(known) if c.has(*key)]
        return min(
            self._containing[key],
            key=lambda n: (len(known[n].wnids) + len(known[n].names), n),
            default=-1,
        )

    @property
    def mistakes(self) -> list[Mistake]:
        """The most confident mistakes, the most confident first."""
        return [entry[2] for entry in sorted(self._mistakes, reverse=True)]

    @property
    def knows_top5(self) -> bool:
        """True if every image has five labels, or as many as the model has classes."""
        return (self.fewest or 0) >= min(TOP, self.classes or TOP)


def check_has_labels(row: Classified) -> None:
    """Raise NasnetError for an image whose labels were left out: it is neither right nor wrong."""
    if row.predictions == ():
        raise NasnetError(
            f"{row.path} has no labels: --threshold left them out, or they are not numbers.",
            "Classify the images again without --threshold.",
        )
