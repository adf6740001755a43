"""A training loop over pictures in memory that resumes where it was stopped.

Every batch is a function of the seed and the step alone, so that a resumed run sees the batches
that an uninterrupted one would have seen. The network grows through phases of picture sizes: small
pictures first, which are quick, and the final size last.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

from nasnet_cli.network.layers.keras import KerasLayers, assign_weights, build_keras_model
from nasnet_cli.network.spec import NASNetA
from nasnet_cli.network.weights import Weights
from nasnet_cli.training.augment import Augmentation, augment


@dataclass(frozen=True)
class Phase:
    """Some epochs over the training pictures at one picture size in pixels."""

    size: int
    epochs: float
    augmentation: Augmentation = field(default_factory=Augmentation)


@dataclass(frozen=True)
class Recipe:
    """All that a training run depends on beside the data.

    The rate falls over all the phases; a run that ends with step last_step ends on its way.
    """

    network: NASNetA
    phases: tuple[Phase, ...]
    batch_size: int = 128
    peak_rate: float = 0.2
    warmup_steps: int = 500
    label_smoothing: float = 0.1
    seed: int = 1
    checkpoint_steps: int = 200
    last_step: int | None = None


class TrainingBatches(keras.utils.PyDataset):
    """The training batches of steps first to last - 1, made in background threads."""

    def __init__(
        self,
        recipe: Recipe,
        pictures: np.ndarray,
        targets: np.ndarray,
        phase: Phase,
        first: int,
        last: int,
    ) -> None:
        super().__init__(workers=1, max_queue_size=6)
        self.recipe, self.pictures, self.targets = recipe, pictures, targets
        self.phase, self.first, self.last = phase, first, last

    def __len__(self) -> int:
        return self.last - self.first

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        step, recipe = self.first + index, self.recipe
        per_epoch = len(self.pictures) // recipe.batch_size
        epoch, place = divmod(step, per_epoch)
        order = np.random.default_rng([recipe.seed, epoch]).permutation(len(self.pictures))
        rows = np.sort(order[place * recipe.batch_size :][: recipe.batch_size])
        random = np.random.default_rng([recipe.seed, 1 + epoch, place])
        images = augment(self.pictures[rows], self.phase.size, self.phase.augmentation, random)
        classes = recipe.network.classes
        smooth = np.float32(recipe.label_smoothing)
        labels = np.eye(classes, dtype=np.float32)[self.targets[rows]] * (1 - smooth)
        return images, labels + smooth / classes


def train(
    recipe: Recipe,
    pictures: np.ndarray,
    targets: np.ndarray,
    folder: Path,
    *,
    start: Weights | None = None,
    log: Callable[[dict[str, Any]], None],
    evaluate: Callable[[keras.Model], dict[str, float]] | None = None,
) -> keras.Model:
    """Trains on pictures [n, h, w, 3] uint8 with class numbers targets [n].

    Keeps its checkpoint in folder and goes on from the one that is there; where there is none,
    begins with the weights of start, or else with random ones. log is given a record after each
    checkpoint, evaluate's figures in it once an epoch and at the end. Returns the model of the last
    phase's size, which has all endpoints as outputs.
    """
    per_epoch = len(pictures) // recipe.batch_size
    ends = np.cumsum([round(phase.epochs * per_epoch) for phase in recipe.phases])
    total = int(ends[-1])
    layers = KerasLayers(recipe.network)
    models = {
        phase.size: build_keras_model(replace(recipe.network, image_size=phase.size), layers=layers)
        for phase in recipe.phases
    }
    rate = keras.optimizers.schedules.CosineDecay(
        0.0,
        total - recipe.warmup_steps,
        warmup_target=recipe.peak_rate,
        warmup_steps=recipe.warmup_steps,
    )
    optimizer = keras.optimizers.SGD(rate, momentum=0.9, nesterov=True)
    final = models[recipe.phases[-1].size]
    optimizer.build(final.trainable_variables)
    if start is not None:
        assign_weights(final, start)
    state = [*final.variables, *optimizer.variables]
    step = _restore(folder / "checkpoint.npz", state)
    ramp(final, step / total)
    size = 0
    stop = min(total, recipe.last_step or total)
    while step < stop:
        phase = recipe.phases[int(np.searchsorted(ends, step, side="right"))]
        if phase.size != size:
            size = phase.size
            model = _compiled(models[size], final, optimizer)
        end = int(ends[np.searchsorted(ends, step, side="right")])
        last = min(step + recipe.checkpoint_steps, end, stop)
        began = time.monotonic()
        batches = TrainingBatches(recipe, pictures, targets, phase, step, last)
        history = model.fit(batches, epochs=1, shuffle=False, verbose=0).history
        seconds = time.monotonic() - began
        record = {
            "step": last,
            "of": total,
            "epoch": round(last / per_epoch, 3),
            "size": size,
            "rate": float(ops.convert_to_numpy(rate(last))),
            **{name: round(values[-1], 4) for name, values in history.items()},
            "images_per_second": round((last - step) * recipe.batch_size / seconds, 1),
        }
        if evaluate and (last == stop or last // per_epoch > step // per_epoch):
            record.update(evaluate(models[size]))
        step = last
        ramp(final, step / total)
        _save(folder / "checkpoint.npz", state, step)
        log(record)
    return final


def ramp(model: keras.Model, progress: float) -> None:
    """Sets how far path dropout has come, 0 to 1, in a model that has it."""
    for layer in model.layers:
        if hasattr(layer, "ramp"):
            layer.ramp.assign(progress)


def _compiled(model: keras.Model, final: keras.Model, optimizer: Any) -> keras.Model:
    """A model for fit that shares its weights, and the order of them, with the final one."""
    trained = keras.Model(model.input, model.output["Logits"])
    places = {id(variable): i for i, variable in enumerate(final.trainable_variables)}
    assert [places[id(v)] for v in trained.trainable_variables] == list(range(len(places)))
    trained.compile(
        optimizer,
        keras.losses.CategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        jit_compile=keras.backend.backend() == "jax",
    )
    return trained


def _save(path: Path, state: list[Any], step: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name("checkpoint.part.npz")
    arrays = {str(i): ops.convert_to_numpy(value) for i, value in enumerate(state)}
    np.savez(temporary, step=step, names=json.dumps([v.path for v in state]), **arrays)
    temporary.replace(path)


def _restore(path: Path, state: list[Any]) -> int:
    if not path.exists():
        return 0
    with np.load(path) as saved:
        for i, variable in enumerate(state):
            variable.assign(saved[str(i)])
        return int(saved["step"])
