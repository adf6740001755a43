"""The exceptions of nasnet, each with a message for the user.

A NasnetError ends a command; an InputError concerns one input and becomes its error row.
"""

from __future__ import annotations

import errno
from typing import Literal, get_args

ErrorKind = Literal[
    "not_found",
    "unreadable",
    "not_an_image",
    "truncated",
    "too_large",
    "unsupported",
    "decode_failed",
    "archive",
    "network",
    "timeout",
    "crashed",
]
ERROR_KINDS: tuple[ErrorKind, ...] = get_args(ErrorKind)


class NasnetError(Exception):
    """The command cannot do its job.

    problem is a sentence that says what is wrong and names the file; remedy says what to do.
    """

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(problem, remedy)
        self.problem = problem
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.problem} {self.remedy}"

    @property
    def lines(self) -> tuple[str, ...]:
        """The lines to show it on."""
        return (str(self),)


class ModelError(NasnetError):
    """A model cannot be found, read or run."""


class OutputError(NasnetError):
    """A result cannot be written."""


class ExhaustedError(NasnetError):
    """The system has no memory, processes, threads or file handles left."""


class InputError(Exception):
    """One input has no result. kind is one of ERROR_KINDS, message a sentence or two.

    cause is for who looks into it: the name of what a decoder raised, or empty.
    """

    def __init__(self, kind: ErrorKind, message: str, cause: str = "") -> None:
        # All arguments, because unpickling calls the class with them.
        super().__init__(kind, message, cause)
        self.kind: ErrorKind = kind
        self.message = message
        self.cause = cause

    def __str__(self) -> str:
        return self.message


_EXHAUSTED = {
    "memory": ("Out of memory.", "Close other programs, or use fewer --workers."),
    "files": ("Too many files are open.", "Raise the limit (ulimit -n), or use fewer --workers."),
    "processes": (
        "The system has no more processes or threads for this user.",
        "Close other programs, raise the limit (ulimit -u), or use fewer --workers.",
    ),
}
_EXHAUSTED_NUMBERS = {
    errno.ENOMEM: "memory",
    errno.EMFILE: "files",
    errno.ENFILE: "files",
    errno.EAGAIN: "processes",
}
# In the messages of libraries in C++, whose errors have no numbers.
_EXHAUSTED_WORDS = {
    "bad_alloc": "memory",
    "bad allocation": "memory",
    "cannot allocate memory": "memory",
    "unable to allocate": "memory",
    "too many open files": "files",
    "resource temporarily unavailable": "processes",
    "can't start new thread": "processes",
}


def exhaustion(error: BaseException) -> ExhaustedError | None:
    """Return the error to raise where the system has run out of something; None for all others."""
    if isinstance(error, ExhaustedError):
        return error
    what = "memory" if isinstance(error, MemoryError) else None
    if isinstance(error, OSError):
        what = _EXHAUSTED_NUMBERS.get(error.errno or 0)
    elif what is None and not isinstance(error, (NasnetError, InputError)):
        text = str(error).lower()
        what = next((kind for words, kind in _EXHAUSTED_WORDS.items() if words in text), None)
    return None if what is None else ExhaustedError(*_EXHAUSTED[what])


def describe_error(error: BaseException, line: int = 0) -> str:
    """Return one line of an error's message, without its full stop, to quote in a message of ours.

    Other libraries' errors may run over many lines; line is the index of the one to take. An
    error without a message gives the name of its class.
    """
    if isinstance(error, NasnetError):
        return error.problem.rstrip(".")
    # str() of a KeyError puts its text in quotes.
    text = str(error.args[0] if isinstance(error, KeyError) and error.args else error)
    lines = [part.strip() for part in text.splitlines() if part.strip()]
    return lines[line].rstrip(".:") if lines else type(error).__name__
