"""What a job has finished, kept beside its output until the output is whole.

    .OUT.resume/state.json     the job's identity and the names of the parts
    .OUT.resume/1/journal      a record of fixed size for each finished row
    .OUT.resume/1/PART         the rows' bytes, one after the other
    .OUT.resume/2/             the same, begun when the inputs had changed: what still holds of 1
                               is copied, what doesn't is done anew
    .OUT.resume/lock           who holds it writes OUT

A record has a digest of what the row was made from (the input's name, size and time, or content),
whether the input failed, the row's length in each part, and a checksum over all of it and the row's
bytes. Parts are written before the journal. A record whose checksum doesn't hold, after a crash or
a fault of the disk, ends what is taken for finished.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import struct
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal

from nasnet_cli.errors import NasnetError, OutputError
from nasnet_cli.images.files import Source
from nasnet_cli.jobs.work import differences
from nasnet_cli.results.output import in_words

Check = Literal["stat", "content"]
VERSION = 1
_COMMIT_ROWS, _COMMIT_SECONDS = 256, 1.0
_KEY_BYTES = 16


@dataclass(frozen=True, slots=True)
class Finished:
    """A row that is done: the input's key, whether the input failed, the row's bytes in each
    part."""

    key: bytes
    failed: bool
    parts: tuple[bytes, ...]


def state_folder(target: Path) -> Path:
    """Where the state of a job that writes target lies."""
    return target.with_name(f".{target.name[:200]}.resume")


def source_key(source: Source, check: Check) -> bytes:
    """What tells whether an input is still what it was, 16 bytes.

    Its name with the size and time of its file (of its archive, for a member), or with its content.
    What can't be looked at has its name alone, so that a row with an error isn't done anew.
    """
    digest = hashlib.blake2b(os.fsencode(source.path), digest_size=_KEY_BYTES)
    if source.failure is not None:
        digest.update(f"\0{source.failure.kind}".encode())
    elif check == "content":
        with suppress(Exception):  # whatever it is, its row will say
            digest.update(b"\0" + hashlib.sha256(source.read()).digest())
    else:
        file = source.file or source.path.partition("!/")[0]
        with suppress(OSError, ValueError):
            status = Path(file).stat()
            digest.update(f"\0{status.st_size}\0{status.st_mtime_ns}".encode())
    return digest.digest()


class State:
    """The state of one job. prefix() and find() tell what is finished, add() adds to it.

    Made by open_state; used as a context manager, which leaves what is finished on disk.
    """

    def __init__(self, folder: Path, parts: Sequence[str], lock: int, shown: str) -> None:
        self.folder = folder
        self._parts = tuple(parts)
        self._lock = lock
        self._shown = shown
        numbers = sorted(int(p.name) for p in folder.iterdir() if p.name.isdigit())
        self._old = [_Generation(folder / str(n), self._parts) for n in numbers]
        self._current: _Generation | None = self._old.pop() if self._old else None
        self._ends = [0] * len(self._parts)

    def __enter__(self) -> State:
        return self

    def __exit__(self, *_: object) -> None:
        if self._current is not None:
            with suppress(OSError, OutputError):
                self._current.close()
        os.close(self._lock)

    def prefix(self) -> Iterator[tuple[bytes, bool]]:
        """The keys of the finished rows in their order, and whether the input failed.

        Whoever stops before the end says with keep() how many still hold.
        """
        if self._current is not None:
            ends = [0] * len(self._parts)
            for row in self._current.rows():
                yield row.key, row.failed
                # Asked for the next one: this one is kept.
                ends = [end + len(part) for end, part in zip(ends, row.parts, strict=True)]
                self._ends = ends

    def keep(self, rows: int) -> None:
        """Begins to write after that many of prefix()'s rows; others can still be found."""
        current = self._current
        if current is None:
            self._current = self._begin(None, 0)
        elif rows < current.count:
            self._current = self._begin(current, rows)
            self._old.append(current)
        else:
            current.open(rows, self._ends)

    def find(self, key: bytes) -> Finished | None:
        """A row that was finished before the inputs changed."""
        return next((row for old in self._old if (row := old.find(key))), None)

    @property
    def has_old(self) -> bool:
        """Whether find() could find anything."""
        return bool(self._old)

    @property
    def finished(self) -> int:
        """How many rows are on disk."""
        return self._current.count if self._current else 0

    def add(self, row: Finished) -> None:
        """Adds a row; it is on disk within a second or so. Raises OutputError."""
        assert self._current is not None
        with self._words():
            self._current.add(row)

    def finish(self) -> dict[str, Path]:
        """The files of the parts by name, complete and on disk. Raises OutputError."""
        assert self._current is not None
        with self._words():
            self._current.sync()
            self._current.close()
        return {name: self._current.folder / name for name in self._parts}

    def remove(self) -> None:
        """Removes the state: the job is done, or nothing of it is worth keeping."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _begin(self, before: _Generation | None, rows: int) -> _Generation:
        number = int(before.folder.name) + 1 if before else 1
        with self._words():
            new = _Generation(self.folder / str(number), self._parts)
            new.folder.mkdir()
            new.copy(before, rows)
        return new

    def _words(self) -> _Words:
        return _Words(self._shown)


class _Words:
    """Puts the system's errors in a block into words about the output."""

    def __init__(self, shown: str) -> None:
        self._shown = shown

    def __enter__(self) -> None:
        pass

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if isinstance(error, OSError) and not isinstance(error, NasnetError):
            raise in_words(self._shown, error) from error


