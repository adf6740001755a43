"""Who is told how it goes while a module is fetched or converted."""

from __future__ import annotations


class Listener:
    """Is told; this one doesn't listen. The command line has one that shows it."""

    def note(self, message: str) -> None:
        """Something that a person may want to know, as a sentence."""

    def progress(self, what: str, done: int, total: int | None) -> None:
        """Of what is fetched, done bytes are there; total is None where nobody knows."""


SILENT = Listener()
