"""Bytes on their way from archives and servers to a decoder: in memory while few, else in a file.

The files are temporary and have no name: they end with the process, however that ends.
"""

from __future__ import annotations

import io
import os
import tempfile
import threading
import weakref
from collections.abc import Iterable, Iterator
from typing import BinaryIO, Self, cast

from nasnet_cli.errors import InputError
from nasnet_cli.images.source import check_size
from nasnet_cli.systems import opened_again

IN_MEMORY = 4 << 20
"""Bytes of an input up to which it stays in memory."""

HELD_IN_MEMORY, HELD_IN_FILES = 128 << 20, 2 << 30
"""Bytes of all inputs that are held before their turn. With more, whoever reads ahead waits."""

_STEP_BYTES = 1 << 20


def steps(stream: BinaryIO) -> Iterator[bytes]:
    """Yield what is left of a stream, a megabyte at a time."""
    return iter(lambda: stream.read(_STEP_BYTES), b"")


class Spool:
    """Bytes that come in parts, to be one stream, which is a file with over in_memory bytes.

    A context manager, which closes the stream unless it is taken.
    """

    def __init__(self, max_bytes: int, in_memory: int = IN_MEMORY) -> None:
        self._max_bytes = max_bytes
        self._in_memory = in_memory
        self._size = 0
        self._stream: BinaryIO = io.BytesIO()
        self._is_taken = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if not self._is_taken:
            self._stream.close()

    def write(self, part: bytes) -> None:
        """Add a part.

        Raises InputError: too_large with over max_bytes; unreadable where there is no room for the
        file.
        """
        self._size += len(part)
        check_size(self._size, self._max_bytes)
        if self._size > self._in_memory and isinstance(self._stream, io.BytesIO):
            self._stream = _to_file(self._stream)
        _write(self._stream, part)

    def take(self) -> BinaryIO:
        """Return the stream, at its beginning. The caller closes it."""
        self._is_taken = True
        self._stream.seek(0)
        return self._stream


def spooled(parts: Iterable[bytes], max_bytes: int, in_memory: int = IN_MEMORY) -> BinaryIO:
    """Return the parts as one stream, as Spool does."""
    with Spool(max_bytes, in_memory) as spool:
        for part in parts:
            spool.write(part)
        return spool.take()


class HeldBytes:
    """The bytes of an input that waits for its turn, in memory or in a file, within the budget.

    Making one waits for room in the budget, which those give back that are no longer used.
    """

    def __init__(self, parts: Iterable[bytes], size: int) -> None:
        is_small = size <= IN_MEMORY and _memory.take_now(size)
        budget = _memory if is_small else _files
        if not is_small:
            budget.take(size)
        try:
            stream = spooled(parts, size, in_memory=IN_MEMORY if is_small else 0)
        except BaseException:
            budget.give(size)
            raise
        self._bytes = stream.getvalue() if isinstance(stream, io.BytesIO) else None
        self._file = stream
        weakref.finalize(self, _release, stream, budget, size).atexit = False

    def open(self, max_bytes: int) -> BinaryIO:
        """Return a new stream of the bytes, which the caller closes."""
        if self._bytes is not None:
            return io.BytesIO(self._bytes)
        # Not a copy of the descriptor, whose position would be the same.
        return opened_again(self._file)


def _release(stream: BinaryIO, budget: _Budget, size: int) -> None:
    stream.close()
    budget.give(size)


class _Budget:
    """Bytes that may be held at once. An input of more waits until nothing else is."""

    def __init__(self, total: int) -> None:
        self._total = self._free = total
        self._changed = threading.Condition(threading.RLock())  # give is called by a destructor

    def take_now(self, size: int) -> bool:
        with self._changed:
            if size > self._free:
                return False
            self._free -= size
            return True

    def take(self, size: int) -> None:
        with self._changed:
            self._changed.wait_for(lambda: size <= self._free or self._free == self._total)
            self._free -= size

    def give(self, size: int) -> None:
        with self._changed:
            self._free += size
            self._changed.notify_all()


_memory, _files = _Budget(HELD_IN_MEMORY), _Budget(HELD_IN_FILES)


def _to_file(memory: io.BytesIO) -> BinaryIO:
    try:
        file = cast(BinaryIO, tempfile.TemporaryFile(prefix="nasnet-", buffering=0))  # noqa: SIM115
    except OSError as error:
        raise _no_room(error) from error
    with memory, memory.getbuffer() as written:
        _write(file, written)
    return file


def _write(stream: BinaryIO, part: bytes | memoryview) -> None:
    try:
        rest = memoryview(part)
        while rest:
            rest = rest[stream.write(rest) :]
    except OSError as error:
        raise _no_room(error) from error


def _no_room(error: OSError) -> InputError:
    return InputError(
        "unreadable",
        f"It cannot be kept in the temporary folder {tempfile.gettempdir()}: "
        f"{os.strerror(error.errno or 0)}.",
    )
