"""Standard streams that are closed, or cannot be written."""

from __future__ import annotations

import errno
import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nasnet_cli.errors import NasnetError

_STREAMS = (("stdin", "r", os.O_RDONLY), ("stdout", "w", os.O_RDONLY), ("stderr", "w", os.O_RDWR))
_WRITING_ERRORS = (errno.EBADF, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


def restore() -> None:
    """Open what is closed of the standard streams, before another file gets its descriptor.

    Input is empty, and notes go nowhere. Output is open for reading only: what is written to it is
    an error, as it would be for other programs.

    Python's standard error gets a descriptor of its own: what libraries write to descriptor 2 while
    they load in a thread is discarded (quiet.py), and what is said meanwhile must not be.
    """
    for number, (name, mode, flags) in enumerate(_STREAMS):
        try:
            os.fstat(number)
        except OSError:
            descriptor = os.open(os.devnull, flags)
            if descriptor != number:
                os.dup2(descriptor, number)
                os.close(descriptor)
            os.set_inheritable(number, True)
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115
    if sys.stderr.fileno() == 2:
        encoding, errors = sys.stderr.encoding, sys.stderr.errors
        sys.stderr = os.fdopen(os.dup(2), "w", buffering=1, encoding=encoding, errors=errors)


def output_failure(error: OSError) -> NasnetError | None:
    """Return the error in words if it is one of writing to standard output, else None.

    Errors of other files have their names, or are in words already.
    """
    if error.filename is not None or error.errno not in _WRITING_ERRORS:
        return None
    from nasnet_cli.errors import OutputError
    from nasnet_cli.results.atomic import in_words

    if error.errno == errno.EBADF:
        closed = "Standard output is closed, and there is something to write to it."
        return OutputError(closed, "Redirect it to a file.")
    return in_words("standard output", error)


def working_folder_exists() -> bool:
    """Return whether the folder that the process is in is still there."""
    with suppress(OSError):
        return bool(os.getcwd())  # noqa: PTH109 - the question is whether this works
    return False
