"""Plots of an evaluation as PNG: the confusion matrix and the reliability diagram."""

from __future__ import annotations

import numpy as np

from nasnet_cli.errors import NasnetError
from nasnet_cli.evaluation.metrics import Bin
from nasnet_cli.evaluation.outcome import OTHER, Outcome
from nasnet_cli.plots import figure_of, png_of

_MOST_NAMES = 60


def require() -> None:
    """Raise NasnetError when matplotlib is missing."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise NasnetError(
            "Plots need matplotlib.", "Run: pip install matplotlib. Or leave them out: --no-plots."
        ) from None


def confusion_png(outcome: Outcome) -> bytes:
    """Return a plot of the confusion matrix, each row as shares of its class's images."""
    shares = outcome.matrix / np.maximum(1, outcome.matrix.sum(axis=1, keepdims=True))
    names = [_name(name) for name in (*outcome.names, OTHER)]
    side = min(24.0, max(5.0, 2.5 + 0.25 * len(names)))
    figure, axes = figure_of(side, side)
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, interpolation="nearest")
    figure.colorbar(image, ax=axes, label="share of the class's images", fraction=0.046)
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class")
    if len(names) <= _MOST_NAMES:
        axes.set_xticks(range(len(names)), names, rotation=90, fontsize=8)
        axes.set_yticks(range(len(names) - 1), names[:-1], fontsize=8)
    axes.set_title(f"top-1 {100 * (outcome.top1.value or 0):.1f} %")
    return png_of(figure)


def reliability_png(bins: list[Bin], error: float) -> bytes:
    """Return a reliability diagram, with the number of images in each bin below it."""
    figure, (upper, lower) = figure_of(5, 6, rows=2)
    lefts, widths = [b.low for b in bins], [b.high - b.low for b in bins]
    upper.bar(lefts, [b.accuracy for b in bins], widths, align="edge", edgecolor="white")
    upper.plot([b.confidence for b in bins], [b.accuracy for b in bins], "o", color="black")
    upper.plot([0, 1], [0, 1], "--", color="grey")
    upper.set(xlim=(0, 1), ylim=(0, 1), ylabel="share that is right")
    upper.set_title(f"expected calibration error {100 * error:.1f} %")
    lower.bar(lefts, [b.count for b in bins], widths, align="edge", edgecolor="white")
    lower.set(xlim=(0, 1), xlabel="probability of the best label", ylabel="images")
    return png_of(figure)


def _name(name: str) -> str:
    from nasnet_cli.results.text import printable

    # matplotlib reads formulas between dollar signs.
    return printable(name).replace("$", r"\$")[:40]
