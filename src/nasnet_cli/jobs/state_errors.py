"""What goes wrong with the database of a job's state, in words."""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from nasnet_cli.errors import NasnetError, OutputError
from nasnet_cli.results.atomic import in_words

ANEW = "Run without --resume to begin anew."
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
    """The state isn't what was written."""


def broken(shown: str) -> BrokenStateError:
    """The error to raise when the state of the output shown isn't what was written."""
    return BrokenStateError(f"The state of {shown} is damaged: it isn't what was written.", ANEW)


def is_broken(error: sqlite3.Error) -> bool:
    """Whether it is the database's content that is at fault."""
    return _code(error) in _BROKEN


def _code(error: sqlite3.Error) -> int:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF  # the rest tells more than is needed


@contextmanager
def words(shown: str) -> Iterator[None]:
    """Puts the errors of SQLite and of the system in a block into words about the output."""
    try:
        yield
    except sqlite3.Error as error:
        code = _code(error)
        if code == sqlite3.SQLITE_BUSY:
            raise OutputError(
                f"Another run is writing {shown}.", "Wait for it, or write to another place."
            ) from error
        if is_broken(error):
            raise broken(shown) from error
        number = _ERRNO.get(code, errno.EIO)
        raise in_words(shown, OSError(number, os.strerror(number))) from error
    except UnicodeDecodeError as error:  # of a message of SQLite's that quotes damaged bytes
        raise broken(shown) from error
    except OSError as error:
        raise in_words(shown, error) from error
