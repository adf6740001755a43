"""Reading of flatbuffers, the format of TFLite files, without a schema compiler.

A table's fields are named by their slots, their order in the schema. Every position is checked:
what points outside of the data raises ValueError, and so do offsets that lead to the same place
again and again. Source: FlatBuffers' internals.md.
"""

from __future__ import annotations

import struct
from typing import Any

_MOST_ENTRIES = 10_000_000


class _Reader:
    """Numbers at positions in data, up to a few times as many bytes as it has."""

    def __init__(self, data: memoryview) -> None:
        self.data = data
        self._budget = 1_000_000 + 4 * len(data)

    def number(self, format_: str, at: int) -> int:
        value: int = self.numbers(format_, at, 1)[0]
        return value

    def numbers(self, format_: str, at: int, count: int) -> tuple[Any, ...]:
        size = struct.calcsize(f"<{format_}") * count
        self._budget -= size
        if not 0 <= at <= len(self.data) - size:
            raise ValueError("it points outside of the file")
        if self._budget < 0:
            raise ValueError("it points to the same place too often")
        return struct.unpack_from(f"<{count}{format_}", self.data, at)


class Table:
    """A table that a reader has at a position."""

    def __init__(self, reader: _Reader, at: int) -> None:
        self._reader, self._at = reader, at
        self._fields = at - reader.number("i", at)
        self._size = reader.number("H", self._fields)

    def number(self, slot: int, format_: str, default: int = 0) -> int:
        """Return a number; format_ is struct's letter for it."""
        place = self._field(slot)
        return default if place is None else self._reader.number(format_, place)

    def table(self, slot: int) -> Table | None:
        """Return a table, None if it is not there."""
        place = self._field(slot)
        return None if place is None else Table(self._reader, self._follow(place))

    def tables(self, slot: int) -> list[Table]:
        """Return the tables in a vector."""
        start, count = self._vector(slot, 4)
        return [Table(self._reader, self._follow(start + 4 * i)) for i in range(count)]

    def numbers(self, slot: int, format_: str) -> tuple[Any, ...]:
        """Return the numbers in a vector; format_ is struct's letter for one."""
        start, count = self._vector(slot, struct.calcsize("<" + format_))
        return self._reader.numbers(format_, start, count) if count else ()

    def content(self, slot: int) -> memoryview:
        """Return a vector of bytes."""
        start, count = self._vector(slot, 1)
        return self._reader.data[start : start + count]

    def text(self, slot: int) -> str:
        """Return a text, "" if it is not there."""
        return bytes(self.content(slot)).decode("utf-8", "replace")

    def _field(self, slot: int) -> int | None:
        place = 4 + 2 * slot
        if place + 2 > self._size:
            return None
        offset = self._reader.number("H", self._fields + place)
        return self._at + offset if offset else None

    def _follow(self, place: int) -> int:
        return place + self._reader.number("I", place)

    def _vector(self, slot: int, size: int) -> tuple[int, int]:
        """Return the start and the length of a vector of items of a size."""
        place = self._field(slot)
        if place is None:
            return 0, 0
        start = self._follow(place)
        count = self._reader.number("I", start)
        if (count > _MOST_ENTRIES and size > 1) or start + 4 + count * size > len(
            self._reader.data
        ):
            raise ValueError("a list ends outside of the file")
        return start + 4, count


def root(data: memoryview, identifier: bytes) -> Table:
    """Return the table that a flatbuffer consists of. Raises ValueError when it is not one."""
    if bytes(data[4:8]) != identifier:
        raise ValueError("it is of another format")
    reader = _Reader(data)
    return Table(reader, reader.number("I", 0))
