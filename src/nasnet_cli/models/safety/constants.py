"""Refuse constants whose bytes are not what their shapes need, before a runtime reads them.

OpenVINO multiplies sizes in 64 bits and then reads or writes as many values as a shape promises;
TensorFlow fills up what is missing. Here the product is a whole number of any length. Short forms
that a format defines are allowed: a TensorProto repeats its last value, types of less than a byte
are packed, and sparse tensors hold what is not zero.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from nasnet_cli.errors import ModelError
from nasnet_cli.models.savedmodel.graph import attribute_values
from nasnet_cli.models.savedmodel.schema import attribute

LARGEST = 2**32
"""Bytes that short forms may stand for in one model."""

# Names as OpenVINO's .xml files have them; the others' numbers are mapped to bits below.
OPENVINO_BITS = {
    "u1": 1,
    "u2": 2,
    "u3": 3,
    "u6": 6,
    **dict.fromkeys(("u4", "i4", "nf4", "f4e2m1"), 4),
    **dict.fromkeys(("u8", "i8", "boolean", "f8e4m3", "f8e5m2", "f8e8m0"), 8),
    **dict.fromkeys(("u16", "i16", "f16", "bf16"), 16),
    **dict.fromkeys(("u32", "i32", "f32"), 32),
    **dict.fromkeys(("u64", "i64", "f64"), 64),
}

# TensorFlow's DataType: the bits of a value, and the field that holds values one by one. What has
# less than a byte has a byte of its own there.
_STRING = 7
_TENSORFLOW = {
    1: (32, "float_val"),
    2: (64, "double_val"),
    **dict.fromkeys((3, 13), (32, "int_val")),
    **dict.fromkeys((4, 6, 11, 12, 29, 30, 31, 32, 33), (8, "int_val")),
    **dict.fromkeys((5, 15, 16, 17), (16, "int_val")),
    8: (64, "scomplex_val"),
    9: (64, "int64_val"),
    10: (8, "bool_val"),
    **dict.fromkeys((14, 19), (16, "half_val")),
    18: (128, "dcomplex_val"),
    22: (32, "uint32_val"),
    23: (64, "uint64_val"),
    **dict.fromkeys((24, 25, 26, 27, 28), (8, "float8_val")),
    # A string has eight bytes at least, for its length.
    _STRING: (64, "string_val"),
}
_TENSORFLOW_COMPLEX = (8, 18)
_VALUES = {field for _, field in _TENSORFLOW.values()}
_VARIABLES = {"VarHandleOp", "Variable", "VariableV2"}
_LARGEST_VARIABLE = 2**48

# ONNX' DataType, likewise.
_ONNX_STRING, _INT64 = 8, 7
_ONNX = {
    1: (32, "float_data"),
    **dict.fromkeys((2, 3, 9, 17, 18, 19, 20, 24), (8, "int32_data")),
    **dict.fromkeys((4, 5, 10, 16), (16, "int32_data")),
    6: (32, "int32_data"),
    7: (64, "int64_data"),
    11: (64, "double_data"),
    12: (32, "uint64_data"),
    13: (64, "uint64_data"),
    14: (64, "float_data"),
    15: (128, "double_data"),
    **dict.fromkeys((21, 22, 23), (4, "int32_data")),
    **dict.fromkeys((25, 26), (2, "int32_data")),
    _ONNX_STRING: (64, "string_data"),
}
_ONNX_COMPLEX = (14, 15)
_ONNX_VALUES = {field for _, field in _ONNX.values()}


def refuse(path: Path, name: str, problem: str) -> ModelError:
    """Return the error to raise about a constant."""
    return ModelError(
        f"{path} is damaged: the constant {name[:100]!r} {problem}.",
        "Get it again, from a place that you trust.",
    )


def check_bytes(path: Path, name: str, shape: Sequence[int], bits: int, there: int) -> None:
    """Raise ModelError unless there are exactly the bytes that a shape of values needs.

    Values of less than a byte are packed.
    """
    count = number(path, name, shape)
    needed = -(-count * bits // 8)
    if needed != there:
        raise refuse(path, name, f"has {there} bytes, and its shape needs {needed}")


def number(path: Path, name: str, shape: Sequence[int]) -> int:
    """Return the number of values in a shape. Raises ModelError for negative sizes."""
    if any(size < 0 for size in shape):
        raise refuse(path, name, "has a shape with negative sizes")
    return math.prod(shape)


class ShortForms:
    """Adder of what a model's short forms stand for, which refuses more than LARGEST bytes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._total = 0

    def add(self, name: str, count: int, bits: int) -> None:
        self._total += count * bits // 8
        if self._total > LARGEST:
            raise refuse(self._path, name, f"stands for over {LARGEST >> 30} GiB")


def check_saved_model(path: Path, graphs: Iterable[Any]) -> None:
    """Raise ModelError when a constant in one of the MetaGraphDef messages is not whole.

    A TensorProto has all of its bytes, or up to as many values as its shape, of which the last is
    repeated; none stand for zeros. Variables have shapes that a computer can hold.
    """
    short = ShortForms(path)
    for graph in graphs:
        for node in _nodes(graph.graph_def):
            for value in attribute_values(node.attr):
                kind = value.WhichOneof("value")
                if kind == "tensor":
                    _check_tensor(path, node.name, value.tensor, short)
                elif kind == "list":
                    for tensor in value.list.tensor:
                        _check_tensor(path, node.name, tensor, short)
            if node.op == "Const":
                said = attribute(node, "dtype").type
                if said != attribute(node, "value").tensor.dtype:
                    raise refuse(path, node.name, "has two types")
            elif node.op in _VARIABLES:
                _check_variable(path, node)