class _Generation:
    """Rows that were finished over one list of inputs."""

    def __init__(self, folder: Path, parts: Sequence[str]) -> None:
        self.folder = folder
        self._names = parts
        self._record = struct.Struct(f"<{_KEY_BYTES}sB{len(parts)}II")
        self._files: list[BinaryIO] = []
        self._journal: BinaryIO | None = None
        self._waiting: list[bytes] = []
        self._committed = 0.0
        self._index: dict[bytes, tuple[tuple[int, ...], int]] | None = None
        self.count = self._whole()

    def _whole(self) -> int:
        """How many rows are finished, by the journal and the sizes of the parts."""
        try:
            return (self.folder / "journal").stat().st_size // self._record.size
        except OSError:
            return 0

    def rows(self) -> Iterator[Finished]:
        """The finished rows, as long as their checksums hold; count is theirs at the end."""
        good = 0
        try:
            streams = [(self.folder / name).open("rb") for name in self._names]
        except OSError:
            self.count = 0
            return
        try:
            with (self.folder / "journal").open("rb") as journal:
                while good < self.count and len(packed := journal.read(self._record.size)) > 0:
                    row = self._row(packed, streams)
                    if row is None:
                        break
                    good += 1
                    yield row
            self.count = good
        finally:
            for stream in streams:
                stream.close()

    def _row(self, packed: bytes, streams: Sequence[BinaryIO]) -> Finished | None:
        if len(packed) < self._record.size:
            return None
        key, failed, *lengths, checksum = self._record.unpack(packed)
        parts = tuple(s.read(n) for s, n in zip(streams, lengths, strict=True))
        row = Finished(key, bool(failed), parts)
        return row if self._pack(row)[-4:] == struct.pack("<I", checksum) else None

    def _pack(self, row: Finished) -> bytes:
        head = self._record.pack(row.key, row.failed, *map(len, row.parts), 0)
        checksum = zlib.crc32(head)
        for part in row.parts:
            checksum = zlib.crc32(part, checksum)
        return head[:-4] + struct.pack("<I", checksum)

    def find(self, key: bytes) -> Finished | None:
        if self._index is None:
            self._index = self._places()
        at = self._index.get(key)
        if at is None:
            return None
        places, number = at
        with (self.folder / "journal").open("rb") as journal:
            journal.seek(number * self._record.size)
            packed = journal.read(self._record.size)
        streams = []
        try:
            for name, place in zip(self._names, places, strict=True):
                streams.append((self.folder / name).open("rb"))
                streams[-1].seek(place)
            return self._row(packed, streams)
        finally:
            for stream in streams:
                stream.close()

    def _places(self) -> dict[bytes, tuple[tuple[int, ...], int]]:
        found: dict[bytes, tuple[tuple[int, ...], int]] = {}
        places = (0,) * len(self._names)
        for number, row in enumerate(self.rows()):
            found[row.key] = (places, number)
            places = tuple(p + len(b) for p, b in zip(places, row.parts, strict=True))
        return found

    def open(self, rows: int, ends: Sequence[int]) -> None:
        """Opens it to add rows after that many, with which the parts end at those places."""
        for name, end in zip(self._names, ends, strict=True):
            self._files.append(_opened(self.folder / name, end))
        self._journal = _opened(self.folder / "journal", rows * self._record.size)
        self.count = rows

    def copy(self, before: _Generation | None, rows: int) -> None:
        """Makes its files, with the first rows of another generation."""
        for name in self._names:
            self._files.append(_opened(self.folder / name, 0))
        self._journal = _opened(self.folder / "journal", 0)
        if before is not None and rows:
            for number, row in enumerate(before.rows()):
                if number == rows:
                    break
                self.add(row)

    def add(self, row: Finished) -> None:
        for stream, part in zip(self._files, row.parts, strict=True):
            stream.write(part)
        self._waiting.append(self._pack(row))
        self.count += 1
        now = time.monotonic()
        if len(self._waiting) >= _COMMIT_ROWS or now - self._committed > _COMMIT_SECONDS:
            self.commit()
            self._committed = now

    def commit(self) -> None:
        """Parts first: a row that the journal knows is there."""
        assert self._journal is not None
        for stream in self._files:
            stream.flush()
        self._journal.write(b"".join(self._waiting))
        self._journal.flush()
        self._waiting = []

    def sync(self) -> None:
        self.commit()
        for stream in self._files:
            os.fsync(stream.fileno())

    def close(self) -> None:
        if self._journal is not None and not self._journal.closed:
            self.commit()
            for stream in (*self._files, self._journal):
                stream.close()


