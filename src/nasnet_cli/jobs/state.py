"""The resume state of a job: its finished rows, kept beside its output until that is whole.

The state of OUT is the SQLite database .OUT.resume in the same folder:

    job        what must be the same to resume: the version of the state, the job's identity
    rows       for each finished input its key, path, error or results, and a checksum
    sequence   the row at each position of the output, in the current run

A key is a digest of what the row was made from: the input's name with its size and modification
time, or with its content. A run looks each input up by its key, processes what is new or has
changed and takes the rest as it is, in whatever order. Rows are committed once a second; SQLite
guarantees that a kill or a power cut loses no more, and keeps a second run out.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal, cast

from nasnet_cli.errors import ErrorKind, NasnetError
from nasnet_cli.images.source import Source
from nasnet_cli.interruption import at_interruption
from nasnet_cli.jobs.rows import Row
from nasnet_cli.jobs.spec import check_same_settings
from nasnet_cli.jobs.state_errors import (
    START_OVER,
    BrokenStateError,
    database_errors,
    is_broken,
)
from nasnet_cli.results.records import Failure

Check = Literal["stat", "content"]

VERSION = 2
_COMMIT_SECONDS = 1.0
_AT_ONCE = 64  # rows per call of SQLite
_TABLES = """
    CREATE TABLE job (version INTEGER, identity TEXT);
    CREATE TABLE rows (
        id INTEGER PRIMARY KEY, key BLOB, path BLOB, kind TEXT, message BLOB,
        labels BLOB, vector BLOB, checksum INTEGER
    );
    CREATE INDEX rows_by_key ON rows (key);
    CREATE TABLE sequence (position INTEGER PRIMARY KEY, row INTEGER UNIQUE);