def _nodes(graph: Any) -> Iterator[Any]:
    """Yield all nodes, and the attributes of functions as if they were nodes."""
    yield from graph.node
    for function in graph.library.function:
        yield from function.node_def
        yield _Attributes(function.signature.name, function.attr)
        defaults = {entry.name: entry.default_value for entry in function.signature.attr}
        yield _Attributes(function.signature.name, defaults)


class _Attributes:
    """Attributes that belong to no node."""

    op = ""

    def __init__(self, name: str, attr: Any) -> None:
        self.name, self.attr = name, attr


def _check_tensor(path: Path, name: str, tensor: Any, short: ShortForms) -> None:
    if tensor.tensor_shape.unknown_rank:
        raise refuse(path, name, "has no shape")
    count = number(path, name, [dim.size for dim in tensor.tensor_shape.dim])
    if tensor.dtype not in _TENSORFLOW:
        # Resources and variants have no bytes; the safety check knows who may make them.
        if tensor.tensor_content:
            raise refuse(path, name, f"is of the type {tensor.dtype}, which has no bytes")
        return
    bits, field = _TENSORFLOW[tensor.dtype]
    fields = {descriptor.name: value for descriptor, value in tensor.ListFields()}
    if fields.keys() & _VALUES - {field}:
        raise refuse(path, name, "has values of another type")
    stored = len(fields.get(field, ()))
    there = len(fields.get("tensor_content", b""))
    if tensor.dtype in _TENSORFLOW_COMPLEX:
        stored //= 2
    if there and stored:
        raise refuse(path, name, "has its values twice")
    if there and tensor.dtype == _STRING:
        if there < count:  # each string has at least a byte, for its length
            raise refuse(path, name, f"has fewer than its {count} strings")
    elif there:
        check_bytes(path, name, [count], bits, there)
    elif stored > count:
        raise refuse(path, name, f"has {stored} values, and its shape {count}")
    else:
        short.add(name, count - stored, bits)


def _check_variable(path: Path, node: Any) -> None:
    shape = attribute(node, "shape").shape
    sizes = [dim.size for dim in shape.dim]
    # An unknown size is negative.
    if not any(size < 0 for size in sizes) and math.prod(sizes) > _LARGEST_VARIABLE:
        raise refuse(path, node.name, "is larger than any computer's memory")


def check_onnx(path: Path, tensors: Iterable[Any], sparse: Iterable[Any]) -> None:
    """Raise ModelError when one of the OnnxTensor or OnnxSparseTensor messages is not whole.

    The parts of sparse tensors must be among the tensors.
    """
    for tensor in tensors:
        _check_onnx_tensor(path, tensor)
    short = ShortForms(path)
    for message in sparse:
        _check_sparse(path, message, short)


def _check_onnx_tensor(path: Path, tensor: Any) -> None:
    name = tensor.name or "without a name"
    if tensor.data_type not in _ONNX:
        raise refuse(path, name, f"is of the unknown type {tensor.data_type}")
    bits, field = _ONNX[tensor.data_type]
    count = number(path, name, tensor.dims)
    fields = {descriptor.name: value for descriptor, value in tensor.ListFields()}
    stored = fields.keys() & _ONNX_VALUES
    if raw := fields.get("raw_data"):
        if stored or tensor.data_type == _ONNX_STRING:
            raise refuse(path, name, "has its values twice")
        check_bytes(path, name, tensor.dims, bits, len(raw))
        return
    if stored - {field}:
        raise refuse(path, name, "has values of another type")
    # Values of less than a byte are packed into bytes, each an int32; a complex one is two.
    needed = -(-count * bits // 8) if bits < 8 else count
    if tensor.data_type in _ONNX_COMPLEX:
        needed *= 2
    there = len(fields.get(field, ()))
    if there != needed:
        raise refuse(path, name, f"has {there} values, and its shape needs {needed}")


def _check_sparse(path: Path, sparse: Any, short: ShortForms) -> None:
    """Check that the places of values lie in the tensor."""
    import numpy as np

    name = sparse.values.name or "without a name"
    total = number(path, name, sparse.dims)
    count = number(path, name, sparse.values.dims)
    indices = sparse.indices
    limits = {(count,): [total], (count, len(sparse.dims)): list(sparse.dims)}.get(
        tuple(indices.dims)
    )
    if limits is None or indices.data_type != _INT64:
        raise refuse(path, name, "has other places than values")
    raw = indices.raw_data
    values = np.frombuffer(raw, "<i8") if raw else np.array(indices.int64_data, np.int64)
    places = values.reshape(-1, len(limits)) if values.size else np.zeros((0, len(limits)))
    if any(
        (column < 0).any() or (column >= limit).any()
        for column, limit in zip(places.T, limits, strict=True)
    ):
        raise refuse(path, name, "has values outside of its shape")
    bits, _ = _ONNX[sparse.values.data_type]
    short.add(name, total, bits)