def _opened(path: Path, end: int) -> BinaryIO:
    """A file to write from there on, cut off at that place."""
    stream = path.open("r+b" if path.exists() else "w+b")
    stream.truncate(end)
    stream.seek(end)
    return stream


def open_state(
    target: Path,
    identity: Mapping[str, Any],
    parts: Sequence[str],
    *,
    shown: str,
    resume: bool,
    note: Callable[[str], None],
) -> State:
    """The state of a job that writes target, begun anew unless resume.

    parts are the names of what it writes row by row, identity what must be the same to go on.
    Raises OutputError when it can't be kept, and NasnetError when another run is writing target,
    when it is of another job (with the difference in words), or broken.
    """
    folder = state_folder(target)
    with _Words(shown):
        folder.mkdir(exist_ok=True)
        lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise OutputError(
                f"Another run is writing {shown}.", "Wait for it, or write to another place."
            ) from None
        except OSError:  # a file system without locks
            pass
        said = {"version": VERSION, "identity": identity, "parts": list(parts)}
        with _Words(shown):
            if (folder / "state.json").exists():
                if resume:
                    _compare(folder / "state.json", said, shown)
                    return State(folder, parts, lock, shown)
                note(
                    f"An unfinished run of {shown} is begun anew; --resume would have gone on "
                    "with it."
                )
            for old in folder.iterdir():
                if old.name.isdigit():
                    shutil.rmtree(old)
            part = folder / "state.part"
            part.write_text(json.dumps(said, indent=1) + "\n", encoding="utf-8")
            part.replace(folder / "state.json")
        return State(folder, parts, lock, shown)
    except BaseException:
        os.close(lock)
        raise


def _compare(path: Path, said: Mapping[str, Any], shown: str) -> None:
    anew = "Run without --resume to begin anew."
    try:
        old = json.loads(path.read_text(encoding="utf-8"))
        version, identity, parts = old["version"], dict(old["identity"]), old["parts"]
    except (ValueError, KeyError, TypeError):
        raise NasnetError(f"The state of {shown} in {path.parent} is broken.", anew) from None
    if version != VERSION:
        raise NasnetError(f"The state of {shown} is of another version of nasnet.", anew)
    refuse_other(identity, said["identity"], shown)
    if parts != said["parts"]:
        raise NasnetError(f"The unfinished run of {shown} wrote {', '.join(parts)}.", anew)


def refuse_other(old: Mapping[str, Any], new: Mapping[str, Any], shown: str) -> None:
    """Raises NasnetError, naming the differences, unless two identities are the same."""
    found = list(differences(old, new))
    if found:
        raise NasnetError(
            f"{shown} was begun differently: {'; '.join(found[:3])}.",
            "Run it as it was begun, or without --resume (and with --overwrite if it is done).",
        )
