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
        super().__init__(f"{problem} {remedy}")
        self.problem = problem
        self.remedy = remedy


class ModelError(NasnetError):
    """A model could not be found, read or run."""


class OutputError(NasnetError):
    """A result could not be written."""


class InputError(Exception):
    """One input has no result; kind is one of ERROR_KINDS."""

    def __init__(self, kind: ErrorKind, message: str) -> None:
        super().__init__(message)
        self.kind: ErrorKind = kind
        self.message = message
