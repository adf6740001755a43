"""nasnet evaluate: compare labels with the true classes of images."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from nasnet_cli.cli import exits, large_options, options
from nasnet_cli.cli.console import Console
from nasnet_cli.cli.sections import (
    OUTPUT,
    command_with,
    gathered,
    json_option,
    option,
    path_option,
    print_json,
    print_line,
)
from nasnet_cli.cli.summary import errors_by_kind
from nasnet_cli.errors import NasnetError
from nasnet_cli.jobs.spec import JobSpec, RunOptions
from nasnet_cli.results.text import counted, shortened

if TYPE_CHECKING:
    from nasnet_cli.albums.paths import Base
    from nasnet_cli.cli.run import Job
    from nasnet_cli.evaluation.outcome import Outcome
    from nasnet_cli.evaluation.tally import Tally
    from nasnet_cli.evaluation.truth import Truth
    from nasnet_cli.results.formats import FormatName

LABELS = "labels.jsonl"


class Settings(NamedTuple):
    """The settings of an evaluation itself: what is compared, and what is written."""

    labels_from: str | None
    base: str | None
    mistakes: int
    out: str | None
    overwrite: bool
    plots: bool


@command_with(
    "nasnet evaluate photos_by_class/ --model imagenet-mobile",
    "nasnet evaluate truth.csv --out evaluation/ --resume",
    "nasnet evaluate labels.jsonl --labels-from truth.csv --json",
)
@click.argument("source", type=click.Path())
@gathered(
    "settings",
    Settings,
    path_option(
        "--labels-from",
        metavar="CSV",
        help="For a result file: CSV file with the columns path and label.  [default: the name of "
        "the folder that each image is in]",
    ),
    options.base_option_for("in a CSV file"),
    option(
        "--mistakes",
        type=click.IntRange(min=0),
        default=10,
        metavar="N",
        help="Number of mistakes to list, the most confident first.",
    ),
    path_option(
        "-o",
        "--out",
        section=OUTPUT,
        help="Write to folder DIR: evaluation.json, classes.csv, confusion.csv, confusion.png, "
        "reliability.png, and the labels of all images as labels.jsonl.",
    ),
    options.overwrite_option,
    option(
        "--plots/--no-plots",
        default=True,
        section=OUTPUT,
        help="Write PNG files too; they need matplotlib.",
    ),
)
@json_option("Print all figures as JSON.")
@options.spec_options(
    "labels", options.sure_option, options.labels_option, *options.preprocessing_options
)
@large_options.run_options
@options.console_options
def command(
    source: str,
    settings: Settings,
    as_json: bool,
    spec: JobSpec,
    run: RunOptions,
    console: Console,
) -> int:
    """Measure accuracy on images whose classes are known.

    SOURCE is a folder with a subfolder for each class, a CSV file with the columns path and label,
    or a result file of nasnet classify, which is compared without a second run. Classes are named
    by WordNet id, label, synonym or a wider class (dog); a name that matches no class, or several,
    is reported and its images are left out. Exit code: 0 if every image was compared, 3 if some
    were not.
    """
    if run.resume and settings.out is None:
        raise click.UsageError("--resume needs --out.")
    if settings.out is not None and settings.plots:
        from nasnet_cli.evaluation import plots

        plots.require()
    evaluation = _Evaluation(settings, spec._replace(top=5), run, console)
    if os.path.isdir(source):  # noqa: PTH112
        outcome, about = evaluation.of_folder(source)
    else:
        outcome, about = evaluation.of_file(source)
    document = {**about, **outcome.document()}
    evaluation.write(outcome, document)
    if as_json:
        print_json(document)
    else:
        for line in outcome.lines():
            print_line(line)
    return evaluation.finish(outcome)


class _Evaluation:
    """One run of the command."""

    def __init__(
        self, settings: Settings, spec: JobSpec, run: RunOptions, console: Console
    ) -> None:
        self._settings, self._spec, self._run, self._console = settings, spec, run, console
        self._job: Job | None = None
        self._folder = None if settings.out is None else Path(settings.out)

    def of_folder(self, source: str) -> tuple[Outcome, dict[str, Any]]:
        """Evaluate a folder with a subfolder for each class."""
        from nasnet_cli.evaluation.sources import class_folders

        self._refuse_labels_from(source)
        folders = class_folders(source)
        if folders.loose:
            self._console.note(f"{counted(folders.loose, 'image')} outside the folders of classes.")

        def paths(truth: Truth) -> Iterable[str]:
            return (folders.path(n) for n in folders.names if truth.number(n) is not None)

        return self._of_images(source, folders.names, paths, folders.name_of, folders.loose)

    def of_file(self, source: str) -> tuple[Outcome, dict[str, Any]]:
        """Evaluate a CSV file of paths and labels, or results."""
        from nasnet_cli.cli.missing import check_some_exist
        from nasnet_cli.evaluation.sources import is_label_table, read_label_table

        check_some_exist((source,))
        if source == "-" or not is_label_table(source):
            return self._of_results(source)
        self._refuse_labels_from(source)
        base = self._base()
        table = read_label_table(source, lambda path: _no_dash(base.locate(path)))
        if not any(base.exists(path) for path in table):
            raise base.nothing_exists(next(iter(table)))

        def paths(truth: Truth) -> list[str]:
            return [path for path, label in table.items() if truth.number(label) is not None]

        return self._of_images(source, table.values(), paths, table.get, None)

    def _of_images(
        self,
        source: str,
        names: Iterable[str],
        paths: Callable[[Truth], Iterable[str]],
        name_of: Callable[[str], str | None],
        loose: int | None,
    ) -> tuple[Outcome, dict[str, Any]]:
        """Classify the images of all known classes and compare them.

        loose counts the images without a class; None stands for the names without one.
        """
        from nasnet_cli.cli.run import Inputs, Job
        from nasnet_cli.evaluation.outcome import Outcome
        from nasnet_cli.evaluation.tally import Tally
        from nasnet_cli.evaluation.truth import Truth

        inputs = options.InputOptions((source,), None, recursive=True)
        self._job = job = Job(self._spec, inputs, self._run, self._console)
        truth = Truth(job.model.labels)
        numbers = [truth.number(name) for name in names]
        self._check(truth, source)
        job.inputs = Inputs(inputs._replace(paths=tuple(paths(truth))), self._spec.max_bytes)
        tally = Tally(truth, name_of, job.model.module.classes, self._settings.mistakes)
        tally.without_class = numbers.count(None) if loose is None else loose
        self._tally_job(job, tally)
        return Outcome(tally), job.model.head()

    def _tally_job(self, job: Job, tally: Tally) -> None:
        if self._folder is None:
            from nasnet_cli.jobs.rows import classified_rows

            for row in classified_rows(job.rows(), job.spec, job.model):
                tally.add(row)
            return
        from nasnet_cli.cli.run import target
        from nasnet_cli.results.reading import LabelFile

        self._check_free(self._folder)
        labels = os.fspath(self._folder / LABELS)
        job.write([target("labels", "jsonl", labels)], overwrite=self._settings.overwrite)
        for row in LabelFile(labels).rows():
            tally.add(row)

    def _of_results(self, source: str) -> tuple[Outcome, dict[str, Any]]:
        """Compare the labels of a finished run."""
        from nasnet_cli.evaluation.outcome import Outcome
        from nasnet_cli.evaluation.sources import folder_name, read_label_table
        from nasnet_cli.evaluation.tally import Tally, check_has_labels
        from nasnet_cli.evaluation.truth import Truth
        from nasnet_cli.labels import Label, read_labels

        file = options.open_results(source)
        # From a pipe there is no second reading.
        kept = list(file.rows()) if file.is_stream else None
        name_of: Callable[[str], str | None] = folder_name
        if self._settings.labels_from is not None:
            table = read_label_table(self._settings.labels_from, self._base().locate)
            known = {os.path.normpath(path): label for path, label in table.items()}
            name_of = lambda path: known.get(os.path.normpath(path))  # noqa: E731
        labels, names = dict[Label, None](), dict[str, None]()
        for row in file.rows() if kept is None else kept:
            if (name := name_of(row.path)) is not None:
                names[name] = None
            check_has_labels(row)
            labels |= {Label(p.wnid, p.label): None for p in row.predictions or ()}
        of_file = None if self._spec.labels is None else read_labels(self._spec.labels)
        if not names:
            raise NasnetError(
                f"None of the images in {file.name} is in {self._settings.labels_from}.",
                "Its paths must be those of the results; --base says where they start from.",
            )
        truth = Truth(of_file or labels, is_complete=of_file is not None)
        for name in names:
            truth.number(name)
        self._check(truth, file.name)
        about = {} if file.is_stream else _about(source, file.format)
        tally = Tally(
            truth, name_of, about.get("model", {}).get("classes"), self._settings.mistakes
        )
        for row in file.rows() if kept is None else kept:
            tally.add(row)
        return Outcome(tally), about

    def _base(self) -> Base:
        from nasnet_cli.albums.paths import Base

        return Base(self._settings.base)

    def _refuse_labels_from(self, source: str) -> None:
        if self._settings.labels_from is not None:
            raise click.UsageError(f"--labels-from is for results; {source} has its own labels.")

    def _check(self, truth: Truth, source: str) -> None:
        """Note the names that stand for no class. Raises NasnetError when all do."""
        from nasnet_cli.evaluation.sources import reasons

        if not truth.classes:
            raise NasnetError(
                f"No class of {source} is known to the model: {reasons(truth.unmatched)}.",
                "Name the classes by labels or WordNet ids; nasnet inspect --json lists them.",
            )
        if truth.unmatched:
            self._console.note(f"Left out: {reasons(truth.unmatched)}.")
        if truth.same:
            pairs = [f"{name!r} and {other!r}" for name, other in truth.same.items()]
            self._console.note(f"The same class: {shortened(pairs, 5)}.")

    def _check_free(self, folder: Path) -> None:
        """Make the folder, and raise OutputError if one of its files is in the way."""
        from nasnet_cli.results.atomic import check_free, errors_in_words

        with errors_in_words(folder):
            folder.mkdir(parents=True, exist_ok=True)
        check_free(os.fspath(folder / "evaluation.json"), self._replaces)

    @property
    def _replaces(self) -> bool:
        return self._settings.overwrite or self._run.resume

    def write(self, outcome: Outcome, document: dict[str, Any]) -> None:
        """Write the files of --out, all or none."""
        if self._folder is None:
            return
        from nasnet_cli.results.atomic import open_outputs
        from nasnet_cli.results.text import json_text

        self._check_free(self._folder)
        files = {
            "evaluation.json": (json_text(document, indent=2) + "\n").encode(),
            "classes.csv": outcome.classes_csv(),
            "confusion.csv": outcome.confusion_csv(),
        }
        if self._settings.plots:
            from nasnet_cli.evaluation.plots import confusion_png, reliability_png

            files["confusion.png"] = confusion_png(outcome)
            if outcome.calibration_error is not None:
                error = outcome.calibration_error
                files["reliability.png"] = reliability_png(outcome.bins, error)
        paths = [self._folder / name for name in files]
        with open_outputs(*paths, overwrite=self._replaces) as streams:
            for stream, data in zip(streams, files.values(), strict=True):
                stream.write(data)

    def finish(self, outcome: Outcome) -> int:
        """Note what was not compared, and return the exit code."""
        tally = outcome.tally
        empty = [c.true_class.name for c in outcome.per_class if not c.top1.count]
        if empty:
            self._console.note(f"No image was compared for {shortened(empty, 8)}.")
        if tally.without_class:
            self._console.note(f"{counted(tally.without_class, 'image')} without a known class.")
        if tally.errors:
            self._console.note(f"Not compared: {errors_by_kind(tally.errors)}.")
        status = exits.OK if self._job is None else self._job.finish("classified")
        incomplete = tally.errors or tally.without_class or tally.truth.unmatched
        return exits.SOME_FAILED if incomplete else status


def _no_dash(path: str) -> str:
    """Return a path that is not taken for standard input."""
    return "./-" if path == "-" else path


def _about(source: str, format_: FormatName) -> dict[str, Any]:
    """Return what a result file says of its model and preprocessing, as far as it does."""
    from nasnet_cli.kept_files import parse_object
    from nasnet_cli.results.formats import FORMATS

    fields = {"model": dict, "preprocessing": dict}
    try:
        meta = parse_object(FORMATS[format_].read_meta(Path(source)), fields)
        return {name: meta[name] for name in fields}
    except (OSError, ValueError, KeyError, TypeError):
        return {}