"""
_COLUMNS = "id, key, path, kind, message, labels, vector, checksum"


def state_path(target: Path) -> Path:
    """Return where the state of a job that writes target lies."""
    target = target.resolve()
    name = target.name
    if len(os.fsencode(name)) > 230:  # a name has 255 bytes, and SQLite's journal a longer one
        name = hashlib.sha256(os.fsencode(name)).hexdigest()
    return target.with_name(f".{name}.resume")


def source_key(source: Source, check: Check, max_bytes: int) -> bytes:
    """Return 16 bytes that change when an input changes.

    A digest of its name with the size and time of its file (of its archive, for a member), its
    store's version of it, or its content up to max_bytes. An input that cannot be looked at has its
    name alone, so that a row with an error is not processed again.
    """
    digest = hashlib.blake2b(os.fsencode(source.path), digest_size=16)
    if source.failure is not None:
        digest.update(f"\0{source.failure.kind}".encode())
    elif check == "content":
        with suppress(Exception):  # its row will say
            digest.update(b"\0" + hashlib.sha256(source.read(max_bytes)).digest())
    elif source.version is not None:
        digest.update(f"\0{source.version}".encode())
    elif source.stat is not None:
        digest.update(f"\0{source.stat.size}\0{source.stat.mtime_ns}".encode())
    return digest.digest()


class State:
    """The state of one job, which open_state opens and closes. Its methods may be called from any thread and raise OutputError.

    new_identity returns the job's identity for a new state, and is called with the first rows:
    until then the model may still be opening. It is None for a state that is resumed.
    """

    def __init__(
        self,
        path: Path,
        database: sqlite3.Connection,
        output: str,
        new_identity: Callable[[], Mapping[str, Any]] | None,
        last_id: int,
    ) -> None:
        self._path = path
        self._database = database
        self._output = output
        self._new_identity = new_identity
        self._is_new = new_identity is not None
        self._committed = time.monotonic()
        self._lock = threading.RLock()
        # Rows that the database does not have yet: each call of it passes the interpreter lock on
        # twice, which costs the decoding threads more than the call itself.
        self._added: list[tuple[int, bytes, Row]] = []
        self._last_id = last_id
        self._has_uncommitted = False
        self._closed = threading.Event()
        threading.Thread(target=self._commit_periodically, name="commit", daemon=True).start()

    def close(self) -> None:
        """Leave the finished rows on disk."""
        with suppress(NasnetError):
            if self.exists and not self.is_empty:
                self.commit()
        with self._lock:
            self._closed.set()
            self._database.close()

    @property
    def is_empty(self) -> bool:
        """True if there is no finished row."""
        with self._lock, database_errors(self._output):
            return not self._added and _last_id(self._database) == 0

    @property
    def exists(self) -> bool:
        """True if the state is still where the next run looks for it."""
        return self._path.exists()

    def take(self, position: int, key: bytes) -> Row | None:
        """Return the finished row of a key and put it at a position of the output, or None.

        A row is taken once: two inputs with one key, members of an archive that share a name, each
        have their own.
        """
        if self._is_new:
            return None
        query = (
            f"SELECT {_COLUMNS} FROM rows WHERE key = ? AND NOT EXISTS "
            "(SELECT 1 FROM sequence WHERE row = rows.id) ORDER BY id"
        )
        with self._lock, database_errors(self._output):
            for record in self._database.execute(query, (key,)):
                row = _unpacked(record, key)
                if row is not None:
                    place = (position, record[0])
                    self._database.execute("INSERT INTO sequence VALUES (?, ?)", place)
                    return row
        return None

    def add(self, position: int, key: bytes, row: Row) -> None:
        """Add a row at a position of the output. It is on disk within a second or two."""
        with self._lock:
            self._added.append((position, key, row))
            self._has_uncommitted = True
            if self._is_due():
                self.commit()
            elif len(self._added) >= _AT_ONCE:
                with database_errors(self._output):
                    self._store_added()

    def commit(self) -> None:
        """Write all rows to disk."""
        with self._lock, database_errors(self._output):
            self._path.stat()  # SQLite itself goes on with a file that was removed
            self._store_added()
            if self._new_identity is not None:
                identity = json.dumps(self._new_identity())
                self._database.execute("INSERT INTO job VALUES (?, ?)", (VERSION, identity))
                self._new_identity = None
            self._database.commit()
            self._committed = time.monotonic()
            self._has_uncommitted = False

    def rows(self) -> Iterator[Row]:
        """Yield the rows by position. Raises NasnetError if one is damaged or missing."""
        query = (
            f"SELECT position, {_COLUMNS} FROM sequence LEFT JOIN rows ON rows.id = sequence.row "
            "ORDER BY position"
        )
        with self._lock, database_errors(self._output):
            self._store_added()
        with database_errors(self._output):
            for expected, (position, *record) in enumerate(self._database.execute(query)):
                row = _unpacked(record, record[1])
                if row is None or position != expected:
                    raise BrokenStateError(self._output)
                yield row

    def remove(self) -> None:
        """Remove the state: the job is done, or there is no row to keep."""
        with self._lock, suppress(sqlite3.Error):
            self._database.rollback()
        for path in (_journal(self._path), self._path):
            with suppress(OSError):
                path.unlink(missing_ok=True)

    def _is_due(self) -> bool:
        return time.monotonic() - self._committed > _COMMIT_SECONDS

    def _commit_periodically(self) -> None:
        """Commit rows that no other row follows: the next input may come hours later."""
        while not self._closed.wait(_COMMIT_SECONDS):
            # An error comes up again with the next row, or at the end.
            with self._lock, suppress(NasnetError):
                if self._has_uncommitted and self._is_due() and not self._closed.is_set():
                    self.commit()

    def _store_added(self) -> None:
        """Give the database the rows that it does not have: all of them or, on an error, none."""
        if not self._added:
            return
        added, before = self._added, self._last_id
        numbered = list(enumerate(added, before + 1))
        rows = [(number, *_packed(key, row)) for number, (_, key, row) in numbered]
        places = [(position, number) for number, (position, _, _) in numbered]
        database = self._database
        if not database.in_transaction:
            database.execute("BEGIN")
        database.execute("SAVEPOINT added")
        try:
            database.executemany("INSERT INTO rows VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)
            database.executemany("INSERT INTO sequence VALUES (?, ?)", places)
            self._added, self._last_id = [], before + len(added)
            database.execute("RELEASE added")
        except BaseException:
            with suppress(sqlite3.Error):  # released already, or rolled back with all else
                database.execute("ROLLBACK TO added")
                self._added, self._last_id = added, before
            raise


@contextmanager
def open_state(
    target: Path,
    identity: Callable[[], Mapping[str, Any]],
    *,
    resume: bool,
    note: Callable[[str], None],
) -> Iterator[State]:
    """Open the state of a job that writes target; without resume, it starts over.

    identity returns what must be the same to resume. Raises OutputError when the state cannot be
    written, and NasnetError when another run is writing target, when the state is another job's
    (with the difference in words), or damaged.
    """
    output, path = str(target), state_path(target)
    state, database = None, None
    # A generator, so that a signal at any moment, even between opening and the block, closes it.
    try:
        with database_errors(output):
            is_new = not path.exists() or path.stat().st_size == 0
            if not (is_new or resume):
                _discard(path, output)
                note(f"An unfinished run of {output} starts over. Use --resume to continue one.")
            database = _connect(path, output)
            starts = is_new or not resume or _is_blank(database)
            if starts:
                # Committed with the first rows, so that a state is whole or blank.
                database.executescript(f"BEGIN; {_TABLES}")
            else:
                _check_same_job(database, identity(), output)
                database.execute("DELETE FROM sequence")
                database.commit()
            last_id = _last_id(database)
        state = State(path, database, output, identity if starts else None, last_id)
        at_interruption(state.close)
        yield state
    finally:
        if state is not None:
            state.close()
        elif database is not None:
            database.close()


def _connect(path: Path, output: str) -> sqlite3.Connection:
    """Open the database at path, created if need be; no other process can open it from here on."""
    while True:
        # Only for the user: it may hold what their output keeps from others.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        before = path.stat().st_ino
        database = sqlite3.connect(path, timeout=0, check_same_thread=False)
        try:
            database.execute("PRAGMA locking_mode = EXCLUSIVE")
            database.execute("BEGIN EXCLUSIVE")
            database.commit()
            if path.exists() and path.stat().st_ino == before:
                return database
        except BaseException as error:
            database.close()
            if isinstance(error, sqlite3.DatabaseError) and is_broken(error):
                raise BrokenStateError(output) from error
            raise
        database.close()  # another run has removed it, having finished just now


def _discard(path: Path, output: str) -> None:
    """Remove a state that no other run is using."""
    with suppress(BrokenStateError):  # which nobody can be using
        _connect(path, output).close()
    _journal(path).unlink(missing_ok=True)
    path.unlink(missing_ok=True)


def _last_id(database: sqlite3.Connection) -> int:
    """Return the largest row id; 0 without rows."""
    return int(database.execute("SELECT ifnull(max(id), 0) FROM rows").fetchone()[0])


def _is_blank(database: sqlite3.Connection) -> bool:
    """Return whether nothing has been committed: a run was killed right after its start."""
    return database.execute("SELECT 1 FROM sqlite_master").fetchone() is None


def _check_same_job(database: sqlite3.Connection, identity: Mapping[str, Any], output: str) -> None:
    try:
        version, text = database.execute("SELECT version, identity FROM job").fetchone()
        old = dict(json.loads(text))
    except (sqlite3.Error, ValueError, TypeError) as error:
        raise BrokenStateError(output) from error
    if version != VERSION:
        raise NasnetError(
            f"The resume state of {output} was written by another version of nasnet.", START_OVER
        )
    check_same_settings(old, identity, output)


def _packed(key: bytes, row: Row) -> tuple[bytes | str | int | None, ...]:
    path = row.path.encode("utf-8", "surrogatepass")
    kind = row.error.kind if row.error else None
    message = row.error.message.encode("utf-8", "surrogatepass") if row.error else None
    values = (key, path, kind, message, row.labels, row.vector)
    return (*values, _checksum(*values))


def _unpacked(record: Sequence[Any], key: bytes) -> Row | None:
    """Return the row of a record; None if it is not what was stored under the key."""
    _, _, path, kind, message, labels, vector, checksum = record
    try:
        if checksum != _checksum(key, path, kind, message, labels, vector):
            return None
    except (TypeError, AttributeError):  # a value of another type
        return None
    if (kind is None) != (message is None) or kind == "":  # for the checksum, None is as empty
        return None
    error = None
    if kind is not None:
        error = Failure(cast(ErrorKind, kind), message.decode("utf-8", "surrogatepass"))
    return Row(path.decode("utf-8", "surrogatepass"), error, labels, vector)


def _checksum(
    key: bytes, path: bytes, kind: str | None, message: bytes | None, labels: bytes, vector: bytes
) -> int:
    checksum = 0
    for part in (key, path, (kind or "").encode(), message or b"", labels, vector):
        checksum = zlib.crc32(part, zlib.crc32(len(part).to_bytes(8, "little"), checksum))
    return checksum


def _journal(path: Path) -> Path:
    return path.with_name(path.name + "-journal")
