"""Training of the whole network, for nasnet train --full."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from nasnet_cli.cli.console import Console
from nasnet_cli.cli.sections import LARGE, gathered, option
from nasnet_cli.errors import ModelError, NasnetError, OutputError

if TYPE_CHECKING:
    import numpy as np

    from nasnet_cli.cli.run import Job
    from nasnet_cli.images.preprocess import Preprocessing
    from nasnet_cli.labels import Label
    from nasnet_cli.models.formats.base import Network
    from nasnet_cli.training.finetune import FineTuning
    from nasnet_cli.training.labelled import Labelled
    from nasnet_cli.training.plan import Plan
    from nasnet_cli.training.transfer import Trained

_MEASURED = 3
"""Steps after which the time for all is estimated, from all but the first, which is slow."""


class FullOptions(NamedTuple):
    """The options of training the whole network."""

    full: bool | None
    epochs: int | None
    size: str | None
    image_size: int | None
    resume: bool

    def check(self, *, is_scratch: bool) -> None:
        """Raise UsageError for options that need others."""
        if is_scratch:
            if self.full is False:
                raise click.UsageError("--from scratch trains all weights: leave out --head-only.")
            return
        if self.size or self.image_size:
            raise click.UsageError("--size and --image-size are for --from scratch.")
        if not self.full and self.epochs is not None:
            raise click.UsageError("--epochs is for training the whole network: add --full.")
        if not self.full and self.resume:
            raise click.UsageError(
                "--resume is for --full; the features of images are always kept."
            )


full_options = gathered(
    "full",
    FullOptions,
    option(
        "--full/--head-only",
        "full",
        default=None,
        help="Train the whole network, which takes hours, or only a new last layer.  [default: "
        "head-only; full with --from scratch]",
    ),
    option(
        "--epochs",
        type=click.IntRange(min=1),
        metavar="N",
        help="Maximum number of epochs with --full; training ends early if the validation loss "
        "has not fallen for 5 epochs (20 from scratch).  [default: 10; from scratch 100]",
    ),
    option(
        "--size",
        type=click.Choice(["mobile", "large", "cifar"]),
        help="Size of the network with --from scratch.  [default: mobile]",
    ),
    option(
        "--image-size",
        type=click.IntRange(min=16, max=1024),
        metavar="N",
        help="Side of the network's images in pixels with --from scratch; training time grows with "
        "its square.  [default: the size's own: 224, 331 or 32]",
    ),
    option(
        "--resume",
        is_flag=True,
        section=LARGE,
        help="Continue an interrupted run with --full; it ends with the same losses "
        "as an uninterrupted one.",
    ),
)


class Tuning:
    """A run of training the whole network, whose state is beside its output until that is whole."""

    def __init__(
        self,
        out: Path,
        options: FullOptions,
        console: Console,
        *,
        is_scratch: bool,
        overwrite: bool,
    ) -> None:
        self._options, self._console, self._is_scratch = options, console, is_scratch
        self._state = out.with_name(f".{out.name}.resume")
        self._curves = {
            kind: out.with_name(f"{out.name}.curves.{kind}") for kind in ("json", "png")
        }
        self._overwrite = overwrite

    def begin(self) -> None:
        """Check what is there, before any work. Raises NasnetError."""
        from nasnet_cli.results.atomic import check_free

        _require_matplotlib()
        if self._state.exists():
            with self._locked():
                self._check_state()
        for path in self._curves.values():
            check_free(str(path), self._overwrite or self._options.resume)

    def _check_state(self) -> None:
        """Refuse or remove the state of a run that is not to be continued."""
        from shutil import rmtree

        if self._options.resume:
            return
        if not self._overwrite:
            raise OutputError(
                f"There is an unfinished run in {self._state}.",
                "Continue it: --resume. Start over: --overwrite.",
            )
        rmtree(self._state)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Keep other runs out of the state. Raises OutputError while another is in it."""
        from nasnet_cli import cache
        from nasnet_cli.systems import locked_folder

        try:
            with locked_folder(str(self._state), cache.subfolder("locks")):
                yield
        except BlockingIOError:
            raise OutputError(
                f"Another nasnet is training in {self._state}.",
                "Run this again when it has ended, or choose another --out.",
            ) from None

    def untrained(self, labels: tuple[Label, ...]) -> Network:
        """Return the network of --from scratch."""
        from nasnet_cli.training.plan import untrained

        return untrained(self._options.size or "mobile", self._options.image_size, labels)

    def train(
        self, network: Network, labelled: Labelled, held: np.ndarray, job: Job, seed: int
    ) -> tuple[Network, Trained, dict[str, Any]]:
        """Return the trained network, its results, and what its card should say of the training.

        network has its new last layer already, and the best network may be this one; or it has no
        weights at all.
        """
        from dataclasses import replace

        from nasnet_cli.results.atomic import errors_in_words
        from nasnet_cli.training.finetune import FineTuning
        from nasnet_cli.training.image_sets import ImageSet
        from nasnet_cli.training.transfer import calibrated_head, measured

        preprocessing = self._preprocessing(network, job)
        if (preprocessing.input_range, preprocessing.channels) != ("0..1", "rgb"):
            raise ModelError(
                "The model takes other values than RGB in 0..1, with which only its last layer can "
                "be trained.",
                "Leave out --full.",
            )
        images, validation = self._load(labelled, held, job, preprocessing)
        classes = labelled.classes
        with errors_in_words(self._state):
            self._state.mkdir(exist_ok=True)
        with self._locked(), errors_in_words(self._state):
            tuning = FineTuning(
                network,
                ImageSet(images, classes[~held]),
                validation,
                classes[held],
                self._plan(seed),
                self._state,
            )
            self._run(tuning)
            weights = tuning.best_weights()
        logits = tuning.logits(weights)
        head = calibrated_head(weights, logits, classes[held])
        trained = measured(
            head, logits / head.temperature, classes, held, len(network.labels or ())
        )
        self._say_best(tuning)
        about: dict[str, Any] = {"epoch": tuning.best.epoch, "epochs": tuning.epochs[-1].epoch}
        if not self._is_scratch:
            about["head_only_top1"] = round(tuning.epochs[0].top1, 6)
        return replace(network, weights=weights), trained, about

    def finish(self) -> None:
        """Remove the state: the output is whole."""
        from shutil import rmtree

        rmtree(self._state, ignore_errors=True)

    def _plan(self, seed: int) -> Plan:
        from nasnet_cli.training.plan import EPOCHS, SCRATCH_EPOCHS, Plan, scratch_plan

        if self._is_scratch:
            return scratch_plan(self._options.epochs or SCRATCH_EPOCHS, seed)
        return Plan(self._options.epochs or EPOCHS, seed=seed)

    def _preprocessing(self, network: Network, job: Job) -> Preprocessing:
        if not self._is_scratch:
            return job.model.preprocessing
        from nasnet_cli.images.preprocess import Preprocessing
        from nasnet_cli.models.card import PUBLISHED_PREPROCESSING

        size = [network.spec.image_size] * 2
        return Preprocessing.from_dict({**PUBLISHED_PREPROCESSING, "size": size})

    def _load(
        self, labelled: Labelled, held: np.ndarray, job: Job, given: Preprocessing
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the images to train on and those to validate with, uint8 [n, side, side, 3]."""
        from nasnet_cli.runtime.base import available_cores
        from nasnet_cli.training.pixels import (
            held_preprocessing,
            load_pixels,
            training_preprocessing,
        )

        limits = job.spec.limits
        workers = job.run_options.workers or available_cores() + 2
        parts = ((~held, training_preprocessing(given)), (held, held_preprocessing(given)))
        with self._console.progress(lambda: len(held)) as advance:
            images, validation = (
                load_pixels(
                    [path for path, wanted in zip(labelled.paths, mask, strict=True) if wanted],
                    preprocessing,
                    limits,
                    workers,
                    advance,
                )
                for mask, preprocessing in parts
            )
        return images, validation

    def _run(self, tuning: FineTuning) -> None:
        if not tuning.has_auxiliary:
            self._console.note(
                "The network's images are too small for an auxiliary head: it is trained without one."
            )
        if tuning.step or tuning.epochs:
            self._console.note(f"Continuing after step {tuning.step:,} of {tuning.total:,}.")
        with self._progress(tuning) as report:
            for epoch in tuning.run(report):
                self._write_curves(tuning)
                loss = "" if epoch.loss is None else f"training loss {epoch.loss:.4f}, "
                self._console.note(
                    f"Epoch {epoch.epoch} of {tuning.plan.epochs}: {loss}validation loss "
                    f"{epoch.validation_loss:.4f}, {100 * epoch.top1:.1f} % right."
                )
        self._write_curves(tuning)  # of a run that was killed before it wrote them

    @contextmanager
    def _progress(self, tuning: FineTuning) -> Iterator[Any]:
        """Show progress, and say after a few steps how long all will take."""
        first, done = tuning.step, 0
        start = 0.0

        with self._console.progress(lambda: tuning.total, initial=first, unit="steps") as advance:

            def report(loss: float) -> None:
                nonlocal start, done
                done += 1
                advance(1)
                if done == 1:
                    start = time.monotonic()
                elif done == _MEASURED:
                    seconds = (time.monotonic() - start) / (done - 1) * (tuning.total - tuning.step)
                    self._console.note(
                        f"{tuning.total:,} steps of {tuning.plan.batch} images: at most about "
                        f"{_duration(seconds)} more, and the validation after each "
                        f"{tuning.steps:,} of them."
                    )

            yield report

    def _write_curves(self, tuning: FineTuning) -> None:
        from nasnet_cli.results.atomic import open_output
        from nasnet_cli.training.curves import curves_json, curves_png

        for make, path in zip((curves_json, curves_png), self._curves.values(), strict=True):
            with open_output(path, overwrite=True) as stream:
                stream.write(make(tuning.losses, tuning.epochs, tuning.best))

    def _say_best(self, tuning: FineTuning) -> None:
        best, first = tuning.best, tuning.epochs[0]
        if self._is_scratch:
            self._console.note(f"Epoch {best.epoch} was the best: {100 * best.top1:.1f} % right.")
            return
        if best is first:
            self._console.note(
                "No epoch was better on the validation images than the new last layer alone, "
                "which is kept."
            )
            return
        self._console.note(
            f"Epoch {best.epoch} was the best: {100 * best.top1:.1f} % right, "
            f"{100 * first.top1:.1f} % with the new last layer alone."
        )


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _require_matplotlib() -> None:
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise NasnetError(
            "The curves of --full need matplotlib.", "Run: pip install matplotlib."
        ) from None
