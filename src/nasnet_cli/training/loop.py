"""The training loop: steps, moving averages, checkpoints and a log; it resumes where it stopped.

Runs on any of Keras' backends. The network is built once for each image size, with one set of
weights.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

from nasnet_cli.errors import ModelError
from nasnet_cli.network.layers.keras import (
    KerasLayers,
    PathDropout,
    build_keras_model,
    slim_variables,
)
from nasnet_cli.network.spec import NASNetA
from nasnet_cli.training.batches import Batch, Batches, prefetch
from nasnet_cli.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from nasnet_cli.training.schedule import Course

Log = Callable[[dict[str, Any]], None]
Evaluate = Callable[[keras.Model], dict[str, float]]


@dataclass(frozen=True)
class Settings:
    """Everything that a run depends on beside the images and the course.

    auxiliary is the weight of the auxiliary head's loss; without a weight, and where the feature
    map is too small for it, there is no such head. With ramps, path dropout grows from none at the
    first step to its final value at the last. average_steps is the memory of the moving average in
    steps. A checkpoint is kept, and a line logged, every checkpoint_steps; evaluation comes every
    evaluate_steps and at the end.
    """

    network: NASNetA
    auxiliary: float = 0.0
    ramps: bool = False
    momentum: float = 0.9
    clip_norm: float | None = 5.0
    average_steps: int = 2000
    checkpoint_steps: int = 100
    evaluate_steps: int = 2000


class MovingAverage:
    """Exponential moving averages of arrays by name, taken every few steps.

    The memory grows with the steps taken, up to average_steps, so that the start is soon forgotten.
    """

    def __init__(self, values: dict[str, np.ndarray], average_steps: int, every: int = 10) -> None:
        self.values = {name: np.array(value) for name, value in values.items()}
        self.every, self._least = every, every / average_steps

    def update(self, step: int, values: dict[str, np.ndarray]) -> None:
        """Move the averages towards values, which are those after step steps."""
        weight = max(self._least, min(1.0, 10 * self.every / (step + 10 * self.every)))
        for name, mean in self.values.items():
            mean += np.float32(weight) * (values[name] - mean)


def arrays(variables: dict[str, Any]) -> dict[str, np.ndarray]:
    """Return variables as arrays by the same names."""
    return {name: ops.convert_to_numpy(variable) for name, variable in variables.items()}


def fastest_layers() -> type[KerasLayers]:
    """Return the fastest set of layers on a CPU for Keras' backend."""
    if keras.backend.backend() != "tensorflow":
        return KerasLayers
    from nasnet_cli.training.tensorflow_layers import TensorFlowLayers

    return TensorFlowLayers


