"""What a job has finished, kept beside its output until the output is whole.

The state of OUT is the SQLite database .OUT.resume in the same folder:

    job        what must be the same to go on: the version of the state, the work's identity
    rows       for each finished input its key, its path, its error or its results, a checksum
    sequence   which row stands at which position of the output, in the run that is under way

A key is a digest of what the row was made from: the input's name with its size and time, or with
its content. A run looks each input up by its key, so that it does what is new or has changed and
takes the rest as it is, in whatever order. Rows are committed once a second; SQLite sees to it
that a kill or a power cut loses no more. It also keeps a second run out.
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
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

from nasnet_cli.errors import ErrorKind, NasnetError
from nasnet_cli.images.source import Source
from nasnet_cli.jobs.spec import differences
from nasnet_cli.jobs.state_errors import ANEW, BrokenStateError, broken, is_broken, words
from nasnet_cli.results.records import Failure

Check = Literal["stat", "content"]

VERSION = 1
_COMMIT_SECONDS = 1.0
_AT_ONCE = 64  # rows
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


@dataclass(frozen=True, slots=True)
class Row:
    """A finished input. labels and vector are packed by outputs.encode; empty with an error, and where
    the job doesn't make them."""

    path: str
    error: Failure | None
    labels: bytes = b""
    vector: bytes = b""


def state_path(target: Path) -> Path:
    """Where the state of a job that writes target lies."""
    target = target.resolve()
    name = target.name
    if len(os.fsencode(name)) > 230:  # a name has 255 bytes, and SQLite's journal a longer one
        name = hashlib.sha256(os.fsencode(name)).hexdigest()
    return target.with_name(f".{name}.resume")


def source_key(source: Source, check: Check, max_bytes: int) -> bytes:
    """What tells whether an input is still what it was, 16 bytes.

    Its name with the size and time of its file (of its archive, for a member) or its store's
    version of it, or with its content up to max_bytes. What can't be looked at has its name alone,
    so that a row with an error isn't done anew.
    """
    digest = hashlib.blake2b(os.fsencode(source.path), digest_size=16)
    if source.failure is not None:
        digest.update(f"\0{source.failure.kind}".encode())
    elif check == "content":
        with suppress(Exception):  # whatever it is, its row will say
            digest.update(b"\0" + hashlib.sha256(source.read(max_bytes)).digest())
    elif source.version is not None:
        digest.update(f"\0{source.version}".encode())
    elif source.stat is not None:
        digest.update(f"\0{source.stat.size}\0{source.stat.mtime_ns}".encode())
    return digest.digest()


