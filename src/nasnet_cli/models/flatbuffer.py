"""Reading of flatbuffers, the format of TFLite files, without a schema compiler.

A table's fields are named by their slots, their order in the schema. Every position is checked:
what points outside of the data raises ValueError.
"""

from __future__ import annotations

import struct

_MOST_ENTRIES = 10_000_000


class Table:
    """A table in data, whose position is at."""

    def __init__(self, data: memoryview, at: int) -> None:
        self._data, self._at = data, at
        self._fields = at - _unpack("<i", data, at)
        self._size = _unpack("<H", data, self._fields)

    def has(self, slot: int) -> bool:
        """Return whether the field is there."""
        return self._field(slot) is not None

    def number(self, slot: int, format_: str, default: int = 0) -> int:
        """Return a number, in struct's format."""
        place = self._field(slot)
        return default if place is None else _unpack(format_, self._data, place)

    def table(self, slot: int) -> Table | None:
        """Return a table, None if it is not there."""
        place = self._field(slot)
        return None if place is None else Table(self._data, self._follow(place))

    def tables(self, slot: int) -> list[Table]:
        """Return the tables in a vector."""
        start, count = self._vector(slot, 4)
        return [Table(self._data, self._follow(start + 4 * i)) for i in range(count)]

    def numbers(self, slot: int, format_: str) -> tuple[float, ...]:
        """Return the numbers in a vector; format_ is struct's letter for one."""
        start, count = self._vector(slot, struct.calcsize("<" + format_))
        return struct.unpack_from(f"<{count}{format_}", self._data, start) if count else ()

    def content(self, slot: int) -> memoryview:
        """Return a vector of bytes."""
        start, count = self._vector(slot, 1)
        return self._data[start : start + count]

    def text(self, slot: int) -> str:
        """Return a text, "" if it is not there."""
        return bytes(self.content(slot)).decode("utf-8", "replace")

    def _field(self, slot: int) -> int | None:
        place = 4 + 2 * slot
        if place + 2 > self._size:
            return None
        offset = _unpack("<H", self._data, self._fields + place)
        return self._at + offset if offset else None

    def _follow(self, place: int) -> int:
        return place + _unpack("<I", self._data, place)

    def _vector(self, slot: int, size: int) -> tuple[int, int]:
        """Return the start and the length of a vector of items of a size."""
        place = self._field(slot)
        if place is None:
            return 0, 0
        start = self._follow(place)
        count = _unpack("<I", self._data, start)
        if (count > _MOST_ENTRIES and size > 1) or start + 4 + count * size > len(self._data):
            raise ValueError("a list ends outside of the file")
        return start + 4, count


def root(data: memoryview, identifier: bytes) -> Table:
    """Return the table that a flatbuffer consists of. Raises ValueError when it is not one."""
    if bytes(data[4:8]) != identifier:
        raise ValueError("it is of another format")
    return Table(data, _unpack("<I", data, 0))


def _unpack(format_: str, data: memoryview, at: int) -> int:
    if not 0 <= at <= len(data) - struct.calcsize(format_):
        raise ValueError("it points outside of the file")
    value: int = struct.unpack_from(format_, data, at)[0]
    return value
