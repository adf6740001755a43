"""The exceptions of nasnet, each with a message for the user.

A NasnetError ends a command; an InputError concerns one input and becomes its error row.
"""

from __future__ import annotations

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


class InputError(Exception):
    """One input has no result. kind is one of ERROR_KINDS, message a sentence or two."""

    def __init__(self, kind: ErrorKind, message: str) -> None:
        # Both arguments, because unpickling calls the class with them.
        super().__init__(kind, message)
        self.kind: ErrorKind = kind
        self.message = message

    def __str__(self) -> str:
        return self.message


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