class State:
    """The state of one job, which open_state opens. As a context manager it leaves what is
    finished on disk. Its methods may be called from any thread and raise OutputError.

    begun_as is what a new state gives as its job's identity, asked for with the first rows: until
    then the model may still be opening. A new state has no rows to take."""

    def __init__(
        self,
        path: Path,
        database: sqlite3.Connection,
        shown: str,
        begun_as: Callable[[], Mapping[str, Any]] | None,
        last_id: int,
    ) -> None:
        self._path = path
        self._database = database
        self._shown = shown
        self._begun_as = begun_as
        self._is_new = begun_as is not None
        self._committed = time.monotonic()
        self._lock = threading.RLock()
        # Rows that the database has not got yet: each call of it passes Python's lock on twice,
        # which costs the decoding threads more than the call itself.
        self._added: list[tuple[int, bytes, Row]] = []
        self._last_id = last_id
        self._has_news = False
        self._closed = threading.Event()

    def __enter__(self) -> State:
        threading.Thread(target=self._commit_in_silence, name="commit", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(NasnetError):
            if self.exists and not self.is_empty:
                self.commit()
        with self._lock:
            self._closed.set()
            self._database.close()

    @property
    def is_empty(self) -> bool:
        """Whether nothing is finished."""
        with self._lock, words(self._shown):
            return not self._added and _last_id(self._database) == 0

    @property
    def exists(self) -> bool:
        """Whether it still lies where the next run looks for it."""
        return self._path.exists()

    def take(self, position: int, key: bytes) -> Row | None:
        """Puts the finished row of that key at that position of the output; None without one.

        A row is taken once: of two inputs with one key, members of an archive that share a name,
        each has its own.
        """
        if self._is_new:
            return None
        query = (
            f"SELECT {_COLUMNS} FROM rows WHERE key = ? AND NOT EXISTS "
            "(SELECT 1 FROM sequence WHERE row = rows.id) ORDER BY id"
        )
        with self._lock, words(self._shown):
            for record in self._database.execute(query, (key,)):
                row = _unpacked(record, key)
                if row is not None:
                    place = (position, record[0])
                    self._database.execute("INSERT INTO sequence VALUES (?, ?)", place)
                    return row
        return None

    def add(self, position: int, key: bytes, row: Row) -> None:
        """Adds a row at that position of the output; it is on disk within a second or two."""
        with self._lock:
            self._added.append((position, key, row))
            self._has_news = True
            if self._is_due():
                self.commit()
            elif len(self._added) >= _AT_ONCE:
                with words(self._shown):
                    self._store_added()

    def commit(self) -> None:
        """Sees to it that all rows are on disk."""
        with self._lock, words(self._shown):
            self._path.stat()  # SQLite goes on with a file that was removed
            self._store_added()
            if self._begun_as is not None:
                said = json.dumps(self._begun_as())
                self._database.execute("INSERT INTO job VALUES (?, ?)", (VERSION, said))
                self._begun_as = None
            self._database.commit()
            self._committed = time.monotonic()
            self._has_news = False

    def rows(self) -> Iterator[Row]:
        """The rows by their positions. Raises NasnetError for one that isn't what was added, and
        where one is missing between two."""
        query = (
            f"SELECT position, {_COLUMNS} FROM sequence LEFT JOIN rows ON rows.id = sequence.row "
            "ORDER BY position"
        )
        with self._lock, words(self._shown):
            self._store_added()
        with words(self._shown):
            for expected, (position, *record) in enumerate(self._database.execute(query)):
                row = _unpacked(record, record[1])
                if row is None or position != expected:
                    raise broken(self._shown)
                yield row

    def remove(self) -> None:
        """Removes the state: the job is done, or nothing of it is worth keeping."""
        with self._lock, suppress(sqlite3.Error):
            self._database.rollback()
        for path in (_journal(self._path), self._path):
            with suppress(OSError):
                path.unlink(missing_ok=True)

    def _is_due(self) -> bool:
        return time.monotonic() - self._committed > _COMMIT_SECONDS

    def _commit_in_silence(self) -> None:
        """Commits the rows that none has come after: who lists may have nothing for hours."""
        while not self._closed.wait(_COMMIT_SECONDS):
            # What goes wrong, the next row will meet, or the end.
            with self._lock, suppress(NasnetError):
                if self._has_news and self._is_due() and not self._closed.is_set():
                    self.commit()

    def _store_added(self) -> None:
        """Hands the database the rows that it has not got: all of them or, with an error, none."""
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
            with suppress(sqlite3.Error):  # released already, or undone with all else
                database.execute("ROLLBACK TO added")
                self._added, self._last_id = added, before
            raise


def open_state(
    target: Path,
    identity: Callable[[], Mapping[str, Any]],
    *,
    resume: bool,
    note: Callable[[str], None],
) -> State:
    """The state of a job that writes target, begun anew unless resume.

    identity gives what must be the same to go on. Raises OutputError when the state can't be kept,
    and NasnetError when another run is writing target, when it is of another job (with the
    difference in words), or broken.
    """
    shown, path = str(target), state_path(target)
    with words(shown):
        is_new = not path.exists() or path.stat().st_size == 0
        if not (is_new or resume):
            _discard(path, shown)
            note(
                f"An unfinished run of {shown} is begun anew; --resume would have gone on with it."
            )
        database = _connect(path, shown)
        try:
            begins = is_new or not resume or _is_blank(database)
            if begins:
                # Committed with the first rows, so that a state is whole or blank.
                database.executescript(f"BEGIN; {_TABLES}")
            else:
                _compare(database, identity(), shown)
                database.execute("DELETE FROM sequence")
                database.commit()
            last_id = _last_id(database)
        except BaseException:
            database.close()
            raise
    return State(path, database, shown, identity if begins else None, last_id)


def _connect(path: Path, shown: str) -> sqlite3.Connection:
    """The database at path, made if need be, which no other process can open from here on."""
    while True:
        # Of the user alone: it may hold what an output of theirs keeps from others.
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
                raise broken(shown) from error
            raise
        database.close()  # another run has removed it, having finished just now


def _discard(path: Path, shown: str) -> None:
    """Removes a state that no other run is using."""
    with suppress(BrokenStateError):  # what is broken, no one can be using
        _connect(path, shown).close()
    _journal(path).unlink(missing_ok=True)
    path.unlink(missing_ok=True)


def _last_id(database: sqlite3.Connection) -> int:
    """The largest row id in it; 0 where there is no row."""
    return int(database.execute("SELECT ifnull(max(id), 0) FROM rows").fetchone()[0])


def _is_blank(database: sqlite3.Connection) -> bool:
    """Whether nothing has been committed: a run was killed when it had just begun."""
    return database.execute("SELECT 1 FROM sqlite_master").fetchone() is None


def _compare(database: sqlite3.Connection, identity: Mapping[str, Any], shown: str) -> None:
    try:
        version, text = database.execute("SELECT version, identity FROM job").fetchone()
        old = dict(json.loads(text))
    except (sqlite3.Error, ValueError, TypeError) as error:
        raise broken(shown) from error
    if version != VERSION:
        raise NasnetError(f"The state of {shown} is of another version of nasnet.", ANEW)
    check_same_settings(old, identity, shown)


def check_same_settings(old: Mapping[str, Any], new: Mapping[str, Any], shown: str) -> None:
    """Raises NasnetError, naming the differences, unless two identities are the same."""
    found = list(differences(old, new))
    if found:
        raise NasnetError(
            f"{shown} was begun differently: {'; '.join(found[:3])}.",
            "Run it as it was begun, or without --resume (and with --overwrite if it is done).",
        )


def _packed(key: bytes, row: Row) -> tuple[bytes | str | int | None, ...]:
    path = row.path.encode("utf-8", "surrogatepass")
    kind = row.error.kind if row.error else None
    message = row.error.message.encode("utf-8", "surrogatepass") if row.error else None
    values = (key, path, kind, message, row.labels, row.vector)
    return (*values, _checksum(*values))


def _unpacked(record: Sequence[Any], key: bytes) -> Row | None:
    """The row of a record; None if that isn't what was stored under the key."""
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
    found = 0
    for part in (key, path, (kind or "").encode(), message or b"", labels, vector):
        found = zlib.crc32(part, zlib.crc32(len(part).to_bytes(8, "little"), found))
    return found


def _journal(path: Path) -> Path:
    return path.with_name(path.name + "-journal")
