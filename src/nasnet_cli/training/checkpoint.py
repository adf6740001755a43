"""Checkpoints of a training run: one file, replaced as a whole, with copies in other places."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from nasnet_cli.kept_files import parse_object

Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Checkpoint:
    """The state of a run after a number of steps.

    weights and average are the weights and their moving averages by variable name, optimizer the
    optimizer's variables in order. seen counts the images of all steps so far.
    """

    step: int
    seen: int
    weights: Arrays
    average: Arrays
    optimizer: Sequence[np.ndarray]


def save_checkpoint(path: Path, state: Checkpoint, copies: Sequence[Path] = ()) -> None:
    """Write a checkpoint to path and then to each of copies; each file appears complete."""
    for place in (path, *copies):
        place.parent.mkdir(parents=True, exist_ok=True)
        partial = place.with_name(f"{place.stem}.part.npz")
        if place is path:
            write_checkpoint(partial, state)
        else:
            shutil.copyfile(path, partial)
        partial.replace(place)


def write_checkpoint(file: Path | BinaryIO, state: Checkpoint) -> None:
    """Write a checkpoint to a file that is open, or to a new one, whose name ends in .npz."""
    arrays: dict[str, Any] = {f"weights/{name}": value for name, value in state.weights.items()}
    arrays.update({f"average/{name}": value for name, value in state.average.items()})
    arrays.update({f"optimizer/{i}": value for i, value in enumerate(state.optimizer)})
    head = json.dumps({"step": state.step, "seen": state.seen})
    np.savez(file, head=np.array(head), **arrays)


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint that save_checkpoint wrote."""
    with np.load(path) as saved:
        head = parse_object(str(saved["head"]), {"step": int, "seen": int})
        kinds: dict[str, dict[str, np.ndarray]] = {"weights": {}, "average": {}, "optimizer": {}}
        for key in saved.files:
            kind, _, name = key.partition("/")
            if kind in kinds:
                kinds[kind][name] = saved[key]
    optimizer = [kinds["optimizer"][str(i)] for i in range(len(kinds["optimizer"]))]
    return Checkpoint(head["step"], head["seen"], kinds["weights"], kinds["average"], optimizer)
