"""The outcome of an evaluation: all figures, as a JSON document, CSV tables and lines of text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from nasnet_cli.errors import NasnetError
from nasnet_cli.evaluation.metrics import (
    Bin,
    Share,
    Threshold,
    calibration_error,
    confusion_matrix,
    reliability,
    share_of,
    thresholds,
)
from nasnet_cli.evaluation.tally import TOP, Mistake, Tally
from nasnet_cli.evaluation.truth import TrueClass
from nasnet_cli.results.records import path_members
from nasnet_cli.results.text import counted, decimal, readable, rounded
from nasnet_cli.results.writers import csv_lines, no_formula

OTHER = "(other)"
"""The column of labels that belong to none of the true classes."""

_LEAST_ACCURATE = 5


@dataclass(frozen=True)
class ClassFigures:
    """The figures of one true class, whose images are count of top1.

    top5 is None where it is not known. precision is the share of right ones among the images whose
    best label belongs to the class; confused_with are the names of the classes that its images are
    taken for, with their counts, the most frequent first.
    """

    true_class: TrueClass
    top1: Share
    top5: Share | None
    precision: Share
    confused_with: tuple[tuple[str, int], ...]

    @property
    def f1(self) -> float | None:
        """The harmonic mean of precision and top-1 accuracy; None without images and predictions."""
        both = self.top1.count + self.precision.count
        return 2 * self.top1.hits / both if both else None


class Outcome:
    """The figures of a tally. Raises NasnetError when no image was compared."""

    def __init__(self, tally: Tally) -> None:
        if not len(tally.ranks):
            raise NasnetError(
                "No image has both a true class and labels.",
                "Name folders or labels by the model's classes; nasnet inspect --json lists them.",
            )
        self.tally = tally
        self.classes = tally.truth.classes
        self.truth = np.array(tally.true_numbers)
        self.predicted = np.array(tally.predicted)
        self.ranks = np.array(tally.ranks)
        self.names = [true_class.name for true_class in self.classes]

    @property
    def top1(self) -> Share:
        """The share of images whose best label is right."""
        return share_of(self.ranks == 1)

    @property
    def top5(self) -> Share | None:
        """The share with the right label among five; None where fewer were recorded."""
        is_right = (self.ranks >= 1) & (self.ranks <= TOP)
        return share_of(is_right) if self.tally.knows_top5 else None

    @property
    def mean_top1(self) -> float:
        """The mean of the classes' top-1 accuracies, over the classes that have images."""
        shares = [c.top1.value for c in self.per_class if c.top1.value is not None]
        return sum(shares) / len(shares)

    @cached_property
    def matrix(self) -> np.ndarray:
        """The confusion matrix [classes, classes + 1]; the last column is OTHER."""
        return confusion_matrix(self.truth, self.predicted, len(self.classes))

    @cached_property
    def per_class(self) -> list[ClassFigures]:
        """The figures of each true class, in their order."""
        in_top5 = confusion_matrix(
            self.truth, np.where((self.ranks >= 1) & (self.ranks <= TOP), 0, -1), len(self.classes)
        )[:, 0]
        columns = self.matrix.sum(axis=0)
        found = []
        for number, true_class in enumerate(self.classes):
            row = self.matrix[number]
            count, hits = int(row.sum()), int(row[number])
            top5 = Share(int(in_top5[number]), count) if self.tally.knows_top5 else None
            found.append(
                ClassFigures(
                    true_class,
                    Share(hits, count),
                    top5,
                    Share(hits, int(columns[number])),
                    self._confused(row, number),
                )
            )
        return found

    def _confused(self, row: np.ndarray, own: int) -> tuple[tuple[str, int], ...]:
        order = [n for n in np.argsort(-row, kind="stable").tolist() if row[n] and n != own]
        return tuple(((*self.names, OTHER)[n], int(row[n])) for n in order[:3])

    @cached_property
    def _confident(self) -> tuple[np.ndarray, np.ndarray]:
        confidence = np.array(self.tally.confidences)
        known = np.isfinite(confidence)
        return confidence[known], (self.ranks == 1)[known]

    @cached_property
    def bins(self) -> list[Bin]:
        """The bins of the reliability diagram; none where no probability is known."""
        return reliability(*self._confident)

    @property
    def calibration_error(self) -> float | None:
        """The expected calibration error in [0, 1]."""
        return calibration_error(self.bins) if self.bins else None

    @property
    def thresholds(self) -> list[Threshold]:
        """The probabilities from which on 80, 90 and 95 % are right."""
        return thresholds(*self._confident)

    @property
    def everyday(self) -> tuple[Share, Share] | None:
        """The share of images that have an everyday label, and of right ones among them."""
        sure = np.array(self.tally.sure)
        has = sure >= 0
        return (share_of(has), share_of(sure[has] == 1)) if has.any() else None

    def document(self) -> dict[str, Any]:
        """Return all figures as JSON has them; shares are in [0, 1]."""
        tally, everyday = self.tally, self.everyday
        return {
            "images": {
                "compared": len(self.ranks),
                "errors": tally.errors.total(),
                "without_class": tally.without_class,
            },
            "top1": _share(self.top1),
            "top5": _share(self.top5),
            "mean_class_top1": rounded(self.mean_top1),
            "everyday": everyday
            and {"coverage": _share(everyday[0]), "accuracy": _share(everyday[1])},
            "calibration": {
                "error": rounded(self.calibration_error),
                "bins": [_rounded(vars(bin_)) for bin_ in self.bins],
            },
            "thresholds": [
                {
                    "precision": found.precision,
                    "probability": rounded(found.probability),
                    "reached": _share(found.reached),
                    "coverage": found.reached and rounded(found.reached.count / len(self.ranks)),
                }
                for found in self.thresholds
            ],
            "classes": [_class(figures) for figures in self.per_class],
            "mistakes": [_mistake(mistake) for mistake in tally.mistakes],
            "unmatched": {readable(name): reason for name, reason in tally.truth.unmatched.items()},
        }

    def confusion_csv(self) -> bytes:
        """Return the confusion matrix as CSV: a row for each true class."""
        header = ["true class", *(no_formula(name, mark="'") for name in (*self.names, OTHER))]
        rows = (
            [no_formula(name, mark="'"), *map(str, counts)]
            for name, counts in zip(self.names, self.matrix.tolist(), strict=True)
        )
        return csv_lines([header, *rows]).encode()

    def classes_csv(self) -> bytes:
        """Return the figures of each class as CSV."""
        header = ["class", "wnid", "images", "top1", "top1_low", "top1_high", "top5"]
        rows = [[*header, "precision", "f1", "confused_with"]]
        for figures in self.per_class:
            low, high = figures.top1.interval or (None, None)
            top5 = figures.top5.value if figures.top5 else None
            confused = "; ".join(f"{name} {count}" for name, count in figures.confused_with)
            numbers = (figures.top1.value, low, high, top5, figures.precision.value, figures.f1)
            rows.append([
                no_formula(figures.true_class.name, mark="'"),
                figures.true_class.wnid,
                str(figures.top1.count),
                *("" if number is None else decimal(number, missing="") for number in numbers),
                no_formula(confused, mark="'"),
            ])  # fmt: skip
        return csv_lines(rows).encode()

    def lines(self) -> Iterator[str]:
        """Yield the summary for people."""
        yield f"{counted(len(self.ranks), 'image')} of {_classes(len(self.classes))}"
        yield f"top-1               {_percent(self.top1)}"
        if self.top5:
            yield f"top-5               {_percent(self.top5)}"
        yield f"top-1, class mean   {100 * self.mean_top1:5.1f} %"
        if everyday := self.everyday:
            coverage, accuracy = everyday
            yield (
                f"everyday label      {_percent(accuracy)}, of the "
                f"{100 * (coverage.value or 0):.1f} % of images that have one"
            )
        if self.calibration_error is not None:
            yield f"calibration error   {100 * self.calibration_error:5.1f} %"
            yield from map(self._threshold_line, self.thresholds)
        yield from self._class_lines()
        if self.tally.mistakes:
            yield "Most confident mistakes"
        for mistake in self.tally.mistakes:
            found = mistake.predicted
            yield (
                f"  {100 * found.probability:5.1f} % {found.label}, "
                f"but {mistake.true_class.title}: {mistake.path}"
            )

    def _threshold_line(self, found: Threshold) -> str:
        start = f"{100 * found.precision:.0f} % right         "
        if found.probability is None or found.reached is None:
            return f"{start}   at no probability"
        share = 100 * found.reached.count / len(self.ranks)
        return f"{start}   from a probability of {found.probability:.6f}: {share:.1f} % of images"

    def _class_lines(self) -> Iterator[str]:
        known = [figures for figures in self.per_class if figures.top1.count]
        if len(known) < 2:
            return
        known.sort(key=lambda figures: figures.top1.value or 0.0)
        yield "Least accurate classes"
        for figures in known[:_LEAST_ACCURATE]:
            titles = {c.name: c.title for c in self.classes}
            confused = ", ".join(
                f"{titles.get(name, name)} {count}" for name, count in figures.confused_with
            )
            taken = f"; taken for {confused}" if confused else ""
            yield f"  {_percent(figures.top1)}  {figures.true_class.title}{taken}"


