"""Fine-tuning of all of a network's weights, in training mode, with a state that is continued.

Batch normalization uses the batches' own statistics, and dropout and path dropout are live, path
dropout at its final value. A run that was stopped, even killed, ends with the losses and weights of
one that was not, on the same kind of CPU.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from nasnet_cli import __version__
from nasnet_cli.atomic import hidden_file
from nasnet_cli.errors import ModelError, OutputError
from nasnet_cli.interruption import at_interruption
from nasnet_cli.models.formats.base import Network
from nasnet_cli.quiet import keras, tf
from nasnet_cli.systems import available_memory
from nasnet_cli.training.augment import Augmentation
from nasnet_cli.training.batches import Batch, Batches, Part, prefetch
from nasnet_cli.training.calibration import class_weights, fit_temperature
from nasnet_cli.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from nasnet_cli.training.head import cross_entropy
from nasnet_cli.training.image_sets import ImageSet
from nasnet_cli.training.loop import MovingAverage, Settings, Training, arrays
from nasnet_cli.training.sampling import sampling_weights
from nasnet_cli.training.schedule import Course, Phase
from nasnet_cli.training.tensorflow_layers import TensorFlowLayers

HISTORY, CHECKPOINT, BEST = "history.json", "checkpoint.npz", "best.npz"
_PART = "train"
_AT_ONCE = 64


@dataclass(frozen=True)
class Plan:
    """The settings of a run, each default with its source.

    SGD with Nesterov's momentum of 0.9, the cosine schedule and the rule for the decay of batch
    normalization (_bn_decay) are those of Kornblith, Shlens and Le, "Do better ImageNet models
    transfer better?" (CVPR 2019); 0.01 lies in the middle of the rates that they tried, and 32
    images are what a CPU's memory holds. The rate rises for one epoch first. smoothing is that of
    Szegedy et al. (2016), with which NASNet-A was trained. Dropout, path dropout and the weight
    decay of kernels are the network's own (NASNetA); the clipping of gradients is that of the
    built-in model's training (Settings), the moving averages reach back over a tenth of the run.
    Training ends early when the validation loss has not fallen for patience epochs.
    """

    epochs: int = 10
    batch: int = 32
    rate: float = 0.01
    smoothing: float = 0.1
    patience: int = 5
    checkpoint_steps: int = 50
    seed: int = 0


@dataclass(frozen=True)
class Epoch:
    """The results of an epoch; number 0 is the network before training, without rate and loss.

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
class _Kept:
    """The state after a step, of which no later step changes anything."""

    checkpoint: Checkpoint
    losses: tuple[float, ...]
    epochs: tuple[Epoch, ...]


