"""What can go wrong, in words for people.

A NasnetError ends a command; an InputError is about one input and becomes that input's row.
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
    "timeout",
    "crashed",
]
ERROR_KINDS: tuple[ErrorKind, ...] = get_args(ErrorKind)


class NasnetError(Exception):
    """The job could not be done.

    problem is a sentence that says what is wrong, with the name of the file; remedy one that
    says what to do.
    """

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(problem, remedy)
        self.problem = problem
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.problem} {self.remedy}"


class ModelError(NasnetError):
    """A model could not be found, read or run."""


class OutputError(NasnetError):
    """A result could not be written."""


class InputError(Exception):
    """One input has no result; kind is one of ERROR_KINDS, message a sentence or two."""

    def __init__(self, kind: ErrorKind, message: str) -> None:
        # Both, so that it can be pickled: an exception is made anew from its arguments.
        super().__init__(kind, message)
        self.kind: ErrorKind = kind
        self.message = message

    def __str__(self) -> str:
        return self.message


def in_words(error: BaseException, line: int = 0) -> str:
    """What an error says in one line, without its full stop, for a sentence of ours.

    Errors of other libraries may go on for many lines, of which the first is taken, or another as
    a list counts them; the error's class, when it says nothing.
    """
    if isinstance(error, NasnetError):
        return error.problem.rstrip(".")
    # A KeyError puts its text in quotes.
    text = str(error.args[0] if isinstance(error, KeyError) and error.args else error)
    lines = [part.strip() for part in text.splitlines() if part.strip()]
    return lines[line].rstrip(".:") if lines else type(error).__name__
