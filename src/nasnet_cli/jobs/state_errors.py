"""Errors of the database that holds a job's state, in words."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from nasnet_cli.errors import NasnetError, OutputError
from nasnet_cli.results.atomic import in_words
from nasnet_cli.results.sqlite import error_code, system_error

START_OVER = "Start over: --overwrite instead of --resume."
# Our statements fit our tables: where they don't, the tables are others.
_BROKEN = {
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_NOTADB,
    sqlite3.SQLITE_ERROR,
    sqlite3.SQLITE_CONSTRAINT,
    sqlite3.SQLITE_MISMATCH,
}


class BrokenStateError(NasnetError):
    """A state is not what was written."""

    def __init__(self, output: str) -> None:
        super().__init__(f"The resume state of {output} is damaged.", START_OVER)


def is_broken(error: sqlite3.Error) -> bool:
    """Return whether the database's content is at fault."""
    return error_code(error) in _BROKEN


@contextmanager
def database_errors(output: str) -> Iterator[None]:
    """Turn errors of SQLite and of the system into errors about an output."""
    try:
        yield
    except sqlite3.Error as error:
        if error_code(error) == sqlite3.SQLITE_BUSY:
            raise OutputError(
                f"Another run is writing {output}.", "Wait for it, or write to another place."
            ) from error
        if is_broken(error):
            raise BrokenStateError(output) from error
        raise in_words(output, system_error(error)) from error
    except UnicodeDecodeError as error:  # in a message of SQLite that quotes damaged bytes
        raise BrokenStateError(output) from error
    except OSError as error:
        raise in_words(output, error) from error
