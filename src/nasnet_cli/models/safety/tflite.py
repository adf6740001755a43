"""Refuse TFLite files with constants whose bytes are not what their shapes need.

A TFLite file is a FlatBuffer: tables of fields, reached by offsets, and vectors. Sources:
FlatBuffers' internals.md, and schema.fbs of TensorFlow Lite for the numbers of fields. A tensor
without bytes is one that an operation computes, that the caller fills, or a variable; every other
that something reads must have all of its bytes.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from pathlib import Path

from nasnet_cli.errors import ModelError
from nasnet_cli.models.safety.constants import ShortForms, check_bytes, number, refuse

# Fields by their numbers in schema.fbs.
_SUBGRAPHS, _BUFFERS = 2, 4
_TENSORS, _GRAPH_INPUTS, _GRAPH_OUTPUTS, _OPERATORS = 0, 1, 2, 3
_OPERATOR_INPUTS, _OPERATOR_OUTPUTS = 1, 2
_SHAPE, _TYPE, _BUFFER, _NAME, _IS_VARIABLE, _SPARSITY, _EXTERNAL = 0, 1, 2, 3, 5, 6, 10
_DATA, _OFFSET, _SIZE = 0, 1, 2
_TRAVERSAL_ORDER, _BLOCK_MAP, _DIMENSIONS = 0, 1, 2
_FORMAT, _DENSE_SIZE, _SEGMENTS_TYPE, _SEGMENTS, _INDICES_TYPE, _INDICES = range(6)

# TensorType: bits of a value. Strings, resources and variants have none.
_BITS = (32, 16, 32, 8, 64, None, 8, 16, 64, 8, 64, 128, 64, None, None, 32, 16, 4, 16, 2, 4)
_STRING = 5
_INDEX_FORMATS = {1: "i", 2: "H", 3: "B"}  # SparseIndexVector
_MAX_RANK = 64


class _Buffer:
    """The bytes of a file. Reading raises ValueError outside of them, or after too much work."""

    def __init__(self, data: memoryview) -> None:
        self.data = data
        # Offsets may lead to one vector again and again.
        self._budget = 1_000_000 + 4 * len(data)

    def number(self, at: int, form: str) -> int:
        value: int = self.unpack(at, form)[0]
        return value

    def unpack(self, at: int, form: str, count: int = 1) -> tuple[int, ...]:
        size = struct.calcsize(f"<{form}") * count
        self._budget -= size
        if at < 0 or at + size > len(self.data) or self._budget < 0:
            raise ValueError
        return struct.unpack_from(f"<{count}{form}", self.data, at)

    def root(self) -> _Table:
        return _Table(self, self.number(0, "I"))


class _Table:
    """A table at an offset."""

    def __init__(self, buffer: _Buffer, at: int) -> None:
        self._buffer, self._at = buffer, at
        self._fields = at - buffer.number(at, "i")
        self._size = buffer.number(self._fields, "H")

    def scalar(self, field: int, form: str, default: int = 0) -> int:
        at = self._place(field)
        return default if at is None else self._buffer.number(at, form)

    def table(self, field: int) -> _Table | None:
        at = self._target(field)
        return None if at is None else _Table(self._buffer, at)

    def tables(self, field: int) -> Iterator[_Table]:
        at = self._target(field)
        if at is None:
            return
        for index in range(self.length(field)):
            place = at + 4 + 4 * index
            yield _Table(self._buffer, place + self._buffer.number(place, "I"))

    def vector(self, field: int, form: str) -> tuple[int, ...]:
        at = self._target(field)
        if at is None:
            return ()
        return self._buffer.unpack(at + 4, form, self.length(field))

    def length(self, field: int) -> int:
        """Return the number of a vector's elements, which the file may not have."""
        at = self._target(field)
        return 0 if at is None else self._buffer.number(at, "I")

    def data(self, field: int) -> memoryview:
        """Return a vector of bytes."""
        at = self._target(field)
        if at is None:
            return self._buffer.data[:0]
        end = at + 4 + self.length(field)
        if end > len(self._buffer.data):
            raise ValueError
        return self._buffer.data[at + 4 : end]

    def _place(self, field: int) -> int | None:
        entry = 4 + 2 * field
        if entry + 2 > self._size:
            return None
        place = self._buffer.number(self._fields + entry, "H")
        return self._at + place if place else None

    def _target(self, field: int) -> int | None:
        at = self._place(field)
        return None if at is None else at + self._buffer.number(at, "I")


def check_tflite(path: Path, content: bytes) -> None:
    """Raise ModelError when a TFLite file's content is damaged or a constant in it is not whole."""
    data = memoryview(content)
    try:
        model = _Buffer(data).root()
        buffers = [_content(path, buffer, data) for buffer in model.tables(_BUFFERS)]
        short = ShortForms(path)
        for graph in model.tables(_SUBGRAPHS):
            _check_graph(path, graph, buffers, short)
    except ValueError:
        raise ModelError(
            f"{path} is damaged or cut off.",
            "Get it again, or name the model that it was made from.",
        ) from None


