"""Reports of progress while a model is fetched or converted."""

from __future__ import annotations


class ProgressListener:
    """A receiver of notes and progress, which ignores them; the command line shows them."""

    def note(self, message: str) -> None:
        """Receive a message for the user, as a sentence."""

    def progress(self, name: str, done: int, total: int | None) -> None:
        """Receive the progress of the download called name, in bytes.

        total is None when the server doesn't say how large the file is.
        """


SILENT = ProgressListener()
