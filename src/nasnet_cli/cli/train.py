"""nasnet train: teach a model other classes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from nasnet_cli.cli import exits, options
from nasnet_cli.cli.console import Console, ConsoleListener
from nasnet_cli.cli.sections import (
    MODEL,
    OUTPUT,
    command_with,
    gathered,
    json_option,
    option,
    path_option,
    print_json,
    print_line,
)
from nasnet_cli.cli.training_images import read_features, validation_part
from nasnet_cli.cli.tuning import FullOptions, Tuning, full_options
from nasnet_cli.errors import ModelError
from nasnet_cli.jobs.spec import JobSpec, RunOptions
from nasnet_cli.results.text import counted

if TYPE_CHECKING:
    import numpy as np

    from nasnet_cli.cli.run import Job
    from nasnet_cli.labels import Label
    from nasnet_cli.models.formats.base import Network
    from nasnet_cli.training.labelled import Labelled
    from nasnet_cli.training.transfer import Trained

SCRATCH = "scratch"


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
        help="Folder of classes to validate with, or fraction of each class to hold out for "
        "validation.",
    ),
    option(
        "--seed",
        type=click.IntRange(min=0),
        default=0,
        metavar="N",
        help="Seed for choosing the held-out images, and for training with --full.",
    ),
    option(
        "--from",
        "source",
        metavar="MODEL",
        section=MODEL,
        help="Model to train from; the same as --model. With scratch, a new network is trained from "
        "random weights.",
    ),
    path_option(
        "-o",
        "--out",
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

    FOLDER has a subfolder for each class, named after its label or WordNet id. The network gets a
    new last layer and otherwise stays as it is; regularization and calibration are chosen on the
    validation images. Features of images are kept in the cache, so that an interrupted run
    continues where it was. With --full, the whole network is trained after that, in TensorFlow on
    the CPU; the best epoch is kept, and DIR.curves.json and DIR.curves.png have the training
    curves. With --from scratch, a new network is trained in the same way. Exit code: 0 if every
    image could be used, 3 if some have errors.
    """
    if settings.source is not None:
        spec = spec._replace(model=settings.source)
    full.check(is_scratch=spec.model == SCRATCH)
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
        self._is_scratch = spec.model == SCRATCH
        if self._is_scratch:
            # Its features find near-duplicates.
            self._spec = spec._replace(model="builtin")
        if full.full or self._is_scratch:
            self._tuning = Tuning(
                Path(settings.out),
                full,
                console,
                is_scratch=self._is_scratch,
                overwrite=settings.overwrite,
            )

    def run(self, as_json: bool) -> int:
        """Train, write the module and print how good it is."""
        from nasnet_cli.cli.run import Job
        from nasnet_cli.models.export import check_free
        from nasnet_cli.models.formats.tf1_hub import TF1Hub
        from nasnet_cli.training.head import require
        from nasnet_cli.training.labelled import open_folders

        require()
        out = Path(self._settings.out)
        check_free(out, TF1Hub(), self._settings.overwrite)  # a SavedModel's name is as free
        if self._tuning:
            self._tuning.begin()
        fraction, validation = self._validation()
        folders = open_folders(self._folder, validation)
        if folders.loose:
            self._console.note(f"{counted(folders.loose, 'image')} outside the folders of classes.")
        network = None if self._is_scratch else self._read_network()
        inputs = options.InputOptions(folders.paths, None, recursive=True)
        self._job = Job(self._spec, inputs, self._run_options, self._console)
        then = "" if self._is_scratch else ", the new layer a little more"
        labelled = read_features(self._job, folders, self._console, then)
        held = validation_part(labelled, fraction, self._settings.seed, self._console)
        # Nothing of the output's name, so that equal images give equal bytes.
        about = {
            "dataset": f"the validation part of {Path(folders.train.folder).name}",
            "how": self._how(fraction, validation),
        }
        trained = self._train(network, labelled, held, about)
        self._print(trained, folders.labels, as_json)
        return exits.SOME_FAILED if labelled.failures else exits.OK

    def _train(
        self,
        network: Network | None,
        labelled: Labelled,
        held: np.ndarray,
        about: dict[str, Any],
    ) -> Trained:
        """Train and write the model. network is the one to train from, None for another maker's."""
        from nasnet_cli.models.export import export
        from nasnet_cli.models.formats.tf1_hub import TF1Hub
        from nasnet_cli.training.transfer import FROM_SCRATCH, TUNED, train_head, with_head

        labels, out = labelled.folders.labels, Path(self._settings.out)
        name = Path(labelled.folders.train.folder).name
        if self._tuning and self._is_scratch:
            made = network = self._tuning.untrained(labels)
        else:
            trained = train_head(labelled.vectors, labelled.classes, held, len(labels))
            if network is None:
                self._write_wrapped(out, trained, labels, name, about)
                return trained
            made = with_head(network, trained, labels, name, about)
        if self._tuning:
            assert self._job is not None
            seed = self._settings.seed
            tuned, trained, course = self._tuning.train(made, labelled, held, self._job, seed)
            weights = replace(network, weights=tuned.weights)
            how = FROM_SCRATCH if self._is_scratch else TUNED
            about = {**about, "training": course}
            made = with_head(weights, trained, labels, name, about, how)
        overwrite, note = self._settings.overwrite, self._console.detail
        export(made, out, TF1Hub(), overwrite=overwrite, note=note)
        if self._tuning:
            self._tuning.finish()
        return trained

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
                        f"The model {name} is not a NASNet-A, so only a new last layer can be trained.",
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
