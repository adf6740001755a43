"""Errors of the database that holds a job's state, in words."""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from nasnet_cli.errors import NasnetError, OutputError
from nasnet_cli.results.atomic import in_words

START_OVER = "Start over: --overwrite instead of --resume."
# Our statements fit our tables: where they don't, the tables are others.
_BROKEN = {
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_NOTADB,
    sqlite3.SQLITE_ERROR,
    sqlite3.SQLITE_CONSTRAINT,
    sqlite3.SQLITE_MISMATCH,
}
_ERRNO = {
    sqlite3.SQLITE_FULL: errno.ENOSPC,
    sqlite3.SQLITE_CANTOPEN: errno.EACCES,
    sqlite3.SQLITE_READONLY: errno.EACCES,
    sqlite3.SQLITE_PERM: errno.EACCES,
}


class BrokenStateError(NasnetError):
    """A state is not what was written."""

    def __init__(self, output: str) -> None:
        super().__init__(f"The resume state of {output} is damaged.", START_OVER)


def is_broken(error: sqlite3.Error) -> bool:
    """Return whether the database's content is at fault."""
    return _code(error) in _BROKEN


def _code(error: sqlite3.Error) -> int:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF  # without the extended part


@contextmanager
def database_errors(output: str) -> Iterator[None]:
    """Turn errors of SQLite and of the system into errors about an output."""
    try:
        yield
    except sqlite3.Error as error:
        code = _code(error)
        if code == sqlite3.SQLITE_BUSY:
            raise OutputError(
                f"Another run is writing {output}.", "Wait for it, or write to another place."
            ) from error
        if is_broken(error):
            raise BrokenStateError(output) from error
        number = _ERRNO.get(code, errno.EIO)
        raise in_words(output, OSError(number, os.strerror(number))) from error
    except UnicodeDecodeError as error:  # in a message of SQLite that quotes damaged bytes
        raise BrokenStateError(output) from error
    except OSError as error:
        raise in_words(output, error) from error