def _content(path: Path, buffer: _Table, data: memoryview) -> memoryview:
    """Return the bytes of a buffer; those of a very large file lie behind the FlatBuffer."""
    offset, size = buffer.scalar(_OFFSET, "Q"), buffer.scalar(_SIZE, "Q")
    if offset <= 1:  # the default, and what converters write where there is nothing
        return buffer.data(_DATA)
    if offset + size > len(data):
        raise refuse(path, f"at {offset}", f"has {max(0, len(data) - offset)} bytes of {size}")
    return data[offset : offset + size]


def _check_graph(path: Path, graph: _Table, buffers: list[memoryview], short: ShortForms) -> None:
    read = set(graph.vector(_GRAPH_OUTPUTS, "i"))
    filled = set(graph.vector(_GRAPH_INPUTS, "i"))
    for operator in graph.tables(_OPERATORS):
        read.update(operator.vector(_OPERATOR_INPUTS, "i"))
        filled.update(operator.vector(_OPERATOR_OUTPUTS, "i"))
    for index, tensor in enumerate(graph.tables(_TENSORS)):
        name = bytes(tensor.data(_NAME)).decode("utf-8", "replace")
        if tensor.scalar(_EXTERNAL, "I"):
            raise refuse(path, name, "lies in another file, which is not read")
        buffer = tensor.scalar(_BUFFER, "I")
        if buffer and buffer >= len(buffers):
            raise refuse(path, name, f"lies in buffer {buffer} of {len(buffers)}")
        if tensor.length(_SHAPE) > _MAX_RANK:
            raise refuse(path, name, "has too many dimensions")
        content = buffers[buffer] if buffer else memoryview(b"")
        if content:
            _check_constant(path, name, tensor, content, short)
        elif index in read - filled and not tensor.scalar(_IS_VARIABLE, "B"):
            shape = tensor.vector(_SHAPE, "i")
            if math.prod(shape):
                raise refuse(path, name, f"has no bytes, and its shape {list(shape)}")


def _check_constant(
    path: Path, name: str, tensor: _Table, content: memoryview, short: ShortForms
) -> None:
    shape = tensor.vector(_SHAPE, "i")
    kind = tensor.scalar(_TYPE, "b")
    bits = _BITS[kind] if 0 <= kind < len(_BITS) else None
    sparsity = tensor.table(_SPARSITY)
    if kind == _STRING:
        _check_strings(path, name, number(path, name, shape), content)
    elif bits is None:
        raise refuse(path, name, f"is of the type {kind}, which has no bytes")
    elif sparsity is not None:
        check_bytes(path, name, [_sparse_count(sparsity, shape)], bits, len(content))
        short.add(name, number(path, name, shape), bits)
    else:
        check_bytes(path, name, shape, bits, len(content))


def _check_strings(path: Path, name: str, count: int, content: memoryview) -> None:
    """Check a count, an offset for each string and one for the end, and the strings."""
    buffer = _Buffer(content)
    if buffer.number(0, "i") != count:
        raise refuse(path, name, f"has not the {count} strings that its shape needs")
    offsets = buffer.unpack(4, "i", count + 1)
    if list(offsets) != sorted(offsets) or offsets[0] < 0 or offsets[-1] > len(content):
        raise ValueError


def _sparse_count(sparsity: _Table, shape: tuple[int, ...]) -> int:
    """Return the number of values that a sparse tensor stores. Raises ValueError when its places lie
    outside of its shape."""
    order = sparsity.vector(_TRAVERSAL_ORDER, "i")
    blocks = sparsity.vector(_BLOCK_MAP, "i")
    levels = list(sparsity.tables(_DIMENSIONS))
    rank = len(shape)
    is_whole = sorted(order) == list(range(rank + len(blocks))) and len(levels) == len(order)
    if not is_whole or len(set(blocks)) < len(blocks) or not set(blocks) <= set(range(rank)):
        raise ValueError
    # Of a dimension in blocks, the inner size is that of a block, the outer that of their number.
    sizes = list(shape) + [0] * len(blocks)
    for axis, level in zip(order, levels, strict=True):
        if axis >= rank:
            sizes[axis] = size = level.scalar(_DENSE_SIZE, "i")
            blocked = blocks[axis - rank]
            if level.scalar(_FORMAT, "b") or size <= 0 or sizes[blocked] % size:
                raise ValueError
            sizes[blocked] //= size
    count = 1
    for axis, level in zip(order, levels, strict=True):
        count = _level_count(level, sizes[axis], count)
    return count


def _level_count(level: _Table, size: int, above: int) -> int:
    """Return the number of places in a level, of size each under those above."""
    if not level.scalar(_FORMAT, "b"):
        if level.scalar(_DENSE_SIZE, "i") != size:
            raise ValueError
        return above * size
    segments = level.table(_SEGMENTS), _INDEX_FORMATS.get(level.scalar(_SEGMENTS_TYPE, "B"))
    indices = level.table(_INDICES), _INDEX_FORMATS.get(level.scalar(_INDICES_TYPE, "B"))
    ends = segments[0].vector(0, segments[1]) if segments[0] and segments[1] else ()
    places = indices[0].vector(0, indices[1]) if indices[0] and indices[1] else ()
    if len(ends) != above + 1 or list(ends) != sorted(ends) or ends[0] or ends[-1] != len(places):
        raise ValueError
    if any(not 0 <= place < size for place in places):
        raise ValueError
    return len(places)
