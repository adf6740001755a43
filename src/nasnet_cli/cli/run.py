"""A run of a command over inputs: what classify and embed have in common."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import click

from nasnet_cli.cli.console import Console
from nasnet_cli.cli.fetching import ConsoleListener
from nasnet_cli.cli.inputs import Inputs
from nasnet_cli.cli.main import EXIT_SOME_FAILED
from nasnet_cli.errors import NasnetError
from nasnet_cli.jobs.spec import JobSpec, Kind
from nasnet_cli.results.records import Failure, Summary
from nasnet_cli.timings import Timings

if TYPE_CHECKING:
    from nasnet_cli.jobs.outputs import Target, TargetFormat
    from nasnet_cli.model import How, Model


class Row(Protocol):
    """What every kind of record has."""

    @property
    def path(self) -> str: ...
    @property
    def error(self) -> Failure | None: ...


AnyRow = TypeVar("AnyRow", bound=Row)


# Models in use: to take one apart takes a tenth of a short run, and exiting does without it.
_until_exit: list[Model] = []


class Job:
    """The inputs, the model and the counts of one run. given is the command's options by name,
    results the kinds of results that it makes."""

    def __init__(
        self, paths: tuple[str, ...], given: dict[str, Any], results: tuple[Kind, ...]
    ) -> None:
        self.start = time.monotonic()
        # NumPy's threads for products of matrices wait busily, and there are none here to speak of.
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
        self.given = given
        self.console = Console(quiet=given["quiet"], verbose=given["verbose"])
        self.inputs = Inputs(
            paths,
            given["list_file"],
            recursive=given["recursive"],
            max_bytes=given["max_bytes"],
        )
        self.work = _work(given, results)
        self.summary = Summary()
        self.timings = Timings()

    @cached_property
    def model(self) -> Model:
        """The model that was asked for, introduced on standard error if it is the built-in one."""
        with ConsoleListener(self.console) as listener:
            model = self.work.open_model(listener)
        _until_exit.append(model)
        card = model.module.card
        if model.is_builtin and card is not None and card.accuracy is not None:
            self.console.note(
                f"Built-in model: {model.module.classes} of ImageNet's classes, "
                f"{100 * card.accuracy['top1']:.0f} % right on {card.accuracy['dataset']}'s "
                "validation pictures. For ImageNet's thousand: --model imagenet-mobile."
            )
        return model

    def open_ahead(self) -> None:
        """Begins to open what runs the model, beside all that comes before the first picture."""
        self.model.open_ahead(self.work.outputs, pictures=self.inputs.named)

    @property
    def how(self) -> How:
        """What a run of the model needs to know beside what is asked of it."""
        return {
            "workers": self.given["workers"],
            "batch_size": self.given["batch_size"],
            "limits": self.work.limits,
            "timings": self.timings,
        }

    def tally(self, rows: Iterable[AnyRow]) -> Iterator[AnyRow]:
        """The rows, counted, with a bar of progress. Raises NasnetError if there was none."""
        summary = self.summary
        rows_are_shown = self.given["out"] is None and sys.stdout.isatty()
        with self._progress(rows_are_shown=rows_are_shown) as advance:
            for row in rows:
                advance(1)
                summary.inputs += 1
                if row.error is None:
                    summary.ok += 1
                else:
                    summary.failed += 1
                    self.tell_failure(row.path, row.error)
                yield row
        summary.passed_over = self.inputs.skips.count
        if not summary.inputs:
            raise self._no_picture()

    def write(self, *targets: Target) -> None:
        """Makes files of the results, with a bar of progress. Raises NasnetError."""
        self.open_ahead()
        from nasnet_cli.jobs.run import NoInputError, Options, run_to_files

        given = self.given
        with self._progress(rows_are_shown=False) as advance:

            def tell(path: str, error: Failure | None) -> None:
                advance(1)
                if error is not None:
                    self.tell_failure(path, error)

            options = Options(
                workers=given["workers"],
                batch_size=given["batch_size"],
                timings=self.timings,
                resume=given["resume"],
                overwrite=given["overwrite"],
                check=given["check"],
                tell=tell,
                note=self.console.note,
                passed_over=lambda: self.inputs.skips.count,
            )
            try:
                self.summary = run_to_files(
                    self.work, self.model, self.inputs.sources(), targets, options
                )
            except NoInputError as error:
                raise self._no_picture() from error

    def finish(self, done: str, *, before: int = 0) -> int:
        """Says how it went, in which ok inputs are done (a word), and gives the exit status.

        before is how many of the inputs were done by another run.
        """
        summary = self.summary
        summary.seconds = time.monotonic() - self.start
        parts = [f"{summary.ok:,} {done}"]
        if summary.failed:
            parts.append(f"{summary.failed:,} with errors")
        if summary.passed_over:
            files = "file" if summary.passed_over == 1 else "files"
            parts.append(f"{summary.passed_over:,} other {files} passed over")
        pictures = "picture" if summary.inputs == 1 else "pictures"
        if before:
            parts.append(f"{before:,} of them before")
        took = f"{summary.seconds:.1f} s"
        if done_now := summary.inputs - before:
            rate = done_now / summary.seconds
            took += f", {rate:{'.2g' if rate < 10 else '.0f'}} a second"
        self.console.note(f"{summary.inputs:,} {pictures}: {', '.join(parts)}; {took}.")
        if self.console.verbose:
            from nasnet_cli.runtime.base import available_cores

            for line in self.timings.table(available_cores()):
                self.console.detail(line)
        return EXIT_SOME_FAILED if summary.failed else 0

    def _progress(self, *, rows_are_shown: bool) -> AbstractContextManager[Callable[[int], None]]:
        count = self.inputs.count if self.inputs.can_be_counted else None
        return self.console.progress(count, rows_are_shown=rows_are_shown)

    def tell_failure(self, path: str, error: Failure) -> None:
        """Says, when that is asked for, that an input failed, and why."""
        self.console.detail(f"{path}: {error.message}")

    def _no_picture(self) -> NasnetError:
        return NasnetError(
            f"There is no picture in {self.inputs.in_words}.",
            "Name pictures, or folders that have some.",
        )


def target(kind: Kind, format_: TargetFormat, out: str) -> Target:
    """A file that the user named. Raises OutputError when the name can't be a file's."""
    from nasnet_cli.jobs.outputs import Target
    from nasnet_cli.results.atomic import check_free

    check_free(out, overwrite=True)  # a Path doesn't know of the slash that a name ends in
    return Target(kind, format_, Path(out))


def vector_format(out: str) -> TargetFormat:
    """The format of vectors that a file's ending names."""
    ending = Path(out).suffix.lower()
    if ending not in _VECTOR_FORMATS:
        raise click.UsageError(
            f"The ending of {out!r} names no format for vectors; end it in .npy, .npz or .parquet."
        )
    return _VECTOR_FORMATS[ending]


_VECTOR_FORMATS: dict[str, TargetFormat] = {".npy": "npy", ".npz": "npz", ".parquet": "parquet"}


def _work(given: dict[str, Any], results: tuple[Kind, ...]) -> JobSpec:
    """What the command's options ask for; the command has those of its own results."""
    names = ("resize", "crop_fraction", "resample")
    own = [f.name for f in fields(JobSpec) if f.name in given]
    return JobSpec(
        results,
        preprocessing={name: given[name] for name in names if given[name] is not None},
        **{name: given[name] for name in own},
    )
