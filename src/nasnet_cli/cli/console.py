"""What a command says beside its data, all of it on standard error: the one place that prints."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click

from nasnet_cli.results.text import printable


class Console:
    """Notes and progress for a person. quiet leaves errors alone; verbose adds detail."""

    def __init__(self, *, quiet: bool = False, verbose: bool = False) -> None:
        self.quiet = quiet
        self.verbose = verbose and not quiet
        self._has_bar = sys.stderr.isatty() and not quiet

    def note(self, message: str) -> None:
        """Says something unless quiet."""
        if not self.quiet:
            click.secho(printable(message), err=True, dim=sys.stderr.isatty() and _has_colour())

    def detail(self, message: str) -> None:
        """Says something when verbose."""
        if self.verbose:
            click.echo(printable(message), err=True)

    @contextmanager
    def progress(
        self,
        count: Callable[[], int] | None,
        *,
        rows_are_shown: bool = False,
        already: int = 0,
        unit: str = "pictures",
    ) -> Iterator[Callable[[int], None]]:
        """What to call with the number of units done since, so that a bar on a terminal goes on.

        count tells how many there will be and may take its time: it is called in a thread, and
        the bar has no end until it returns. With rows_are_shown the caller prints each row on the
        same terminal, and the bar makes way for it. already is the number that was done before.
        """
        if not self._has_bar:
            yield lambda pictures: None
            return
        from tqdm import tqdm

        with tqdm(
            unit=f" {unit}", initial=already, dynamic_ncols=True, leave=False, file=sys.stderr
        ) as bar:
            if count is not None:

                def find_end() -> None:
                    bar.total = count()

                threading.Thread(target=find_end, daemon=True).start()

            def advance(pictures: int) -> None:
                bar.update(pictures)
                if rows_are_shown:
                    bar.clear()

            yield advance


def _has_colour() -> bool:
    return not os.environ.get("NO_COLOR")
