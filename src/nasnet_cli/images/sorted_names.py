"""The names in a folder in the order of their bytes, of which memory never holds all."""

from __future__ import annotations

import heapq
import os
from collections.abc import Iterator
from itertools import islice
from typing import IO

_HELD = 100_000
"""Names that are sorted in memory; more are sorted in parts, which wait in temporary files."""

_BLOCK_BYTES = 1 << 16


def sorted_names(folder: bytes) -> Iterator[bytes]:
    """The names, of which all have been read when this returns.

    Raises OSError when the folder can't be listed.
    """
    with os.scandir(folder) as entries:
        names = (entry.name for entry in entries)
        part = sorted(islice(names, _HELD))
        if len(part) < _HELD:
            return iter(part)
        parts = []
        while part:
            parts.append(_put_aside(part))
            part = sorted(islice(names, _HELD))
    return heapq.merge(*parts)


def _put_aside(names: list[bytes]) -> Iterator[bytes]:
    import tempfile

    try:
        file = tempfile.TemporaryFile()  # noqa: SIM115 - closed by who reads it
        file.write(b"\0".join(names))
        file.seek(0)
    except OSError:  # no room there, and so it is memory after all
        return iter(names)
    return _names_in(file)


def _names_in(file: IO[bytes]) -> Iterator[bytes]:
    with file:
        rest = b""
        while block := file.read(_BLOCK_BYTES):
            *whole, rest = (rest + block).split(b"\0")
            yield from whole
        yield rest
