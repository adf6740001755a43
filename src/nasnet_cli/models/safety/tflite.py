"""Refuse TFLite files with constants whose bytes are not what their shapes need.

Fields have their slots in TensorFlow Lite's schema.fbs. A tensor without bytes is one that an
operation computes, that the caller fills, or a variable; every other that something reads must have
all of its bytes.
"""

from __future__ import annotations

import math
import struct
from pathlib import Path

from nasnet_cli.errors import ModelError
from nasnet_cli.models.flatbuffer import Table, root
from nasnet_cli.models.safety.constants import ShortForms, check_bytes, number, refuse
from nasnet_cli.models.tflite_graph import buffer_content

# Slots of fields in schema.fbs.
_SUBGRAPHS, _BUFFERS = 2, 4
_TENSORS, _GRAPH_INPUTS, _GRAPH_OUTPUTS, _OPERATORS = 0, 1, 2, 3
_OPERATOR_INPUTS, _OPERATOR_OUTPUTS = 1, 2
_SHAPE, _TYPE, _BUFFER, _NAME, _IS_VARIABLE, _SPARSITY, _EXTERNAL = 0, 1, 2, 3, 5, 6, 10
_OFFSET, _SIZE = 1, 2
_TRAVERSAL_ORDER, _BLOCK_MAP, _DIMENSIONS = 0, 1, 2
_FORMAT, _DENSE_SIZE, _SEGMENTS_TYPE, _SEGMENTS, _INDICES_TYPE, _INDICES = range(6)

# TensorType: bits of a value. Strings, resources and variants have none.
_BITS = (32, 16, 32, 8, 64, None, 8, 16, 64, 8, 64, 128, 64, None, None, 32, 16, 4, 16, 2, 4)
_STRING = 5
_INDEX_FORMATS = {1: "i", 2: "H", 3: "B"}  # SparseIndexVector
_MAX_RANK = 64


def check_tflite(path: Path, content: bytes) -> None:
    """Raise ModelError when a TFLite file's content is damaged or a constant in it is not whole."""
    data = memoryview(content)
    try:
        model = root(data, b"TFL3")
        buffers = [_content(path, buffer, data) for buffer in model.tables(_BUFFERS)]
        short = ShortForms(path)
        for graph in model.tables(_SUBGRAPHS):
            _check_graph(path, graph, buffers, short)
    except ValueError:
        raise ModelError(
            f"{path} is damaged or cut off.",
            "Get it again, or name the model that it was made from.",
        ) from None


def _content(path: Path, buffer: Table, data: memoryview) -> memoryview:
    """Return the bytes of a buffer, of which a file that was cut off may lack some."""
    content = buffer_content(buffer, data)
    offset, size = buffer.number(_OFFSET, "Q"), buffer.number(_SIZE, "Q")
    if offset > 1 and len(content) < size:
        raise refuse(path, f"at {offset}", f"has {len(content)} bytes of {size}")
    return content


def _check_graph(path: Path, graph: Table, buffers: list[memoryview], short: ShortForms) -> None:
    read = set(graph.numbers(_GRAPH_OUTPUTS, "i"))
    filled = set(graph.numbers(_GRAPH_INPUTS, "i"))
    for operator in graph.tables(_OPERATORS):
        read.update(operator.numbers(_OPERATOR_INPUTS, "i"))
        filled.update(operator.numbers(_OPERATOR_OUTPUTS, "i"))
    needed = read - filled
    for index, tensor in enumerate(graph.tables(_TENSORS)):
        name = tensor.text(_NAME)
        if tensor.number(_EXTERNAL, "I"):
            raise refuse(path, name, "lies in another file, which is not read")
        buffer = tensor.number(_BUFFER, "I")
        if buffer and buffer >= len(buffers):
            raise refuse(path, name, f"lies in buffer {buffer} of {len(buffers)}")
        shape = tensor.numbers(_SHAPE, "i")
        if len(shape) > _MAX_RANK:
            raise refuse(path, name, "has too many dimensions")
        content = buffers[buffer] if buffer else memoryview(b"")
        if content:
            _check_constant(path, name, tensor, content, short)
        elif index in needed and math.prod(shape) and not tensor.number(_IS_VARIABLE, "B"):
            raise refuse(path, name, f"has no bytes for its shape {list(shape)}")


def _check_constant(
    path: Path, name: str, tensor: Table, content: memoryview, short: ShortForms
) -> None:
    shape = tensor.numbers(_SHAPE, "i")
    kind = tensor.number(_TYPE, "b")
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
    if len(content) < 4 or struct.unpack_from("<i", content) != (count,):
        raise refuse(path, name, f"has not the {count} strings that its shape needs")
    if len(content) < 4 * (count + 2):
        raise ValueError
    offsets = struct.unpack_from(f"<{count + 1}i", content, 4)
    if list(offsets) != sorted(offsets) or offsets[0] < 0 or offsets[-1] > len(content):
        raise ValueError


def _sparse_count(sparsity: Table, shape: tuple[int, ...]) -> int:
    """Return the number of values that a sparse tensor stores. Raises ValueError when its places
    lie outside of its shape."""
    order = sparsity.numbers(_TRAVERSAL_ORDER, "i")
    blocks = sparsity.numbers(_BLOCK_MAP, "i")
    levels = list(sparsity.tables(_DIMENSIONS))
    rank = len(shape)
    is_whole = sorted(order) == list(range(rank + len(blocks))) and len(levels) == len(order)
    if not is_whole or len(set(blocks)) < len(blocks) or not set(blocks) <= set(range(rank)):
        raise ValueError
    # Of a dimension in blocks, the inner size is that of a block, the outer that of their number.
    sizes = list(shape) + [0] * len(blocks)
    for axis, level in zip(order, levels, strict=True):
        if axis >= rank:
            sizes[axis] = size = level.number(_DENSE_SIZE, "i")
            blocked = blocks[axis - rank]
            if level.number(_FORMAT, "b") or size <= 0 or sizes[blocked] % size:
                raise ValueError
            sizes[blocked] //= size
    count = 1
    for axis, level in zip(order, levels, strict=True):
        count = _level_count(level, sizes[axis], count)
    return count


def _level_count(level: Table, size: int, above: int) -> int:
    """Return the number of places in a level, of size each under those above."""
    if not level.number(_FORMAT, "b"):
        if level.number(_DENSE_SIZE, "i") != size:
            raise ValueError
        return above * size
    segments = level.table(_SEGMENTS), _INDEX_FORMATS.get(level.number(_SEGMENTS_TYPE, "B"))
    indices = level.table(_INDICES), _INDEX_FORMATS.get(level.number(_INDICES_TYPE, "B"))
    ends = segments[0].numbers(0, segments[1]) if segments[0] and segments[1] else ()
    places = indices[0].numbers(0, indices[1]) if indices[0] and indices[1] else ()
    if len(ends) != above + 1 or list(ends) != sorted(ends) or ends[0] or ends[-1] != len(places):
        raise ValueError
    if any(not 0 <= place < size for place in places):
        raise ValueError
    return len(places)
