"""A run over inputs: what classify, embed and similar share."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from nasnet_cli import cache
from nasnet_cli.cli import exits, startup, streams
from nasnet_cli.cli.console import Console, ConsoleListener
from nasnet_cli.cli.missing import check_some_exist
from nasnet_cli.cli.options import InputOptions
from nasnet_cli.cli.summary import errors_by_kind, skips_by_kind
from nasnet_cli.errors import NasnetError
from nasnet_cli.images.listing import list_sources, read_list
from nasnet_cli.images.source import SkipCounter, Source, is_archive, is_remote
from nasnet_cli.images.urls import shown
from nasnet_cli.jobs.run import JobRun, NoInputError, kept_rows, stream_rows, write_files
from nasnet_cli.jobs.spec import JobSpec, Kind, RunOptions
from nasnet_cli.results.formats import FormatName, format_by_ending, formats_of
from nasnet_cli.results.records import Summary
from nasnet_cli.results.text import counted, shortened
from nasnet_cli.timings import Timings

if TYPE_CHECKING:
    from nasnet_cli.jobs.outputs import Target
    from nasnet_cli.jobs.rows import Row
    from nasnet_cli.model import Model


class Inputs:
    """The sources that a command line names.

    "-" among the paths stands for the list on standard input. Without paths and lists it is the
    current folder. The folder left_out is not searched. skips counts what listing them skips.
    """

    def __init__(self, options: InputOptions, max_bytes: int, left_out: str | None = None) -> None:
        self._list_file = options.list_file
        self._paths = options.paths or (() if options.list_file else (".",))
        self._recursive = options.recursive
        self._exclude = options.exclude
        self._max_bytes = max_bytes
        self._left_out = left_out
        self.skips = SkipCounter()
        self.own: Collection[str] = ()
        """The resolved paths of the run's own files and folders, which are no inputs."""
        if self._paths.count("-") + (getattr(self._list_file, "name", "") == "<stdin>") > 1:
            raise NasnetError("Standard input is named twice.", "Name it once.")
        if not options.list_file:
            check_some_exist(options.paths)

    @property
    def can_be_counted(self) -> bool:
        """True if listing all inputs once more, to count them, is cheap."""
        return not self._list_file and not any(
            path == "-" or is_archive(path) or is_remote(path) for path in self._paths
        )

    @property
    def file_count(self) -> int | None:
        """The number of inputs if all are files named one by one, else None."""
        # Not Path.is_file, which raises for a path that may not be looked at.
        if self.can_be_counted and all(os.path.isfile(path) for path in self._paths):  # noqa: PTH113
            return len(self._paths)
        return None

    @property
    def roots(self) -> tuple[str, ...]:
        """The named folders, archives and URLs; none where any file is named, or a list is read.

        Those may come from a pattern or a program that leaves out what is gone.
        """
        names = ["-" if self._list_file else "", *self._paths]
        if any(n == "-" or (os.path.isfile(n) and not is_archive(n)) for n in names):  # noqa: PTH113
            return ()
        return tuple(shown(path) if is_remote(path) else path for path in self._paths)

    def sources(self) -> Iterator[Source]:
        """List the inputs, in order."""
        return self._list(self._names(), self.skips)

    def count(self) -> int:
        """Count the inputs by listing them."""
        return sum(1 for _ in self._list(self._paths, SkipCounter()))

    def _list(self, paths: Iterable[str], skips: SkipCounter) -> Iterator[Source]:
        return list_sources(
            paths,
            recursive=self._recursive,
            exclude=self._exclude,
            folders=[path for path in self._paths if os.path.isdir(path)],  # noqa: PTH112
            left_out=self._left_out,
            own=self.own,
            skips=skips,
            max_bytes=self._max_bytes,
        )

    def no_images(self) -> NasnetError:
        """Return the error to raise when there are no inputs."""
        if self._paths == (".",):
            if not streams.working_folder_exists():
                return NasnetError("The current folder has been removed.", "Change to another one.")
            place = "the current folder"
        else:
            names = [_named(path) for path in self._paths]
            if self._list_file:
                names.append(f"the list {getattr(self._list_file, 'name', '')}".strip())
            place = shortened(names, 3)
        return NasnetError(
            f"There are no images in {place}.", "Name images, or folders that have some."
        )

    def _names(self) -> Iterator[str]:
        for path in self._paths:
            if path == "-":
                yield from read_list(sys.stdin.buffer)
            else:
                yield path
        if self._list_file:
            yield from read_list(self._list_file)


def _named(path: str) -> str:
    """Return a path as a message has it."""
    if path == "-":
        return "the list on standard input"
    return shown(path) if is_remote(path) else path


