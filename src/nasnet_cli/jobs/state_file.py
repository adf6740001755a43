"""The database of a resume state on disk: opened by one process, and only where it is one of ours.

Who can write to the output's folder can put anything under its name: a link, a pipe, a database
with views and triggers that act when we write. None of these is opened or used.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
import stat
from contextlib import closing, suppress
from pathlib import Path

from nasnet_cli.errors import OutputError
from nasnet_cli.jobs.state_errors import BrokenStateError, is_broken
from nasnet_cli.results.text import counted
from nasnet_cli.systems import open_flags

_MAX_ROWS = 1 << 48

TABLES = """
    CREATE TABLE job (version INTEGER, identity TEXT);
    CREATE TABLE files (sha256 TEXT);
    CREATE TABLE rows (
        id INTEGER PRIMARY KEY, key BLOB, path BLOB, kind TEXT, message BLOB,
        labels BLOB, vector BLOB, checksum INTEGER
    );
    CREATE INDEX rows_by_key ON rows (key);
    CREATE INDEX rows_by_path ON rows (path);
    CREATE TABLE sequence (position INTEGER PRIMARY KEY, row INTEGER UNIQUE);
"""
_SCHEMA = "SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY name"


def state_path(target: Path) -> Path:
    """Return where the state of a job that writes target lies."""
    target = target.resolve()
    name = target.name
    if len(os.fsencode(name)) > 230:  # a name has 255 bytes, and SQLite's journal a longer one
        name = hashlib.sha256(os.fsencode(name)).hexdigest()
    return target.with_name(f".{name}.resume")


def connect(path: Path, output: str) -> sqlite3.Connection:
    """Open the database at path, created if need be; no other process can open it from here on.

    Raises BrokenStateError where it is not a database, OSError and sqlite3.Error.
    """
    while True:
        before = _identity(path, output)
        database = sqlite3.connect(path, timeout=0, check_same_thread=False)
        try:
            database.execute("PRAGMA trusted_schema = OFF")
            database.execute("CREATE TEMP TABLE outdated (row INTEGER PRIMARY KEY)")
            database.execute("PRAGMA locking_mode = EXCLUSIVE")
            database.execute("BEGIN EXCLUSIVE")
            database.commit()
            with suppress(FileNotFoundError):
                if _identity_of(path.lstat()) == before:
                    return database
        except BaseException as error:
            database.close()
            if isinstance(error, sqlite3.DatabaseError) and is_broken(error):
                raise BrokenStateError(output) from error
            raise
        database.close()  # another run has removed it, having finished just now


def _identity(path: Path, output: str) -> tuple[int, int]:
    """Return what tells the regular file at path from others; it is created if need be."""
    for file in (path, _journal(path)):
        with suppress(FileNotFoundError):
            if not stat.S_ISREG(file.lstat().st_mode):
                raise BrokenStateError(output)
    # Only for the user: it may hold what their output keeps from others.
    flags = os.O_RDWR | os.O_CREAT | open_flags("O_CLOEXEC", "O_NOFOLLOW", "O_NONBLOCK")
    descriptor = os.open(path, flags, 0o600)
    try:
        return _identity_of(os.fstat(descriptor))
    finally:
        os.close(descriptor)


def _identity_of(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def is_blank(database: sqlite3.Connection, output: str) -> bool:
    """Return whether nothing has been committed: a run was killed right after its start.

    Raises BrokenStateError where the database has anything but our tables, or ids of rows that no
    run reaches.
    """
    found = database.execute(_SCHEMA).fetchall()
    if not found:
        return True
    with closing(sqlite3.connect(":memory:")) as ours:
        ours.executescript(TABLES)
        if found != ours.execute(_SCHEMA).fetchall():
            raise BrokenStateError(output)
    if last_id(database) > _MAX_ROWS:
        raise BrokenStateError(output)
    return False


def unfinished(database: sqlite3.Connection, output: str) -> OutputError:
    """Return the error of a run that neither resumes nor overwrites a state."""
    rows = last_id(database)
    return OutputError(
        f"An unfinished run of {output} has {counted(rows, 'finished row')}.",
        "Continue it with --resume, or start over with --overwrite.",
    )


def last_id(database: sqlite3.Connection) -> int:
    """Return the largest row id; 0 without rows."""
    return int(database.execute("SELECT ifnull(max(id), 0) FROM rows").fetchone()[0])


def remove(path: Path) -> None:
    """Remove a database and its journal. Raises OSError."""
    for file in (_journal(path), path):
        file.unlink(missing_ok=True)


def discard(path: Path, output: str) -> bool:
    """Remove a state that no other run is using, and return whether there was one.

    Raises OSError and sqlite3.Error.
    """
    sizes = [file.lstat().st_size for file in (path, _journal(path)) if os.path.lexists(file)]
    if sizes:
        with suppress(BrokenStateError):  # which nobody can be using
            connect(path, output).close()
        remove(path)
    return any(sizes)


def _journal(path: Path) -> Path:
    return path.with_name(path.name + "-journal")