class FineTuning:
    """A run whose state is in the folder work, which is made, or continued if it is there.

    images are those to train on, larger than the network's; held [n, size, size, 3] uint8 those to
    validate with, of classes truth [n]. Raises OutputError where the folder is that of another run,
    and ModelError where the network does not fit into memory.
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
        tf.config.experimental.enable_op_determinism()
        # Names count up in a process, and TensorFlow orders sums by names.
        keras.utils.clear_session()
        keras.utils.set_random_seed(plan.seed)
        self.plan, self._work = plan, work
        self._held, self._truth = held, truth
        self._identity = _identity(network, images, held, truth, plan)
        self.steps = max(1, round(len(images) / plan.batch))
        total = self.steps * plan.epochs
        part = Part(_PART, min(plan.batch, len(images)), smoothing=plan.smoothing)
        self._phase = Phase(total, network.spec.image_size, (part,), Augmentation())
        warm = min(self.steps, total - 1)
        course = Course((self._phase,), plan.rate, warm, decay_from=warm, is_cosine=True)
        spec = replace(network.spec, bn_decay=_bn_decay(network.spec.bn_decay, self.steps))
        settings = Settings(spec, average_steps=max(20, total // 10))
        self._training = Training(settings, course, TensorFlowLayers)
        _check_memory(self._training.model(self._phase.size), part.count, network.name)
        self._training.assign(network.weights)
        average = MovingAverage(network_arrays(self._training), settings.average_steps, every=1)
        self._training.average = average
        weights = {_PART: sampling_weights(images.labels, power=0.0)}  # classes are drawn alike
        self._batches = Batches({_PART: images}, weights, spec.classes, plan.seed)
        self._losses: list[float] = []
        self.epochs: list[Epoch] = []
        self._restore()
        self._kept = self._snapshot()
        self._forget: Callable[[], None] = lambda: None

    @property
    def step(self) -> int:
        """The number of steps so far."""
        return self._training.step

    @property
    def total(self) -> int:
        """The number of steps of all epochs."""
        return self._training.course.last

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
        self._remember()
        while not self.is_done:
            due = len(self.epochs) * self.steps
            if self.step < due:
                self._train(due, report)
            yield self._end_epoch()
        self._forget()

    def best_weights(self) -> dict[str, np.ndarray]:
        """Return the averaged weights of the best epoch by their TF-Slim names."""
        with np.load(self._work / BEST) as saved:
            return {name: saved[name] for name in saved.files}

    def logits(self, weights: dict[str, np.ndarray]) -> np.ndarray:
        """Return the logits [n, classes] of the validation images with some weights."""
        self._training.assign(weights)
        return self._held_logits(self._training.model(self._phase.size))

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
            training.optimizer.learning_rate.assign(training.course.rate(training.step))
            model.reset_metrics()
            loss = float(model.train_on_batch(images, targets))
            training.step += 1
            training.seen += len(images)
            training.average.update(training.step, arrays(training.variables))
            self._losses.append(loss)
            self._kept = self._snapshot()
            if training.step % self.plan.checkpoint_steps == 0:
                self._save()
            report(loss)

    def _end_epoch(self) -> Epoch:
        training, number = self._training, len(self.epochs)
        figures = training.evaluate(self._phase.size, self._evaluate)
        recent = self._losses[-self.steps :]
        rate = training.course.rate(self.step - 1) if number else None
        loss = math.fsum(recent) / len(recent) if number else None
        epoch = Epoch(number, self.step, rate, loss, **figures)
        self.epochs.append(epoch)
        if self.best is epoch:
            _write(self._work / BEST, lambda file: _savez(file, training.average.values))
        self._kept = self._snapshot()
        self._save()
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

    def _snapshot(self) -> _Kept:
        state = self._training.state()
        checkpoint = replace(
            state,
            # Arrays of the backend may be views of what the next step changes.
            weights={name: np.array(value) for name, value in state.weights.items()},
            average={name: np.array(value) for name, value in state.average.items()},
            optimizer=[np.array(value) for value in state.optimizer],
        )
        return _Kept(checkpoint, tuple(self._losses), tuple(self.epochs))

    def _save(self) -> None:
        self._write_state()
        self._remember()

    def _remember(self) -> None:
        """Have a signal write the state; again after each file, for only the latest are kept."""
        self._forget()
        self._forget = at_interruption(self._write_state)

    def _write_state(self) -> None:
        """Write the history, and then the checkpoint, which it reaches at least up to."""
        kept = self._kept
        history = {
            "identity": self._identity,
            "losses": kept.losses,
            "epochs": [asdict(epoch) for epoch in kept.epochs],
        }
        _write(self._work / HISTORY, lambda file: file.write(json.dumps(history).encode()))
        with hidden_file(self._work / CHECKPOINT) as partial:
            named = partial.with_name(f"{partial.name}.npz")
            save_checkpoint(named, kept.checkpoint)
            named.replace(self._work / CHECKPOINT)

    def _restore(self) -> None:
        history, checkpoint = self._work / HISTORY, self._work / CHECKPOINT
        self._work.mkdir(exist_ok=True)
        if not checkpoint.exists():
            return
        try:
            known = json.loads(history.read_text(encoding="utf-8"))
            if known["identity"] != self._identity:
                raise OutputError(
                    f"The unfinished run in {self._work} has other images, another model, other "
                    "options or another version of nasnet or TensorFlow.",
                    "Start over: --overwrite instead of --resume.",
                )
            self._training.restore(load_checkpoint(checkpoint))
            self._losses = known["losses"][: self.step]
            epochs = [Epoch(**epoch) for epoch in known["epochs"]]
        except (OSError, EOFError, BadZipFile, ValueError, KeyError, TypeError) as error:
            raise OutputError(
                f"The unfinished run in {self._work} is damaged.",
                "Start over: --overwrite instead of --resume.",
            ) from error
        self.epochs = [epoch for epoch in epochs if epoch.step <= self.step]


def network_arrays(training: Training) -> dict[str, np.ndarray]:
    """Return the weights of a network in training as arrays of their own."""
    return {name: np.array(value) for name, value in arrays(training.variables).items()}


def _bn_decay(own: float, steps: int) -> float:
    return min(own, max(1 - 10 / steps, 0.9))


def _identity(
    network: Network, images: ImageSet, held: np.ndarray, truth: np.ndarray, plan: Plan
) -> str:
    """Return a digest of all that the results of a run depend on."""
    settings = [asdict(plan), network.spec.to_dict(), __version__, tf.__version__]
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
            "Train its last layer only, without --full, or a smaller model.",
        )


def _savez(file: Any, values: dict[str, np.ndarray]) -> None:
    np.savez(file, **values)  # type: ignore[arg-type]


def _write(path: Path, write: Callable[[Any], object]) -> None:
    with hidden_file(path) as partial:
        with partial.open("xb") as file:
            write(file)
        partial.replace(path)