def _classes(count: int) -> str:
    return "1 class" if count == 1 else f"{count:,} classes"


def _percent(share: Share) -> str:
    low, high = share.interval or (0.0, 1.0)
    value = share.value or 0.0
    return f"{100 * value:5.1f} % ({100 * low:.1f} to {100 * high:.1f})"


def _share(share: Share | None) -> dict[str, Any] | None:
    if share is None:
        return None
    low, high = share.interval or (None, None)
    return {
        "share": rounded(share.value),
        "low": rounded(low),
        "high": rounded(high),
        "hits": share.hits,
        "count": share.count,
    }


def _rounded(values: Mapping[str, Any]) -> dict[str, Any]:
    return {k: rounded(v) if isinstance(v, float) else v for k, v in values.items()}


def _class(figures: ClassFigures) -> dict[str, Any]:
    confused: Sequence[tuple[str, int]] = figures.confused_with
    return {
        "name": readable(figures.true_class.name),
        "wnid": figures.true_class.wnid,
        "top1": _share(figures.top1),
        "top5": _share(figures.top5),
        "precision": _share(figures.precision),
        "f1": rounded(figures.f1),
        "confused_with": [{"name": readable(name), "count": count} for name, count in confused],
    }


def _mistake(mistake: Mistake) -> dict[str, Any]:
    found = mistake.predicted
    return {
        **path_members(mistake.path),
        "class": readable(mistake.true_class.name),
        "title": readable(mistake.true_class.title),
        "label": found.label,
        "wnid": found.wnid,
        "probability": rounded(found.probability),
    }
