"""Train the built-in model: a small NASNet-A with ImageNet's 1001 classes.

    python recipes/builtin.py begin DATA WORK MODULE
    python recipes/builtin.py train DATA WORK [COPY]
    python recipes/builtin.py cooldown DATA WORK
    python recipes/builtin.py measure DATA WORK FOLDER [MODULE]

DATA holds the folders tiny-imagenet and imagenet-mix. begin takes MODULE's weights, with a new last
layer fitted to its features unless it has these classes already, and so goes on from a landed model
too. train trains at a constant rate, with its checkpoint in WORK/train (and COPY) and a line in
WORK/train/log.jsonl every few minutes. Run it again to go on after a stop. cooldown takes the
checkpoint that is there and lets the rate fall to 0, in WORK/cooldown-STEP, balances, calibrates
and measures the network and writes module.npz and result.json there, as measure does again;
package_builtin.py makes a module out of that folder. With the MODULE that training began with,
measure takes the mean of its weights and FOLDER's, which is better than either.

Everything is chosen on a twentieth of each set, by class, which training never sees. Tiny
ImageNet's validation images give a figure at the end and nothing else.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# Off by default on AMD processors, where it's as good.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

import numpy as np
from accuracy import accuracy_by_group, class_groups
from measuring import balanced, calibrate, calibrated, class_prior, figures
from patterns import make_patterns
from training_data import read_sets, read_tiny_validation
from warm_start import warm_start

from nasnet_cli.models.formats.tf1_hub import TF1Hub
from nasnet_cli.network.layers.keras import assign_weights, build_keras_model
from nasnet_cli.network.spec import NASNetA, Stem
from nasnet_cli.training.augment import Augmentation
from nasnet_cli.training.batches import Batches, Part
from nasnet_cli.training.checkpoint import load_checkpoint, save_checkpoint
from nasnet_cli.training.image_sets import ImageSet, held_out
from nasnet_cli.training.loop import Settings, Training, fastest_layers, train
from nasnet_cli.training.sampling import sampling_weights
from nasnet_cli.training.schedule import Course, Phase

# Begun with the weights of the model before it, of Tiny ImageNet's 200 classes, so its filters and
# stem are kept. With a new last layer alone it named 15.2 % of the labelled full-size photos that are
# held out, and 19.8 % after 304,640 images more. The second version was trained on 948,480 images with
# those weights, and a third on 450,560 with the second one's: the rate fell from step 1,100 on. It was
# no better; the mean of the second and the third is the module.
NETWORK = NASNetA(
    image_size=96,
    cells_per_stage=2,
    filters=32,
    classes=1001,
    stem=Stem("conv0", "conv0_bn", 32, stride=2, padding="same", cells=1),
    dropout_keep=1.0,
    bn_decay=0.99,
    weight_decay=4e-5,
)
SETTINGS = Settings(NETWORK)
# Another one each time that training begins anew from a landed module: other batches.
SEED = 3

# Most of what people photograph has no label here, and the network learns it from the teacher's
# answers to full-size photos alone; so these are more than half of each batch. The teacher knows
# thumbnails badly: there the true label counts. Patterns show nothing, and get all classes alike.
PARTS = (
    Part("full", 90, crop="teacher", label_weight=0.5, smoothing=0.0),
    Part("mini", 14, label_weight=0.85, mixup=0.2),
    Part("tiny", 22, label_weight=0.85, mixup=0.2),
    Part("patterns", 2),
)
COURSE = Course(
    phases=(
        Phase(40_000, 64, PARTS, Augmentation()),
        Phase(80_000, 80, PARTS, Augmentation()),
    ),
    peak_rate=0.06,
    warmup_steps=100,
)
COOLDOWN_SHARE = 2.2
COOLDOWN_SIZES = (64, 64, 64, 64, 64, 80, 80, 96)
# The features that the new last layer is fitted to: 128,000 images of 80 pixels, twelve times each.
WARM_START = Phase(1, 80, PARTS, Augmentation())
WARM_STEPS, WARM_ROUNDS = 1000, 12

PATTERNS = 3000
DOGS = range(152, 270)
# A fifth of the draws would be dogs, which are an eighth of the classes.
CAPS = {0.13: (DOGS,)}


def all_sets(data: Path, work: Path) -> dict[str, ImageSet]:
    """Return the sets that are trained on: DATA's and patterns."""
    patterns = make_patterns(PATTERNS, 112, SEED)
    unknown = np.full(PATTERNS, -1)
    return {**read_sets(data, work / "data"), "patterns": ImageSet(patterns, unknown)}


def held_rows(sets: dict[str, ImageSet]) -> dict[str, np.ndarray]:
    """Return a mask of the images of each set that are kept out of training."""
    return {name: held_out(image_set.presumed_classes()) for name, image_set in sets.items()}


def held_sets(
    sets: dict[str, ImageSet],
) -> tuple[dict[str, tuple[ImageSet, np.ndarray]], np.ndarray]:
    """Return each set with the rows that are kept out of training, and the classes' groups."""
    held = {name: (sets[name], np.flatnonzero(mask)) for name, mask in held_rows(sets).items()}
    return held, class_groups(list(sets.values()), NETWORK.classes)


