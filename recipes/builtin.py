"""Trains the built-in model: a small NASNet-A with ImageNet's 1001 classes.

    python recipes/builtin.py train DATA WORK [COPY]
    python recipes/builtin.py cooldown DATA WORK

DATA holds the folders tiny-imagenet and imagenet-mix. train trains at a constant rate, with its
checkpoint in WORK/train (and COPY) and a line in WORK/train/log.jsonl every few minutes. Run it
again to go on after a stop. cooldown takes the checkpoint that is there and lets the rate fall to 0,
in WORK/cooldown-STEP; package_builtin.py makes a module out of that.

Everything is chosen on a twentieth of each set, by class, which training never sees.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# Off by default on AMD processors, where it's as good.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

import keras
import numpy as np
from training_data import read_sets

from nasnet_cli.network.keras_layers import KerasLayers
from nasnet_cli.network.spec import NASNetA, Stem
from nasnet_cli.training.augment import Augmentation
from nasnet_cli.training.batches import Batches, Part
from nasnet_cli.training.evaluate import accuracy_by_group, class_groups
from nasnet_cli.training.loop import Settings, Training, train
from nasnet_cli.training.pictures import PictureSet, held_out
from nasnet_cli.training.sampling import sampling_weights
from nasnet_cli.training.schedule import Course, Phase

NETWORK = NASNetA(
    image_size=112,
    cells_per_stage=2,
    filters=48,
    classes=1001,
    stem=Stem("conv0", "conv0_bn", 32, stride=2, padding="same", cells=2),
    dropout_keep=1.0,
    bn_decay=0.99,
    weight_decay=4e-5,
)
SETTINGS = Settings(NETWORK)
SEED = 1

# Most of what people photograph has no label here, and the network learns it from the teacher's
# answers to full-size photos alone; so these are more than half of each batch. The teacher knows
# thumbnails badly: there the true label counts.
PARTS = (
    Part("full", 76, crop="teacher", label_weight=0.5, smoothing=0.0),
    Part("mini", 20, label_weight=0.85, mixup=0.2),
    Part("tiny", 32, label_weight=0.85, mixup=0.2),
)
COURSE = Course(
    phases=(
        Phase(45_000, 64, PARTS, Augmentation()),
        Phase(62_000, 80, PARTS, Augmentation()),
        Phase(80_000, 96, PARTS, Augmentation()),
    ),
    peak_rate=0.2,
    warmup_steps=1000,
)
COOLDOWN_SHARE = 0.1
COOLDOWN_PHASES = ((96, 0.5), (112, 0.5))

DOGS = range(152, 270)
# A fifth of the draws would be dogs, which are an eighth of the classes.
CAPS = {0.13: (DOGS,)}


def held_rows(sets: dict[str, PictureSet]) -> dict[str, np.ndarray]:
    """Return a mask of the pictures of each set that are kept out of training."""
    return {name: held_out(pictures.presumed_classes()) for name, pictures in sets.items()}


def make_batches(sets: dict[str, PictureSet], seed: int) -> Batches:
    """Return batches of the pictures that aren't held out, balanced by class."""
    weights = {}
    for name, held in held_rows(sets).items():
        weights[name] = np.zeros(len(held))
        classes = sets[name].presumed_classes()[~held]
        weights[name][~held] = sampling_weights(classes, caps=CAPS)
    return Batches(sets, weights, NETWORK.classes, seed)


def fast_layers() -> Callable[[NASNetA], KerasLayers]:
    """Return the fastest set of layers for Keras' backend."""
    if keras.backend.backend() != "tensorflow":
        return KerasLayers
    from nasnet_cli.training.tensorflow_layers import TensorFlowLayers

    return TensorFlowLayers


def run(
    settings: Settings, course: Course, data: Path, work: Path, folder: Path, **options: Any
) -> None:
    """Train along a course with the checkpoint and the log in folder."""
    sets = read_sets(data, work / "data")
    held = {name: (sets[name], np.flatnonzero(mask)) for name, mask in held_rows(sets).items()}
    groups = class_groups(list(sets.values()), NETWORK.classes)
    folder.mkdir(parents=True, exist_ok=True)

    def log(record: dict[str, Any]) -> None:
        line = json.dumps(record)
        print(line, flush=True)
        with (folder / "log.jsonl").open("a") as out:
            out.write(line + "\n")

    train(
        Training(settings, course, fast_layers()),
        make_batches(sets, SEED),
        folder / "checkpoint.npz",
        log=log,
        evaluate=lambda model: accuracy_by_group(model, held, groups),
        **options,
    )


def main(command: str, data: Path, work: Path, *copies: Path) -> None:
    if command == "train":
        places = [place / "checkpoint.npz" for place in copies]
        run(SETTINGS, COURSE, data, work, work / "train", copies=places)
        return
    raise SystemExit(f"unknown command {command}")


if __name__ == "__main__":
    main(sys.argv[1], *map(Path, sys.argv[2:]))
