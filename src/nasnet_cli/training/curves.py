"""The curves of a training run, as JSON and PNG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from nasnet_cli.plots import figure_of, png_of
from nasnet_cli.results.text import json_text
from nasnet_cli.training.progress import Epoch


def curves_json(losses: Sequence[float], epochs: Sequence[Epoch], best: Epoch) -> bytes:
    """Return the training loss of each step and the results of each epoch."""
    document = {
        "best_epoch": best.epoch,
        "epochs": [asdict(epoch) for epoch in epochs],
        "losses": list(losses),
    }
    return (json_text(document, indent=2) + "\n").encode()


def curves_png(losses: Sequence[float], epochs: Sequence[Epoch], best: Epoch) -> bytes:
    """Return a plot of the losses and of the accuracy, by epoch."""
    figure, (upper, lower) = figure_of(6, 6, rows=2, ratios=(1, 1))
    steps = epochs[-1].step / max(1, epochs[-1].epoch)
    numbers = [epoch.epoch for epoch in epochs]
    places = [(step + 1) / steps for step in range(len(losses))]
    upper.plot(places, losses, color="lightgrey", label="training, each step")
    means = [(epoch.epoch, epoch.loss) for epoch in epochs if epoch.loss is not None]
    upper.plot([n for n, _ in means], [loss for _, loss in means], label="training, mean")
    upper.plot(numbers, [epoch.validation_loss for epoch in epochs], "o-", label="validation")
    upper.set(ylabel="loss")
    upper.legend()
    lower.plot(numbers, [100 * epoch.top1 for epoch in epochs], "o-")
    lower.axvline(best.epoch, linestyle="--", color="grey")
    lower.set(xlabel="epoch", ylabel="top-1 of validation images, %", ylim=(0, 100))
    return png_of(figure)