class Job:
    """One run of a command: its spec, inputs, model, console and summary."""

    def __init__(
        self,
        spec: JobSpec,
        inputs: InputOptions,
        options: RunOptions,
        console: Console,
        *,
        left_out: str | None = None,
    ) -> None:
        self._start = time.monotonic()
        startup.limit_blas_threads()
        self.spec = spec
        self.inputs = Inputs(inputs, spec.max_bytes, left_out)
        self.console = console
        self.summary = Summary()
        self._timings = Timings()
        self.run_options = options._replace(timings=self._timings)

    @cached_property
    def model(self) -> Model:
        """The model of the spec. A note introduces the built-in one where none was chosen."""
        with ConsoleListener(self.console) as listener:
            model = self.spec.open_model(listener)
        startup.keep_until_exit(model)
        if reason := cache.distrust():
            self.console.note(reason)
        if self.spec.model is None and self.console.is_on_terminal and cache.is_first_today():
            self._introduce(model)
        return model

    def _introduce(self, model: Model) -> None:
        """Write the note on the built-in model and on how to use the published one."""
        from nasnet_cli.models.hub.published import PUBLISHED

        card, published = model.module.card, PUBLISHED["imagenet-mobile"].accuracy
        if card is None or card.accuracy is None or published is None:
            return
        self.console.note(
            f"Using the small built-in model: {model.module.classes:,} classes, "
            f"{100 * card.accuracy['top1']:.0f} % top-1 accuracy on {card.accuracy['dataset']}."
        )
        self.console.note(
            f"For the published one ({100 * published['top1']:.0f} % on ImageNet): "
            "nasnet models default imagenet-mobile"
        )

    def rows(self, *, to_terminal: bool = False) -> Iterator[Row]:
        """Yield a row for each input, in order, with a progress bar; the runtime opens at once.

        to_terminal says that the caller shows the rows on the terminal. Raises NasnetError when
        there are no inputs.
        """
        self._open_ahead()
        return self._counted(stream_rows, to_terminal)

    def kept_rows(self, kept: Path) -> Iterator[Row]:
        """Yield rows as rows does; those of an earlier call are taken from the state of kept."""
        self._open_ahead()
        return self._counted(partial(kept_rows, kept))

    def _counted(
        self, rows: Callable[[JobRun], Iterator[Row]], to_terminal: bool = False
    ) -> Iterator[Row]:
        with self._running(rows_are_shown=to_terminal):
            yield from rows(self._run(self.run_options))
        self.summary.passed_over = self.inputs.skips.count

    def write(self, targets: Sequence[Target], *, overwrite: bool) -> None:
        """Write the results to files, with a progress bar. Raises NasnetError."""
        from nasnet_cli.jobs.outputs import output_files

        self._open_ahead()
        own = output_files(targets, with_meta=True)
        self.inputs.own = [os.path.realpath(path) for path in own]
        with self._running():
            run = self._run(self.run_options._replace(overwrite=overwrite))
            write_files(run, targets, self.inputs.skips, self.inputs.roots)

    def _run(self, options: RunOptions) -> JobRun:
        sources = self.inputs.sources()
        return JobRun(self.spec, self.model, sources, options, self.console, self.summary)

    def finish(self, verb: str) -> int:
        """Print the summary and return the exit code.

        verb is what was done with inputs that succeeded.
        """
        summary = self.summary
        summary.seconds = time.monotonic() - self._start
        parts = [f"{summary.ok:,} {verb}"]
        if summary.failed:
            errors = errors_by_kind(summary.errors)
            parts.append(errors)
            if self.console.quiet:
                self.console.warning(f"{errors}.")
        if summary.passed_over:
            parts.append(skips_by_kind(summary.passed_over, self.inputs.skips.kinds))
        if summary.kept:
            parts.append(f"{summary.kept:,} in earlier runs")
        took = f"{summary.seconds:.1f} s"
        if done_now := summary.inputs - summary.kept:
            rate = done_now / summary.seconds
            took += f", {rate:{'.2g' if rate < 10 else '.0f'}} images/s"
        self.console.note(f"{counted(summary.inputs, 'image')}: {'; '.join([*parts, took])}.")
        if self.console.verbose:
            from nasnet_cli.runtime.base import available_cores

            for line in self._timings.table(available_cores()):
                self.console.detail(line)
        return exits.SOME_FAILED if summary.failed else exits.OK

    def _open_ahead(self) -> None:
        """Start to open the runtime, beside all that comes before the first image."""
        self.model.open_ahead(self.spec.outputs, images=self.inputs.file_count)

    @contextmanager
    def _running(self, *, rows_are_shown: bool = False) -> Iterator[None]:
        """Show progress, and name the inputs where they hold no image."""
        count = self.inputs.count if self.inputs.can_be_counted else None
        with self.console.progress(count, rows_are_shown=rows_are_shown):
            try:
                yield
            except NoInputError as error:
                raise self.inputs.no_images() from error


def target(kind: Kind, format_: FormatName, out: str) -> Target:
    """Return the target for a file that the user named.

    Raises OutputError for a name that a file cannot have.
    """
    from nasnet_cli.jobs.outputs import Target
    from nasnet_cli.results.atomic import check_free

    check_free(out, overwrite=True)  # a Path drops the slash that a name ends in
    return Target(kind, format_, Path(out))


def vector_target(out: str, format_: FormatName | None = None) -> Target:
    """Return the target for vectors in a file; its extension names the format if none is given."""
    format_ = format_ or format_by_ending(out, formats_of("vectors"))
    if format_ is None:
        raise click.UsageError(
            f"The extension of {out!r} names no format for vectors. Use .npy, .npz or .parquet."
        )
    return target("vectors", format_, out)
