"""The names in a folder, in the order of their bytes, however many there are."""

from __future__ import annotations

import heapq
import os
from collections.abc import Iterator
from itertools import islice
from typing import IO

_BLOCK_BYTES = 1 << 16

# Names of a folder that are sorted in memory; more are sorted in parts, in temporary files.
_NAMES_IN_MEMORY = 100_000


def sorted_names(folder: bytes) -> Iterator[bytes]:
    """Return a folder's names in the order of their bytes, never all of them in memory.

    All have been read when this returns. Raises OSError when the folder cannot be listed.
    """
    with os.scandir(folder) as entries:
        names = (entry.name for entry in entries)
        part = sorted(islice(names, _NAMES_IN_MEMORY))
        if len(part) < _NAMES_IN_MEMORY:
            return iter(part)
        parts = []
        while part:
            parts.append(_stored_names(part))
            part = sorted(islice(names, _NAMES_IN_MEMORY))
    return heapq.merge(*parts)


def _stored_names(names: list[bytes]) -> Iterator[bytes]:
    import tempfile

    try:
        file = tempfile.TemporaryFile()  # noqa: SIM115 - its reader closes it
        file.write(b"\0".join(names))
        file.seek(0)
    except OSError:  # no space there: they stay in memory after all
        return iter(names)
    return _read_names(file)


def _read_names(file: IO[bytes]) -> Iterator[bytes]:
    with file:
        rest = b""
        while block := file.read(_BLOCK_BYTES):
            *names, rest = (rest + block).split(b"\0")
            yield from names
        yield rest
