"""The resume state of a job: its finished rows, kept beside its output until that is whole.

The state of OUT is the SQLite database .OUT.resume in the same folder:

    job        what must be the same to resume: the version of the state, the job's identity
    files      the SHA-256 of each file that the run may replace: older outputs, and its own
    rows       for each finished input its key, path, error or results, and a checksum
    sequence   the row at each position of the output, in the current run

A key is a digest of what the row was made from (inputs.py). A run looks each input up by its key,
processes what is new or has changed and takes the rest as it is, in whatever order. It takes over
the rows of a finished output at the first difference (State.adopt). Rows are committed once a
second; SQLite guarantees that a kill loses no more, and keeps a second run out.
"""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from nasnet_cli.errors import NasnetError
from nasnet_cli.interruption import at_interruption
from nasnet_cli.jobs import state_file
from nasnet_cli.jobs.identity import Identity, check_same_settings, with_earlier_versions
from nasnet_cli.jobs.rows import Row
from nasnet_cli.jobs.state_errors import START_OVER, BrokenStateError, database_errors
from nasnet_cli.jobs.state_rows import COLUMNS, INSERT, pack, path_bytes, unpack
from nasnet_cli.kept_files import check_fields, parse_object

VERSION = 5
"""Of the tables, and of the pixels that decoding gives."""
_COMMIT_SECONDS = 1.0
_AT_ONCE = 64  # rows per call of SQLite
_IS_UNTAKEN = "NOT EXISTS (SELECT 1 FROM sequence WHERE row = rows.id)"


