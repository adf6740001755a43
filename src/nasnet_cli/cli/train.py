"""nasnet train: teach a model other classes."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from nasnet_cli.cli import exits, options
from nasnet_cli.cli.console import Console, ConsoleListener
from nasnet_cli.cli.run import Job
from nasnet_cli.cli.sections import (
    MODEL,
    OUTPUT,
    command_with,
    gathered,
    json_option,
    option,
    print_json,
    print_line,
)
from nasnet_cli.cli.tuning import FullOptions, Tuning, full_options
from nasnet_cli.errors import ModelError, NasnetError
from nasnet_cli.jobs.run import RunOptions
from nasnet_cli.jobs.spec import JobSpec
from nasnet_cli.results.text import counted, shortened

if TYPE_CHECKING:
    import numpy as np

    from nasnet_cli.jobs.rows import Row
    from nasnet_cli.labels import Label
    from nasnet_cli.models.formats.base import Network
    from nasnet_cli.training.labelled import Folders, Labelled
    from nasnet_cli.training.transfer import Trained

_SHOWN = 5
_MEASURED = 32
"""Images whose features are computed before the time for all is estimated."""


class Settings(NamedTuple):
    """The settings of the training itself."""

    validation: str
    seed: int
    source: str | None
    out: str
    overwrite: bool


@command_with(
    "nasnet train my_classes/ --out my_model",
    "nasnet train my_classes/ --from imagenet-mobile --val my_val/ --out my_model",
    "nasnet train my_classes/ --full --epochs 20 --out my_model",
)
@click.argument("folder", type=click.Path())
@gathered(
    "settings",
    Settings,
    option(
        "--val",
        "validation",
        default="0.2",
        metavar="FOLDER|FRACTION",
        help="Folder of classes to validate with, or the fraction of each class that is held out "
        "for that.",
    ),
    option(
        "--seed",
        type=click.IntRange(min=0),
        default=0,
        metavar="N",
        help="Seed that chooses the fraction that is held out, and the course of --full.",
    ),
    option(
        "--from",
        "source",
        metavar="MODEL",
        section=MODEL,
        help="Model to train from; the same as --model.",
    ),
    option(
        "-o",
        "--out",
        type=click.Path(),
        metavar="DIR",
        required=True,
        section=OUTPUT,
        help="Write the trained model to folder DIR, a TF1 Hub module. It appears only when "
        "complete.",
    ),
    options.overwrite_option,
)
@full_options
@json_option("Print the results on the validation images as JSON.")
@options.spec_options("vectors")
@options.speed_options
@options.console_options
def command(
    folder: str,
    settings: Settings,
    full: FullOptions,
    as_json: bool,
    spec: JobSpec,
    run: RunOptions,
    console: Console,
) -> int:
    """Teach a model the classes of your own folders of images.

    FOLDER has a subfolder for each class, named by its label, or by a WordNet id. The network stays
    as it is and gets a new last layer, whose strength of regularization and confidence are chosen
    on the validation images. Features of images are kept in the cache, so that a run that was
    interrupted continues. With --full, all of the network is trained after that, in TensorFlow on
    the CPU, the best epoch is kept, and DIR.curves.json and DIR.curves.png have its curves. Exit
    code: 0 if every image could be used, 3 if some have errors.
    """
    full.check()
    if settings.source is not None:
        spec = replace(spec, model=settings.source)
    return _Training(folder, settings, full, spec, run, console).run(as_json)


class _Training:
    """One run of the command."""

    def __init__(
        self,
        folder: str,
        settings: Settings,
        full: FullOptions,
        spec: JobSpec,
        run: RunOptions,
        console: Console,
    ) -> None:
        self._folder, self._settings, self._console = folder, settings, console
        self._spec, self._run_options = spec, run
        self._job: Job | None = None
        self._tuning: Tuning | None = None
        if full.full:
            out = Path(settings.out)
            self._tuning = Tuning(out, full, console, overwrite=settings.overwrite)

    def run(self, as_json: bool) -> int:
        """Train, write the module and print how good it is."""
        from nasnet_cli.models.export import check_free, export
        from nasnet_cli.models.formats.tf1_hub import TF1Hub
        from nasnet_cli.training.head import require
        from nasnet_cli.training.labelled import open_folders
        from nasnet_cli.training.transfer import train_head, with_head

        require()
        out = Path(self._settings.out)
        check_free(out, TF1Hub(), self._settings.overwrite)  # a SavedModel's name is as free
        if self._tuning:
            self._tuning.begin()
        fraction, validation = self._validation()
        folders = open_folders(self._folder, validation)
        network = self._read_network()
        labelled = self._features(folders)
        held = self._held(labelled, fraction)
        labels = folders.labels
        trained = train_head(labelled.vectors, labelled.classes, held, len(labels))
        # Nothing of the output's name, so that equal images give equal bytes.
        name = Path(folders.train.folder).name
        about = {
            "dataset": f"the validation images of {name}",
            "how": self._how(fraction, validation),
        }
        if network is None:
            self._write_wrapped(out, trained, labels, name, about)
        else:
            made = with_head(network, trained, labels, name, about)
            if self._tuning:
                made, trained = self._tune(self._tuning, made, labelled, held, network, about)
            overwrite, note = self._settings.overwrite, self._console.detail
            export(made, out, TF1Hub(), overwrite=overwrite, note=note)
            if self._tuning:
                self._tuning.finish()
        self._print(trained, labels, as_json)
        return exits.SOME_FAILED if labelled.failures else exits.OK

    def _tune(
        self,
        tuning: Tuning,
        made: Network,
        labelled: Labelled,
        held: np.ndarray,
        old: Network,
        about: dict[str, Any],
    ) -> tuple[Network, Trained]:
        """Train all of a network with a new last layer; old is the one that it was made from."""
        from nasnet_cli.training.transfer import TUNED, with_head

        assert self._job is not None
        assert made.labels is not None
        seed = self._settings.seed
        tuned, trained, course = tuning.train(made, labelled, held, self._job, seed)
        about = {**about, "training": course}
        weights = replace(old, weights=tuned.weights)
        return with_head(weights, trained, made.labels, made.name, about, TUNED), trained

    def _validation(self) -> tuple[float | None, str | None]:
        """Return the fraction to hold out, or else the folder of validation images."""
        text = self._settings.validation
        try:
            fraction = float(text)
        except ValueError:
            return None, text
        if not 0 < fraction < 1:
            raise click.UsageError("--val takes a folder, or a fraction between 0 and 1.")
        return fraction, None

    def _how(self, fraction: float | None, validation: str | None) -> str:
        if validation is not None:
            return f"images of {Path(validation).name}, which were not trained on"
        return (
            f"a fraction of {fraction:g} of each class, not trained on, seed {self._settings.seed}"
        )

    def _read_network(self) -> Network | None:
        """Read the network to train from, before any work.

        None for another maker's SavedModel with feature vectors. Raises ModelError for all else.
        """
        from nasnet_cli.models.resolve import resolve

        if self._spec.model == "scratch":
            raise NasnetError(
                "Training from scratch is not available.", "Name a model to train from."
            )
        with ConsoleListener(self._console) as listener:
            source = resolve(self._spec.model, listener, runnable=False)
            try:
                return source.format.read_network(source.path)
            except ModelError:
                if not source.format.is_runnable:
                    raise
                from nasnet_cli.training.wrapped import check_wrappable

                module = source.open()
                if module.card is not None and module.card.network is not None:
                    raise
                name = self._spec.model or source.path.name
                if self._tuning:
                    raise ModelError(
                        f"The model {name} is no NASNet-A, so only a new last layer can be trained.",
                        "Leave out --full.",
                    ) from None
                check_wrappable(module, name)
                return None

    def _write_wrapped(
        self,
        out: Path,
        trained: Trained,
        labels: tuple[Label, ...],
        name: str,
        about: dict[str, Any],
    ) -> None:
        """Write a SavedModel that calls the other maker's."""
        from nasnet_cli import __version__
        from nasnet_cli.models.card import Card, card_texts
        from nasnet_cli.models.formats.saved_model import OpenedSavedModel
        from nasnet_cli.training.transfer import new_card
        from nasnet_cli.training.wrapped import write_wrapped

        assert self._job is not None
        model = self._job.model
        module, settings = model.module, model.describe_preprocessing()
        assert isinstance(module, OpenedSavedModel)
        names = ("size", "resize", "crop_fraction", "resample", "input_range", "channels")
        preprocessing = {key: settings[key] for key in names if key in settings}
        old = module.card or Card(module.path.name)
        card = replace(
            new_card(name, preprocessing, old, trained, labels, about),
            tool=f"nasnet-cli {__version__}",
        )
        texts = card_texts(card, labels)
        write_wrapped(out, module, trained.head, texts, overwrite=self._settings.overwrite)

    def _features(self, folders: Folders) -> Labelled:
        """Compute the features of all images, or take them from the cache."""
        from nasnet_cli.training.labelled import Labelled

        inputs = options.InputOptions(folders.paths, None, recursive=True)
        self._job = job = Job(self._spec, inputs, self._run_options, self._console)
        labelled = Labelled(folders)
        labelled.add(self._timed(job.kept_rows(self._kept(job, folders)), job.inputs.count()))
        if labelled.failures:
            names = [f"{path} ({failure.kind})" for path, failure in labelled.failures]
            self._console.note(
                f"{counted(len(names), 'image')} left out: {shortened(names, _SHOWN)}."
            )
        labelled.check()
        return labelled

    def _timed(self, rows: Iterator[Row], count: int) -> Iterator[Row]:
        """Yield the rows, and say after the first ones how long all will take."""
        start = time.monotonic()
        for number, row in enumerate(rows, start=1):
            yield row
            if number == min(_MEASURED, count):
                seconds = (time.monotonic() - start) / number * count
                self._console.note(
                    f"{counted(count, 'image')}: features take about {seconds:.0f} s, the new "
                    "layer a little more."
                )

    def _kept(self, job: Job, folders: Folders) -> Path:
        """Return where the features of the model and these folders are kept in the cache."""
        import hashlib
        import json

        from nasnet_cli import cache
        from nasnet_cli.jobs.state import VERSION

        identity = job.spec.identity(job.model)
        roots = [part.folder for part in (folders.train, folders.validation) if part]
        name = hashlib.sha256(
            json.dumps([identity, [os.fsencode(root).hex() for root in roots], VERSION]).encode()
        ).hexdigest()[:32]
        folder = cache.subfolder("features")
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise cache.cannot_write(error) from error
        return folder / name

    def _held(self, labelled: Labelled, fraction: float | None) -> np.ndarray:
        """Return the validation part as a mask, and note what training should know before."""
        from nasnet_cli.training.labelled import faults
        from nasnet_cli.training.split import hold_out, known_rows

        if fraction is not None:
            vectors, classes, seed = labelled.vectors, labelled.classes, self._settings.seed
            held, groups = hold_out(vectors, classes, fraction, seed)
        else:
            known, groups = known_rows(labelled.vectors, labelled.classes, labelled.held)
            if known:
                dropped = labelled.drop(known)
                self._console.note(
                    f"{counted(len(known), 'validation image')} left out, near-duplicates of "
                    f"training images: {shortened(dropped, _SHOWN)}."
                )
                groups = []
            held = labelled.held
        for fault in faults(labelled, groups, held):
            self._console.note(fault)
        if held.all() or not held.any():
            raise NasnetError(
                "The images look all alike to the model, so that none is left to validate with.",
                "Train from another model, or add images.",
            )
        return held

    def _print(self, trained: Trained, labels: tuple[Label, ...], as_json: bool) -> None:
        from nasnet_cli.training.transfer import accuracy

        figures: dict[str, Any] = accuracy(trained, labels)
        if as_json:
            print_json({"path": self._settings.out, **figures})
            return
        top1, (low, high) = trained.top1, trained.top1.interval or (0.0, 1.0)
        print_line(
            f"{self._settings.out}: {100 * (top1.value or 0):.1f} % right "
            f"({100 * low:.1f} to {100 * high:.1f}) of {counted(top1.count, 'validation image')}, "
            f"{len(labels)} classes"
        )
        if trained.level.probability is None:
            print_line("At no probability are 90 % of its labels right.")
        else:
            print_line(
                f"90 % are right from a probability of {trained.level.probability:.2f} on: "
                f"nasnet classify --model {self._settings.out} --threshold "
                f"{trained.level.probability:.2f}"
            )
