"""Notes, details and progress bars: everything a command writes beside its results, to stderr."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Self

import click

from nasnet_cli.errors import NasnetError
from nasnet_cli.models.listener import ProgressListener
from nasnet_cli.results.text import counted, printable

if TYPE_CHECKING:
    from nasnet_cli.errors import ErrorKind
    from nasnet_cli.results.records import Failure


# Terminals without a cursor that moves: rich knows them by the same names.
_DUMB = ("dumb", "unknown")


class Console:
    """Write to standard error. quiet leaves only errors; verbose adds details.

    It is the Reporter (jobs/run.py) of the jobs that a command runs, and counts their errors by
    kind. What it writes takes the place of the progress bar until that advances.
    """

    def __init__(self, *, quiet: bool = False, verbose: bool = False) -> None:
        self.quiet = quiet
        self.verbose = verbose and not quiet
        self.is_on_terminal = sys.stderr.isatty() and not quiet
        self.is_dumb = os.environ.get("TERM") in _DUMB
        self.errors: dict[ErrorKind, int] = {}
        self._bar: Any = None
        self._advance: Callable[[int], None] = _ignore

    def note(self, message: str) -> None:
        """Write a message unless quiet."""
        if not self.quiet:
            self._write(printable(message), dim=_has_styles() or None)

    def warning(self, message: str) -> None:
        """Write a message, also when quiet."""
        self._write(printable(message))

    def detail(self, message: str) -> None:
        """Write a message if verbose."""
        if self.verbose:
            self._write(printable(message))

    def error(self, *lines: str) -> None:
        """Write an error."""
        self._write("Error: " + "\n".join(map(printable, lines)))

    def _write(self, text: str, dim: bool | None = None) -> None:
        # A note that cannot be written, as where its reader has gone, does not end a run.
        with suppress(OSError):
            if self._bar is None:
                click.secho(text, err=True, dim=dim, reset=bool(dim))
                return
            with self._bar.get_lock():
                self._bar.clear(nolock=True)
                click.secho(text, err=True, dim=dim, reset=bool(dim))

    def row(self, path: str, error: Failure | None) -> None:
        """Advance the progress bar by a finished row; if verbose, say why it failed."""
        if error is not None:
            self.errors[error.kind] = self.errors.get(error.kind, 0) + 1
            cause = f" ({error.cause})" if error.cause else ""
            self.detail(f"{path}: {error.message}{cause}")
            if self._bar is not None:
                failed = counted(sum(self.errors.values()), "error")
                self._bar.set_postfix_str(failed, refresh=False)
        self._advance(1)

    @contextmanager
    def progress(
        self,
        count: Callable[[], int] | None,
        *,
        rows_are_shown: bool = False,
        initial: int = 0,
        unit: str = "images",
    ) -> Iterator[Callable[[int], None]]:
        """Show a progress bar on a terminal; yield a function that advances it by some units.

        count returns the total; it runs in a thread, and the bar has no end until it returns.
        rows_are_shown says that the caller prints rows on the same terminal, so that the bar makes
        way for them. initial units are done already.
        """
        if not self.is_on_terminal or self.is_dumb:
            yield _ignore
            return
        with _bar(unit=f" {unit}", initial=initial, bar_format=_COUNT) as bar:
            if count is not None:

                def find_total() -> None:
                    with suppress(NasnetError):  # which the run itself says
                        bar.total = count()
                        bar.bar_format = _SHARE

                threading.Thread(target=find_total, daemon=True).start()

            def advance(units: int) -> None:
                bar.update(units)
                if rows_are_shown:
                    bar.clear()

            self._advance, self._bar = advance, bar
            try:
                yield advance
            finally:
                self._advance, self._bar = _ignore, None


class ConsoleListener(ProgressListener):
    """Show downloads: a bar with rate and time left on a terminal, one line when piped.

    A context manager, which removes the bar at its end.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bar: Any = None
        self._announced: set[str] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def note(self, message: str) -> None:
        self._close()
        self._console.note(message)

    def progress(self, name: str, done: int, total: int | None) -> None:
        if self._console.quiet:
            return
        if not self._console.is_on_terminal or self._console.is_dumb:
            if name not in self._announced:
                size = f", {total / 1e6:,.1f} MB" if total else ""
                self._console.note(f"{name}: downloading{size}.")
            self._announced.add(name)
            return
        if self._bar is None:
            self._bar = _bar(total=total, desc=name, unit="B", unit_scale=True)
        self._bar.update(done - self._bar.n)
        if done == total:
            self._close()

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


# As tqdm's own, but with slow rates per second too, like the summary: 0.25 images/s.
_COUNT = "{n_fmt}{unit} [{elapsed}, {rate_noinv_fmt}{postfix}]"
_SHARE = "{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}, {rate_noinv_fmt}{postfix}]"


def _bar(**settings: Any) -> Any:
    from tqdm import tqdm

    return tqdm(**settings, dynamic_ncols=True, leave=False, file=sys.stderr)


def _has_styles() -> bool:
    return not os.environ.get("NO_COLOR") and os.environ.get("TERM") not in _DUMB


def _ignore(units: int) -> None:
    pass
