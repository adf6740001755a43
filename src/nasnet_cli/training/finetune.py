"""Training of all of a network's weights, in training mode, with a state that is continued.

Batch normalization uses the batches' own statistics, and dropout and path dropout are live. A run
that was stopped, even killed, ends with the losses and weights of one that was not, on the same
kind of CPU.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from nasnet_cli import __version__
from nasnet_cli.errors import ModelError
from nasnet_cli.models.formats.base import Network
from nasnet_cli.network.weights import weight_shapes
from nasnet_cli.quiet import keras, tf
from nasnet_cli.systems import available_memory
from nasnet_cli.training.augment import Augmentation
from nasnet_cli.training.batches import Batch, Batches, Part, prefetch
from nasnet_cli.training.calibration import class_weights, fit_temperature
from nasnet_cli.training.head import cross_entropy
from nasnet_cli.training.image_sets import ImageSet
from nasnet_cli.training.loop import MovingAverage, Settings, Training, arrays, fastest_layers
from nasnet_cli.training.plan import Plan
from nasnet_cli.training.progress import Epoch, Progress, ProgressFolder
from nasnet_cli.training.sampling import sampling_weights
from nasnet_cli.training.schedule import Course, Phase

_PART = "train"
_AT_ONCE = 64


class FineTuning:
    """A run whose state is in the folder work, which is made, or continued if it is there.

    Without weights the network begins with random ones. images are those to train on, larger than
    the network's; held [n, size, size, 3] uint8 those to validate with, of classes truth [n].
    Raises OutputError where the folder is that of another run, and ModelError where the network
    does not fit into memory.
    """

    def __init__(
        self,
        network: Network,
        images: ImageSet,
        held: np.ndarray,
        truth: np.ndarray,
        plan: Plan,
        work: Path,
    ) -> None:
        compute_repeatably()
        # Names count up in a process, and TensorFlow orders sums by names.
        keras.utils.clear_session()
        keras.utils.set_random_seed(plan.seed)
        self.plan = plan
        self._held, self._truth = held, truth
        self.steps = max(1, round(len(images) / plan.batch))
        total = self.steps * plan.epochs
        part = Part(_PART, min(plan.batch, len(images)), smoothing=plan.smoothing)
        self._phase = Phase(total, network.spec.image_size, (part,), Augmentation())
        warm = min(self.steps, total - 1)
        course = Course((self._phase,), plan.rate, warm, decay_from=warm, is_cosine=True)
        spec = replace(network.spec, bn_decay=_bn_decay(network.spec.bn_decay, self.steps))
        settings = Settings(spec, plan.auxiliary, plan.ramps, average_steps=max(20, total // 10))
        self._training = Training(settings, course, fastest_layers())
        _check_memory(self._training.model(self._phase.size), part.count, network.name)
        self._assign(network.weights)
        average = MovingAverage(network_arrays(self._training), settings.average_steps, every=1)
        self._training.average = average
        weights = {_PART: sampling_weights(images.labels, power=0.0)}  # classes are drawn alike
        self._batches = Batches({_PART: images}, weights, spec.classes, plan.seed)
        # What random weights say of an image says nothing of the network.
        self._first = 0 if network.weights else 1
        self._losses: list[float] = []
        self.epochs: list[Epoch] = []
        self._progress = ProgressFolder(work, _identity(network, images, held, truth, plan))
        if known := self._progress.read():
            self._training.restore(known.checkpoint)
            self._losses, self.epochs = list(known.losses), list(known.epochs)
        self._progress.latest = self._snapshot()

    @property
    def step(self) -> int:
        """The number of steps so far."""
        return self._training.step

    @property
    def total(self) -> int:
        """The number of steps of all epochs."""
        return self._training.course.last

    @property
    def has_auxiliary(self) -> bool:
        """True with an auxiliary head, for which the feature map must be large enough."""
        return "AuxLogits" in self._training.model(self._phase.size).output

    @property
    def losses(self) -> Sequence[float]:
        """The training loss of each step so far."""
        return self._losses

    @property
    def best(self) -> Epoch:
        """The epoch of the least validation loss, once there is one."""
        return min(self.epochs, key=lambda epoch: epoch.validation_loss)

    @property
    def is_done(self) -> bool:
        """True at the end, and when the validation loss has not fallen for long."""
        if not self.epochs:
            return False
        last = self.epochs[-1].epoch
        return last >= self.plan.epochs or last - self.best.epoch >= self.plan.patience

    def run(self, report: Callable[[float], None]) -> Iterator[Epoch]:
        """Train to the end and yield each epoch. report is given the loss of each step.

        The state is on disk after every few steps; a signal writes that of the last step.
        """
        self._progress.remember()
        while not self.is_done:
            due = (self._first + len(self.epochs)) * self.steps
            if self.step < due:
                self._train(due, report)
            yield self._end_epoch()
        self._progress.forget()

    def best_weights(self) -> dict[str, np.ndarray]:
        """Return the network's averaged weights of the best epoch by their TF-Slim names."""
        best = self._progress.read_best()
        return {name: best[name] for name in weight_shapes(self._training.settings.network)}

    def logits(self, weights: dict[str, np.ndarray]) -> np.ndarray:
        """Return the logits [n, classes] of the validation images with some weights."""
        self._assign(weights)
        return self._held_logits(self._training.model(self._phase.size))

    def _assign(self, weights: dict[str, np.ndarray]) -> None:
        """Set weights; those of an auxiliary head, or of all without any, stay as they are."""
        self._training.assign({**network_arrays(self._training), **weights})

    def _train(self, last: int, report: Callable[[float], None]) -> None:
        """Train up to the step last."""
        training, phase = self._training, self._phase
        model = training.trained_model(phase.size)
        generators = [
            layer.seed_generator for layer in model.layers if hasattr(layer, "seed_generator")
        ]

        def make(step: int) -> Batch:
            return self._batches.make(step, phase.parts, phase.size, phase.augmentation)

        for images, targets in prefetch(make, training.step, last):
            for number, generator in enumerate(generators):
                # What is dropped depends on the step alone, not on the steps of this process.
                generator.state.assign([self.plan.seed * 1000 + number, training.step])
            loss = training.train_step(model, images, targets)
            self._losses.append(loss)
            self._progress.latest = self._snapshot()
            if training.step % self.plan.checkpoint_steps == 0:
                self._progress.save()
            report(loss)

    def _end_epoch(self) -> Epoch:
        training, number = self._training, self._first + len(self.epochs)
        figures = training.evaluate(self._phase.size, self._evaluate)
        recent = self._losses[-self.steps :]
        rate = training.course.rate(self.step - 1) if number else None
        loss = math.fsum(recent) / len(recent) if number else None
        epoch = Epoch(number, self.step, rate, loss, **figures)
        self.epochs.append(epoch)
        if self.best is epoch:
            self._progress.write_best(training.average.values)
        self._progress.latest = self._snapshot()
        self._progress.save()
        return epoch

    def _evaluate(self, model: Any) -> dict[str, float]:
        logits, weights = self._held_logits(model), class_weights(self._truth)
        # New layers are calibrated at the end: how sure they are now is not their fault.
        temperature = fit_temperature(logits, self._truth, weights)
        loss = cross_entropy(logits / temperature, self._truth, weights) + 0.0  # not -0.0
        hits = logits.argmax(axis=1) == self._truth
        return {"validation_loss": loss, "top1": float(hits.mean())}

    def _held_logits(self, model: Any) -> np.ndarray:
        found = []
        for start in range(0, len(self._held), _AT_ONCE):
            images = self._held[start : start + _AT_ONCE].astype(np.float32) / np.float32(255)
            found.append(keras.ops.convert_to_numpy(model.predict_on_batch(images)["Logits"]))
        return np.concatenate(found).astype(np.float64)

    def _snapshot(self) -> Progress:
        state = self._training.state()
        checkpoint = replace(
            state,
            # Arrays of the backend may be views of what the next step changes.
            weights={name: np.array(value) for name, value in state.weights.items()},
            average={name: np.array(value) for name, value in state.average.items()},
            optimizer=[np.array(value) for value in state.optimizer],
        )
        return Progress(checkpoint, tuple(self._losses), tuple(self.epochs))