class Training:
    """A network in training, at the sizes of a course.

    layers makes the set of layers; a backend may have a faster set than the usual one.
    """

    def __init__(
        self,
        settings: Settings,
        course: Course,
        layers: Callable[[NASNetA], KerasLayers] = KerasLayers,
    ) -> None:
        self.settings, self.course = settings, course
        self._layers = layers(settings.network)
        self._models: dict[int, keras.Model] = {}
        self.step = self.seen = 0
        final = self.model(course.phases[-1].size)
        self.variables = slim_variables(final)
        self.optimizer = keras.optimizers.SGD(
            course.peak_rate,
            momentum=settings.momentum,
            nesterov=True,
            global_clipnorm=settings.clip_norm,
        )
        # It knows the variables by their order.
        self.optimizer.build(self._heads(course.phases[-1].size).trainable_variables)
        self.average = MovingAverage(arrays(self.variables), settings.average_steps)
        self._compiled: tuple[int, keras.Model] | None = None

    def model(self, size: int) -> keras.Model:
        """Return the network with all endpoints for an image size, in pixels."""
        if size not in self._models:
            network = replace(self.settings.network, image_size=size)
            has_auxiliary = self.settings.auxiliary > 0
            self._models[size] = build_keras_model(
                network, auxiliary=has_auxiliary, layers=self._layers
            )
        return self._models[size]

    def _heads(self, size: int) -> keras.Model:
        model = self.model(size)
        heads = [name for name in ("Logits", "AuxLogits") if name in model.output]
        return keras.Model(model.input, {name: model.output[name] for name in heads})

    def trained_model(self, size: int) -> keras.Model:
        """Return the compiled network of a size, from images to the logits of each head."""
        if self._compiled is None or self._compiled[0] != size:
            trained, final = self._heads(size), self._heads(self.course.phases[-1].size)
            same = zip(trained.trainable_variables, final.trainable_variables, strict=True)
            assert all(one is other for one, other in same)
            weights = {"Logits": 1.0, "AuxLogits": self.settings.auxiliary}
            heads = list(trained.output)
            trained.compile(
                self.optimizer,
                {name: keras.losses.CategoricalCrossentropy(from_logits=True) for name in heads},
                loss_weights={name: weights[name] for name in heads},
                jit_compile=keras.backend.backend() == "jax",
            )
            self._compiled = (size, trained)
        return self._compiled[1]

    def train_step(self, model: keras.Model, images: np.ndarray, targets: np.ndarray) -> float:
        """Train a model of trained_model on a batch and return the batch's loss.

        Raises ModelError when it is not finite.
        """
        self.optimizer.learning_rate.assign(self.course.rate(self.step))
        if self.settings.ramps:
            for layer in model.layers:
                if isinstance(layer, PathDropout):
                    layer.ramp.assign(self.step / self.course.last)
        both = dict.fromkeys(model.output, targets)
        # Not every version of Keras does it: the loss would be the mean of all batches so far.
        model.reset_metrics()
        loss = float(model.train_on_batch(images, both, return_dict=True)["loss"])
        self.step += 1
        self.seen += len(images)
        if not math.isfinite(loss):
            raise ModelError(
                f"Training diverged in step {self.step}: its loss is {loss}.",
                "Start over with another --seed (--overwrite), or train the last layer only.",
            )
        if self.step % self.average.every == 0:
            self.average.update(self.step, arrays(self.variables))
        return loss

    def state(self) -> Checkpoint:
        """Return all that a later run needs to go on."""
        optimizer = [ops.convert_to_numpy(v) for v in self.optimizer.variables]
        return Checkpoint(
            self.step, self.seen, arrays(self.variables), self.average.values, optimizer
        )

    def restore(self, state: Checkpoint) -> None:
        """Take over a checkpoint's state."""
        self.step, self.seen = state.step, state.seen
        self.assign(state.weights)
        for variable, value in zip(self.optimizer.variables, state.optimizer, strict=True):
            variable.assign(value)
        self.average.values = {name: np.array(state.average[name]) for name in self.variables}

    def assign(self, weights: Any) -> None:
        """Set the network's weights."""
        for name, variable in self.variables.items():
            variable.assign(weights[name])

    def evaluate(self, size: int, evaluate: Evaluate) -> dict[str, float]:
        """Return evaluate's figures of the averaged weights at an image size."""
        current = arrays(self.variables)
        current = {name: np.array(value) for name, value in current.items()}
        self.assign(self.average.values)
        try:
            return evaluate(self.model(size))
        finally:
            self.assign(current)

    def run_steps(self, batches: Batches, last: int) -> float:
        """Train up to the step last, within one phase, and return the mean loss."""
        phase = self.course.phase(self.step)
        model = self.trained_model(phase.size)
        losses = []

        def make(step: int) -> Batch:
            return batches.make(step, phase.parts, phase.size, phase.augmentation)

        for images, targets in prefetch(make, self.step, last):
            losses.append(self.train_step(model, images, targets))
        return math.fsum(losses) / len(losses)


def train(
    training: Training,
    batches: Batches,
    path: Path,
    *,
    log: Log,
    evaluate: Evaluate | None = None,
    copies: Sequence[Path] = (),
    start: Checkpoint | None = None,
) -> None:
    """Train to the end of the course.

    Goes on from the checkpoint at path; where there is none, from start, or else from random
    weights. Keeps the checkpoint at path and at each of copies. log is given a record after each
    checkpoint, with evaluate's figures in it where it was due.
    """
    if path.exists():
        start = load_checkpoint(path)
    if start is not None:
        training.restore(start)
    settings, course = training.settings, training.course
    while training.step < course.last:
        first, phase = training.step, course.phase(training.step)
        due = (first // settings.checkpoint_steps + 1) * settings.checkpoint_steps
        seen, began = training.seen, time.monotonic()
        loss = training.run_steps(batches, min(due, phase.last))
        record = {
            "step": training.step,
            "seen": training.seen,
            "size": phase.size,
            "rate": round(course.rate(training.step - 1), 6),
            "loss": round(loss, 4),
            "images_per_second": round((training.seen - seen) / (time.monotonic() - began), 1),
        }
        save_checkpoint(path, training.state(), copies)
        ended = training.step == course.last
        if evaluate and (ended or training.step % settings.evaluate_steps == 0):
            record.update(training.evaluate(phase.size, evaluate))
        log(record)