def make_batches(sets: dict[str, ImageSet], seed: int) -> Batches:
    """Return batches of the images that aren't held out, balanced by class."""
    weights = {}
    for name, held in held_rows(sets).items():
        weights[name] = np.zeros(len(held))
        classes = sets[name].presumed_classes()[~held]
        weights[name][~held] = sampling_weights(classes, caps=CAPS)
    return Batches(sets, weights, NETWORK.classes, seed)


def run(
    settings: Settings, course: Course, data: Path, work: Path, folder: Path, **options: Any
) -> Training:
    """Train along a course with the checkpoint and the log in folder."""
    sets = all_sets(data, work)
    held, groups = held_sets(sets)
    folder.mkdir(parents=True, exist_ok=True)

    def log(record: dict[str, Any]) -> None:
        line = json.dumps(record)
        print(line, flush=True)
        with (folder / "log.jsonl").open("a") as out:
            out.write(line + "\n")

    training = Training(settings, course, fastest_layers())
    train(
        training,
        make_batches(sets, SEED),
        folder / "checkpoint.npz",
        log=log,
        evaluate=lambda model: accuracy_by_group(model, held, groups),
        **options,
    )
    return training


def cool_down(data: Path, work: Path) -> Path:
    """Let the rate fall to 0 from the newest checkpoint on, or go on with what was begun."""
    folder = unfinished_cooldown(work)
    if folder is None:
        step = load_checkpoint(work / "train" / "checkpoint.npz").step
        folder = work / f"cooldown-{step}"
        folder.mkdir(parents=True, exist_ok=True)
        partial = folder / "start.part.npz"
        shutil.copyfile(work / "train" / "checkpoint.npz", partial)
        partial.replace(folder / "start.npz")
    start = load_checkpoint(folder / "start.npz")
    course = COURSE.cooldown(start.step, COOLDOWN_SHARE, COOLDOWN_SIZES)
    # The average reaches back over the last twentieth, where the rate has almost gone.
    settings = replace(SETTINGS, average_steps=max(10, (course.last - start.step) // 20))
    training = run(settings, course, data, work, folder, start=start)
    np.savez(folder / "weights.npz", **training.average.values)  # type: ignore[arg-type]
    return folder


def begin(data: Path, work: Path, module: Path) -> None:
    """Write the checkpoint that training begins with, from the weights of a module."""
    sets = all_sets(data, work)
    # Other batches than those that training begins with.
    batches = make_batches(sets, SEED + 1)
    weights = warm_start(module, NETWORK, batches, WARM_START, WARM_STEPS, WARM_ROUNDS)
    training = Training(SETTINGS, COURSE, fastest_layers())
    training.assign(weights)
    start = replace(training.state(), average=weights)
    save_checkpoint(work / "train" / "checkpoint.npz", start)


def measure(folder: Path, data: Path, work: Path, module: Path | None = None) -> None:
    """Balance, calibrate and measure the weights in folder; write module.npz and result.json there.

    With a module, its weights and those in folder are averaged first.
    """
    sets = all_sets(data, work)
    held, groups = held_sets(sets)
    model = build_keras_model(NETWORK)
    with np.load(folder / "weights.npz") as saved:
        weights = dict(saved)
    if module is not None:
        begun = TF1Hub().read_network(module).weights
        weights = {name: (value + begun[name]) / 2 for name, value in weights.items()}
    assign_weights(model, weights)
    weights = balanced(weights, class_prior(model, *held["full"]))
    assign_weights(model, weights)
    calibration = calibrate(model, *held["full"])
    np.savez(folder / "module.npz", **calibrated(weights, calibration.temperature))  # type: ignore[arg-type]
    state = load_checkpoint(folder / "checkpoint.npz")
    result = {
        "network": NETWORK.to_dict(),
        "steps": state.step,
        "pictures_seen": state.seen,
        "calibration": asdict(calibration),
        **figures(
            model,
            calibration,
            read_tiny_validation(data),
            accuracy_by_group(model, held, groups),
        ),
    }
    (folder / "result.json").write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


def unfinished_cooldown(work: Path) -> Path | None:
    """Return the folder of a cooldown that was stopped, None where there is none."""
    begun = work.glob("cooldown-*/start.npz")
    return next((p.parent for p in begun if not (p.parent / "weights.npz").exists()), None)


def main(command: str, data: Path, work: Path, *copies: Path) -> None:
    if command == "begin":
        begin(data, work, copies[0])
    elif command == "train":
        places = [place / "checkpoint.npz" for place in copies]
        run(SETTINGS, COURSE, data, work, work / "train", copies=places)
    elif command == "cooldown":
        measure(cool_down(data, work), data, work)
    elif command == "measure":
        folder, *modules = copies
        measure(folder, data, work, *modules)
    else:
        raise SystemExit(f"{command} is none of begin, train, cooldown and measure.")


if __name__ == "__main__":
    main(sys.argv[1], *map(Path, sys.argv[2:]))
