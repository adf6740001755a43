"""Shows how a module is fetched, on standard error."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Any, Self

from nasnet_cli.cli.console import Console
from nasnet_cli.models.listener import ProgressListener


class ConsoleListener(ProgressListener):
    """Notes as they come; a bar with rate and time left on a terminal, one line when piped.

    A context manager: at its end the bar is taken off the terminal.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bar: Any = None
        self._said: set[str] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._close()

    def note(self, message: str) -> None:
        self._close()
        self._console.note(message)

    def progress(self, name: str, done: int, total: int | None) -> None:
        if self._console.quiet:
            return
        if not sys.stderr.isatty():
            if name not in self._said:
                size = f", {total / 1e6:,.1f} MB" if total else ""
                self._console.note(f"{name}: being fetched{size}.")
            self._said.add(name)
            return
        if self._bar is None:
            from tqdm import tqdm

            self._bar = tqdm(
                total=total,
                desc=name,
                unit="B",
                unit_scale=True,
                dynamic_ncols=True,
                leave=False,
                file=sys.stderr,
            )
        self._bar.update(done - self._bar.n)
        if done == total:
            self._close()

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None
