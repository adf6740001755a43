"""The state of a run on disk: what it has reached, from which it is continued."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from nasnet_cli.atomic import hidden_file
from nasnet_cli.errors import OutputError
from nasnet_cli.interruption import at_interruption
from nasnet_cli.kept_files import parse_json, read_kept
from nasnet_cli.training.checkpoint import Arrays, Checkpoint, load_checkpoint, write_checkpoint

HISTORY, CHECKPOINT, BEST = "history.json", "checkpoint.npz", "best.npz"


@dataclass(frozen=True)
class Epoch:
    """The results of an epoch; number 0 is a trained network as it was, without rate and loss.

    loss is the mean training loss. validation_loss, the cross-entropy at the best temperature, and
    top1, the accuracy in [0, 1], are those of the averaged weights on the validation images, where
    each class weighs the same in the loss.
    """

    epoch: int
    step: int
    rate: float | None
    loss: float | None
    validation_loss: float
    top1: float


@dataclass(frozen=True)
class Progress:
    """The state after a step, of which no later step changes anything."""

    checkpoint: Checkpoint
    losses: tuple[float, ...]
    epochs: tuple[Epoch, ...]


class ProgressFolder:
    """The folder of a run's state, which is made. identity tells the run from others.

    latest is what save writes, and what a signal writes between the calls of remember and forget.
    """

    latest: Progress

    def __init__(self, folder: Path, identity: str) -> None:
        self._folder, self._identity = folder, identity
        self._forget: Callable[[], None] = lambda: None
        folder.mkdir(exist_ok=True)

    def read(self) -> Progress | None:
        """Return what is on disk, None for nothing. Raises OutputError for another run's state."""
        checkpoint = self._folder / CHECKPOINT
        if not checkpoint.exists():
            return None
        try:
            known = parse_json(read_kept(self._folder / HISTORY))
            if known["identity"] != self._identity:
                raise OutputError(
                    f"The unfinished run in {self._folder} has other images, another model, other "
                    "options or another version of nasnet or TensorFlow.",
                    "Start over: --overwrite instead of --resume.",
                )
            state = load_checkpoint(checkpoint)
            epochs = [Epoch(**epoch) for epoch in known["epochs"]]
            reached = tuple(epoch for epoch in epochs if epoch.step <= state.step)
            return Progress(state, tuple(known["losses"][: state.step]), reached)
        except PermissionError as error:
            raise OutputError(
                f"Permission to read the unfinished run in {self._folder} is denied.",
                "Run as its owner, or train to another output.",
            ) from error
        except (OSError, EOFError, BadZipFile, ValueError, KeyError, TypeError) as error:
            raise OutputError(
                f"The unfinished run in {self._folder} is damaged.",
                "Start over: --overwrite instead of --resume.",
            ) from error

    def save(self) -> None:
        """Write the latest state."""
        self._write()
        self.remember()

    def remember(self) -> None:
        """Have a signal write the state; again after each file, for only the latest are kept."""
        self._forget()
        self._forget = at_interruption(self._write)

    def forget(self) -> None:
        """Have a signal write nothing any more."""
        self._forget()

    def _write(self) -> None:
        """Write the history, and then the checkpoint, which it reaches at least up to."""
        latest = self.latest
        history = {
            "identity": self._identity,
            "losses": latest.losses,
            "epochs": [asdict(epoch) for epoch in latest.epochs],
        }
        _write(self._folder / HISTORY, lambda file: file.write(json.dumps(history).encode()))
        _write(self._folder / CHECKPOINT, lambda file: write_checkpoint(file, latest.checkpoint))

    def write_best(self, weights: Arrays) -> None:
        """Write the weights of the best epoch so far."""

        def save(file: Any) -> None:
            np.savez(file, **weights)  # type: ignore[arg-type]

        _write(self._folder / BEST, save)

    def read_best(self) -> dict[str, np.ndarray]:
        """Return the weights of the best epoch."""
        with np.load(self._folder / BEST) as saved:
            return {name: saved[name] for name in saved.files}


def _write(path: Path, write: Callable[[Any], object]) -> None:
    with hidden_file(path) as partial:
        with partial.open("xb") as file:
            write(file)
        partial.replace(path)