def compute_repeatably() -> None:
    """Let equal steps on TensorFlow compute equal bits."""
    tf.config.experimental.enable_op_determinism()
    # Its memory optimizer, which has no switch of its own, sums gradients in the order in which
    # they are ready once a step's tensors take about 200 MB.
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})


def network_arrays(training: Training) -> dict[str, np.ndarray]:
    """Return the weights of a network in training as arrays of their own."""
    return {name: np.array(value) for name, value in arrays(training.variables).items()}


def _bn_decay(own: float, steps: int) -> float:
    return min(own, max(1 - 10 / steps, 0.9))


def _identity(
    network: Network, images: ImageSet, held: np.ndarray, truth: np.ndarray, plan: Plan
) -> str:
    """Return a digest of all that the results of a run depend on."""
    versions = [__version__, tf.__version__, keras.backend.backend()]
    settings = [asdict(plan), network.spec.to_dict(), *versions]
    digest = hashlib.blake2b(json.dumps(settings).encode(), digest_size=16)
    for array in (images.pixels, images.labels, held, truth):
        digest.update(np.ascontiguousarray(array).data)
    for name, array in sorted(network.weights.items()):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def _check_memory(model: Any, batch: int, name: str) -> None:
    """Raise ModelError unless a step's activations and their gradients fit into free memory."""
    activations = sum(
        math.prod(layer.output.shape[1:]) for layer in model.layers if hasattr(layer, "output")
    )
    # Weights, gradients, momentum, averages, and the copies of a checkpoint.
    needed = 4 * (2 * batch * activations + 8 * model.count_params())
    free = available_memory()
    if free is not None and needed > free:
        raise ModelError(
            f"Training the whole of {name} needs about {needed / 1e9:.1f} GB of memory, and "
            f"{free / 1e9:.1f} GB are free.",
            "Train the last layer only (without --full), a smaller model, or a new one for smaller "
            "images (--from scratch --image-size).",
        )