class State:
    """The state of one job, which open_state opens and closes. Methods raise OutputError.

    Any thread may call them. found is the identity of a state that is resumed, None for a new one.
    new_identity is called with the first rows: until then the model may still be opening.
    """

    def __init__(
        self,
        path: Path,
        database: sqlite3.Connection,
        output: str,
        found: Identity | None,
        new_identity: Callable[[], Identity],
        newest: int,
    ) -> None:
        self._path, self._database, self._output = path, database, output
        self._identity, self._new_identity = found, new_identity
        self.is_new = found is None
        """True without rows of an earlier run."""
        self._committed = time.monotonic()
        self._lock = threading.RLock()
        # Rows that the database does not have yet: each call of it passes the interpreter lock on
        # twice, which costs the decoding threads more than the call itself.
        self._added: list[tuple[int, bytes, Row]] = []
        self._last_id = newest
        self._old_id = newest  # the last row of earlier runs
        self._adopted = 0
        self._has_uncommitted = False
        self._failure: NasnetError | None = None  # of a commit in the thread
        self._closed = threading.Event()
        self._forget = at_interruption(self.close)
        threading.Thread(target=self._commit_periodically, name="commit", daemon=True).start()

    def close(self) -> None:
        """Leave the finished rows on disk."""
        with suppress(NasnetError):
            if self.exists and not self.is_empty:
                self.commit()
        with self._lock:
            self._closed.set()
            self._database.close()
        self._forget()

    @property
    def is_empty(self) -> bool:
        """True if there is no finished row."""
        with self._lock, database_errors(self._output):
            return not self._added and state_file.last_id(self._database) == 0

    @property
    def is_as_adopted(self) -> bool:
        """True if the run has given the rows of a finished output, all in their places, and no other."""
        query = "SELECT count(*), ifnull(min(row = position + 1), 0) FROM sequence"
        with self._lock, database_errors(self._output):
            found = self._database.execute(query).fetchone()
            return self._holds_adopted_only and found == (self._adopted, 1)

    def changes(self) -> tuple[int, int]:
        """Return how many rows the run has added to those of earlier runs, and how many it leaves out."""
        query = f"SELECT count(*) FROM rows WHERE id <= ? AND {_IS_UNTAKEN}"
        with self._lock, database_errors(self._output):
            self._store_added()
            (gone,) = self._database.execute(query, (self._old_id,)).fetchone()
        return self._last_id - self._old_id, gone

    @property
    def is_worth_keeping(self) -> bool:
        """True if there is a finished row that is not in a finished output as well."""
        return not (self._holds_adopted_only or self.is_empty)

    @property
    def _holds_adopted_only(self) -> bool:
        return self._adopted > 0 and not self._added and self._last_id == self._adopted

    @property
    def identity(self) -> Identity:
        """The identity of the job, with the earlier versions that have made some of the rows."""
        with self._lock:
            if self._identity is None:
                self._identity = self._new_identity()
            return self._identity

    @property
    def exists(self) -> bool:
        """True if the state is still where the next run looks for it."""
        return self._path.exists()

    def replaceable(self) -> set[str]:
        """Return the SHA-256 of each file that may be replaced by the output."""
        with self._lock, database_errors(self._output):
            return {digest for (digest,) in self._database.execute("SELECT sha256 FROM files")}

    def allow(self, digests: Iterable[str]) -> None:
        """Allow files with these SHA-256 to be replaced. On disk with the next commit."""
        with self._lock, database_errors(self._output):
            self._database.executemany("INSERT INTO files VALUES (?)", [(d,) for d in digests])

    def allow_now(self, digests: Iterable[str]) -> None:
        """Allow files with these SHA-256 to be replaced, on disk when this returns."""
        self.allow(digests)
        self.commit()

    def adopt(self, rows: Iterable[tuple[bytes, Row]], identity: Identity, same: int) -> None:
        """Begin a new state with the rows of a finished output, the first same in their places."""
        with self._lock, database_errors(self._output):
            numbered = enumerate(rows, 1)
            packed = ((number, *pack(key, row)) for number, (key, row) in numbered)
            self._database.executemany(INSERT, packed)
            places = f"SELECT id - 1, id FROM rows WHERE id <= {same}"
            self._database.execute(f"INSERT INTO sequence {places}")
            self._identity, self.is_new = identity, False
            self._last_id = self._old_id = self._adopted = state_file.last_id(self._database)
            self._insert_job()
            self._database.commit()

    def _insert_job(self) -> None:
        job = (VERSION, json.dumps(self.identity))
        self._database.execute(
            "INSERT INTO job SELECT ?, ? WHERE NOT EXISTS (SELECT 1 FROM job)", job
        )

    def take(self, position: int, key: bytes, path: str) -> Row | None:
        """Return the finished row of a key and put it at a position of the output, or None.

        A row is taken once: two inputs with one key, members of an archive that share a name, each
        have their own. Without one, take_below leaves out those of the path: it has changed.
        """
        if self.is_new:
            return None
        query = f"SELECT {COLUMNS} FROM rows WHERE key = ? AND {_IS_UNTAKEN} ORDER BY id"
        with self._lock, database_errors(self._output):
            for record in self._database.execute(query, (key,)):
                row = unpack(record, key)
                if row is not None:
                    place = (position, record[0])
                    self._database.execute("INSERT INTO sequence VALUES (?, ?)", place)
                    return row
            old = f"SELECT id FROM rows WHERE path = ? AND id <= {self._old_id} AND {_IS_UNTAKEN}"
            outdate = f"INSERT OR IGNORE INTO temp.outdated {old}"
            self._database.execute(outdate, (path_bytes(path),))
        return None

    def take_below(self, position: int, folder: str) -> list[Row]:
        """Return the rows below a folder or in an archive that no input has taken, in their order.

        They are put at position and after it.
        """
        taken: list[Row] = []
        with self._lock, database_errors(self._output):
            for record in self._untaken_below(folder, COLUMNS):
                if (row := unpack(record, record[1])) is not None:
                    place = (position + len(taken), record[0])
                    self._database.execute("INSERT INTO sequence VALUES (?, ?)", place)
                    taken.append(row)
        return taken

    def count_below(self, path: str) -> int:
        """Return how many rows of a path, and of what is below it, no input has taken."""
        if self.is_new:
            return 0
        name = path_bytes(path)
        with self._lock, database_errors(self._output):
            same = f"SELECT kind FROM rows WHERE path = ? AND {_IS_UNTAKEN}"
            kinds = self._database.execute(same, (name,)).fetchall()
            kinds += self._untaken_below(path, "kind")
        return sum(kind != "not_found" for (kind,) in kinds)

    def _untaken_below(self, folder: str, columns: str) -> list[Any]:
        """Return rows of earlier runs below a folder or in an archive that have no place."""
        if self.is_new:
            return []
        name = path_bytes(folder)
        found = []
        for prefix in (name.rstrip(b"/") + b"/", name + b"!/"):
            end = prefix[:-1] + b"0"  # what follows the slash
            query = (
                f"SELECT {columns} FROM rows WHERE path >= ? AND path < ? AND id <= ? "
                f"AND {_IS_UNTAKEN} AND id NOT IN temp.outdated ORDER BY id"
            )
            found += self._database.execute(query, (prefix, end, self._old_id)).fetchall()
        return found

    def paths(self) -> Iterator[str]:
        """Yield the paths of the rows of earlier runs, but not of files that were not there."""
        query = "SELECT path FROM rows WHERE id <= ? AND kind IS NOT 'not_found'"
        with database_errors(self._output):
            for (path,) in self._database.execute(query, (self._old_id,)):
                if not isinstance(path, bytes):
                    raise BrokenStateError(self._output)
                yield path.decode("utf-8", "surrogatepass")

    def keys(self) -> Iterator[bytes]:
        """Yield the keys of the rows, by position."""
        query = "SELECT key FROM sequence JOIN rows ON rows.id = sequence.row ORDER BY position"
        with database_errors(self._output):
            for (key,) in self._database.execute(query):
                yield key

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
            self._insert_job()
            self._database.commit()
            self._committed = time.monotonic()
            self._has_uncommitted = False

    def rows(self) -> Iterator[Row]:
        """Yield the rows by position. Raises NasnetError if one is damaged or missing."""
        query = (
            f"SELECT position, {COLUMNS} FROM sequence LEFT JOIN rows ON rows.id = sequence.row "
            "ORDER BY position"
        )
        with self._lock, database_errors(self._output):
            self._store_added()
        with database_errors(self._output):
            for expected, (position, *record) in enumerate(self._database.execute(query)):
                row = unpack(record, record[1])
                if row is None or position != expected:
                    raise BrokenStateError(self._output)
                yield row

    def remove(self) -> None:
        """Remove the state: the job is done, or there is no row to keep."""
        with self._lock, suppress(sqlite3.Error):
            self._database.rollback()
        with suppress(OSError):
            state_file.remove(self._path)

    def _is_due(self) -> bool:
        return time.monotonic() - self._committed > _COMMIT_SECONDS

    def _commit_periodically(self) -> None:
        """Commit rows that no other row follows: the next input may come hours later."""
        while not self._closed.wait(_COMMIT_SECONDS):
            with self._lock:
                if self._has_uncommitted and self._is_due() and not self._closed.is_set():
                    try:
                        self.commit()
                    except NasnetError as error:
                        self._failure = error
                        return

    def _store_added(self) -> None:
        """Give the database the rows that it does not have: all of them or, on an error, none.

        Once the thread has failed to commit, it fails again: on a full disk, SQLite has rolled back
        all that was not committed, of a new state even the tables.
        """
        if self._failure is not None:
            raise self._failure
        if not self._added:
            return
        added, before = self._added, self._last_id
        numbered = list(enumerate(added, before + 1))
        rows = [(number, *pack(key, row)) for number, (_, key, row) in numbered]
        places = [(position, number) for number, (position, _, _) in numbered]
        database = self._database
        if not database.in_transaction:
            database.execute("BEGIN")
        database.execute("SAVEPOINT added")
        try:
            if self._old_id:  # what was found about the same inputs before they changed
                query = (
                    f"DELETE FROM rows WHERE path = ? AND id <= {self._old_id} AND {_IS_UNTAKEN}"
                )
                database.executemany(query, [(row[2],) for row in rows])
            database.executemany(INSERT, rows)
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
    identity: Callable[[], Identity],
    *,
    resume: bool,
    overwrite: bool = False,
    accept_versions: bool = False,
    note: Callable[[str], None],
) -> Iterator[State]:
    """Open the state of a job that writes target: with resume the one that is there, if any.

    Without, overwrite starts over. identity returns what must be the same to resume;
    accept_versions allows other versions of nasnet and its runtime. Raises OutputError when the
    state cannot be written, and NasnetError when another run is writing target, when there is a
    state and neither resume nor overwrite, and when it is another job's (with the difference in
    words), or damaged.
    """
    output, path = str(target), state_file.state_path(target)
    state, database = None, None
    # A generator, so that a signal at any moment, even between opening and the block, closes it.
    try:
        with database_errors(output):
            if overwrite and not resume and state_file.discard(path, output):
                note(f"An unfinished run of {output} starts over.")
            database = state_file.connect(path, output)
            starts = state_file.is_blank(database, output)
            found: Identity | None = None
            if starts:
                # Committed with the first rows, so that a state is whole or blank.
                database.executescript(f"BEGIN; {state_file.TABLES}")
            elif not resume:
                raise state_file.unfinished(database, output)
            else:
                found = _check_same_job(
                    database, identity(), output, accept_versions=accept_versions
                )
                database.execute("DELETE FROM sequence")
                database.commit()
            newest = state_file.last_id(database)
        state = State(path, database, output, found, identity, newest)
        yield state
    finally:
        if state is not None:
            state.close()
        elif database is not None:
            database.close()


def _check_same_job(
    database: sqlite3.Connection, identity: Identity, output: str, *, accept_versions: bool
) -> Identity:
    """Return the identity of a state that this job may go on with. Raises NasnetError."""
    try:
        version, text = database.execute("SELECT version, identity FROM job").fetchone()
        old = parse_object(text, {})
        check_fields(old, dict.fromkeys(old, dict))
    except (sqlite3.Error, ValueError, TypeError) as error:
        raise BrokenStateError(output) from error
    if version != VERSION:
        raise NasnetError(
            f"The resume state of {output} was written by another version of nasnet.", START_OVER
        )
    check_same_settings(old, identity, output, accept_versions=accept_versions)
    merged = with_earlier_versions(identity, old)
    database.execute("UPDATE job SET identity = ?", (json.dumps(merged),))
    return merged
