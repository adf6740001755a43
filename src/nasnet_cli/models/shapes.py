"""The shapes of an operation's results, from those of what goes in.

For the operations that image networks are made of. TensorFlow could tell the shapes of more, but
takes seconds to import.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from nasnet_cli.models.savedmodel import schema
from nasnet_cli.models.savedmodel.graph import UntraceableError
from nasnet_cli.models.savedmodel.schema import attribute

Sizes = tuple[int, ...]

_NUMBERS = 64  # how many a tensor may have for us to look at them


@dataclass(frozen=True)
class Value:
    """A tensor's shape and, for small integer tensors such as shapes, its numbers."""

    shape: Sizes
    numbers: Sizes | None = None

    def __post_init__(self) -> None:
        # A hostile graph could double its sizes with each operation.
        if any(not 0 <= size < 2**31 for size in self.shape):
            raise UntraceableError("a size out of range")
        numbers = self.numbers or ()
        if len(numbers) > _NUMBERS or any(abs(number) >= 2**31 for number in numbers):
            object.__setattr__(self, "numbers", None)


def outputs(node: Any, values: list[Value]) -> list[Value]:
    """The results of a node for its inputs.

    Raises UntraceableError, ValueError, IndexError, KeyError or ZeroDivisionError for an operation
    that isn't known, or known and put to a use that makes no sense.
    """
    return _split(node, values) if node.op == "Split" else [_shape(node, values)]


def _shape(node: Any, values: list[Value]) -> Value:
    op = node.op
    if op == "Const":
        return _constant(attribute(node, "value").tensor)
    if op in ("VarHandleOp", "VariableV2"):
        sizes = schema.shape_of(attribute(node, "shape").shape)
        if sizes is None or None in sizes:
            raise UntraceableError(node.name)
        return Value(tuple(size for size in sizes if size is not None))
    if op in ("Identity", "Cast"):
        return values[0]
    if op in _SAME:
        return Value(values[0].shape)
    if op in _ELEMENTWISE:
        return _elementwise(op, values)
    return _RULES[op](node, values)


def _constant(tensor: Any) -> Value:
    sizes = schema.shape_of(tensor.tensor_shape)
    shape = tuple(size or 0 for size in sizes or ())
    count = math.prod(shape)
    width = {"int32": 4, "int64": 8}.get(schema.dtype_name(tensor.dtype))
    if width is None or count > _NUMBERS:
        return Value(shape)
    if content := tensor.tensor_content[: count * width]:
        numbers = [
            int.from_bytes(content[at : at + width], "little", signed=True)
            for at in range(0, len(content), width)
        ]
    else:
        numbers = list(tensor.int_val if width == 4 else tensor.int64_val) or [0]
    # A tensor whose last values are all the same may leave out all but the first of them.
    numbers += numbers[-1:] * (count - len(numbers))
    return Value(shape, tuple(numbers[:count]))


def _elementwise(op: str, values: list[Value]) -> Value:
    rank = max(len(value.shape) for value in values)
    padded = [(1,) * (rank - len(value.shape)) + value.shape for value in values]
    shape = tuple(0 if 0 in sizes else max(sizes) for sizes in zip(*padded, strict=True))
    if any(size not in (1, shape[axis]) for sizes in padded for axis, size in enumerate(sizes)):
        raise UntraceableError(op)
    return Value(shape, _arithmetic(op, values))


def _arithmetic(op: str, values: list[Value]) -> Sizes | None:
    """Numbers of a result, for what shapes are computed with."""
    calculate = {
        "Add": lambda a, b: a + b,
        "AddV2": lambda a, b: a + b,
        "Sub": lambda a, b: a - b,
        "Mul": lambda a, b: a * b,
        "FloorDiv": lambda a, b: a // b,
    }.get(op)
    numbers = [value.numbers for value in values]
    if calculate is None or numbers[0] is None or numbers[1] is None:
        return None
    a, b = numbers[0], numbers[1]
    length = max(len(a), len(b))
    a, b = (part * length if len(part) == 1 else part for part in (a, b))
    return tuple(map(calculate, a, b))


def _axes(node: Any) -> tuple[int, int, int]:
    """Positions of height, width and channels."""
    layout = attribute(node, "data_format").s or b"NHWC"
    if layout not in (b"NHWC", b"NCHW"):
        raise UntraceableError(node.name)
    return (1, 2, 3) if layout == b"NHWC" else (2, 3, 1)


def _convolution(node: Any, values: list[Value]) -> Value:
    kernel = values[1].shape
    depth = kernel[2] * kernel[3] if node.op == "DepthwiseConv2dNative" else kernel[3]
    return _windowed(node, values[0].shape, kernel[:2], depth)


def _pool(node: Any, values: list[Value]) -> Value:
    height, width, channels = _axes(node)
    kernel = attribute(node, "ksize").list.i
    shape = values[0].shape
    return _windowed(node, shape, (kernel[height], kernel[width]), shape[channels])


def _windowed(node: Any, shape: Sizes, kernel: Sequence[int], depth: int) -> Value:
    height, width, channels = _axes(node)
    result = list(shape)
    result[channels] = depth
    padding = attribute(node, "padding").s
    strides = attribute(node, "strides").list.i
    dilations = attribute(node, "dilations").list.i or (1, 1, 1, 1)
    if padding not in (b"SAME", b"VALID", b"EXPLICIT"):
        raise UntraceableError(node.name)
    explicit = attribute(node, "explicit_paddings").list.i if padding == b"EXPLICIT" else [0] * 8
    for axis, side in zip((height, width), kernel, strict=True):
        if padding == b"SAME":
            result[axis] = -(-shape[axis] // strides[axis])
        else:
            reach = (side - 1) * dilations[axis] + 1
            room = shape[axis] + explicit[2 * axis] + explicit[2 * axis + 1] - reach
            result[axis] = room // strides[axis] + 1
    return Value(tuple(result))


def _matmul(node: Any, values: list[Value]) -> Value:
    shapes = []
    for value, key in zip(values, ("transpose_a", "transpose_b"), strict=True):
        rows, columns = value.shape
        flip = attribute(node, key).b
        shapes.append((columns, rows) if flip else (rows, columns))
    if shapes[0][1] != shapes[1][0]:
        raise UntraceableError(node.name)
    return Value((shapes[0][0], shapes[1][1]))


def _pad(node: Any, values: list[Value]) -> Value:
    amounts = _numbers(values[1])
    pairs = zip(values[0].shape, amounts[::2], amounts[1::2], strict=True)
    return Value(tuple(size + before + after for size, before, after in pairs))


def _concat(node: Any, values: list[Value]) -> Value:
    *parts, where = values
    (axis,) = _numbers(where)
    result = list(parts[0].shape)
    result[axis] = sum(part.shape[axis] for part in parts)
    known = [part.numbers for part in parts if part.numbers is not None]
    numbers = sum(known, ()) if len(known) == len(parts) and len(result) == 1 else None
    return Value(tuple(result), numbers)


def _reduce(node: Any, values: list[Value]) -> Value:
    shape = values[0].shape
    axes = {axis % len(shape) for axis in _numbers(values[1])} if shape else set()
    keep = attribute(node, "keep_dims").b
    result = [
        1 if axis in axes else size for axis, size in enumerate(shape) if keep or axis not in axes
    ]
    whole = node.op == "Prod" and values[0].numbers is not None and axes == {0}
    return Value(tuple(result), (math.prod(values[0].numbers or ()),) if whole else None)


def _strided_slice(node: Any, values: list[Value]) -> Value:
    shape = values[0].shape
    begins, ends, steps = (_numbers(value) for value in values[1:4])
    masks = {
        key: attribute(node, f"{key}_mask").i
        for key in ("begin", "end", "ellipsis", "new_axis", "shrink_axis")
    }
    if masks["ellipsis"] or masks["new_axis"]:
        raise UntraceableError(node.name)
    result: list[int] = []
    numbers = values[0].numbers
    for axis, size in enumerate(shape):
        if axis >= len(begins):
            result.append(size)
            continue
        bit = 1 << axis
        if masks["shrink_axis"] & bit:
            chosen = range(size)[begins[axis] : begins[axis] + 1 or None]
        else:
            begin = None if masks["begin"] & bit else begins[axis]
            end = None if masks["end"] & bit else ends[axis]
            chosen = range(size)[begin : end : steps[axis]]
            result.append(len(chosen))
        if len(shape) == 1 and numbers is not None:
            numbers = tuple(numbers[at] for at in chosen)
    return Value(tuple(result), numbers if len(shape) == 1 else None)


def _slice(node: Any, values: list[Value]) -> Value:
    begins, sizes = _numbers(values[1]), _numbers(values[2])
    parts = zip(values[0].shape, begins, sizes, strict=True)
    return Value(tuple(whole - at if size < 0 else size for whole, at, size in parts))


def _split(node: Any, values: list[Value]) -> list[Value]:
    (axis,) = _numbers(values[0])
    count = attribute(node, "num_split").i
    shape = list(values[1].shape)
    shape[axis], rest = divmod(shape[axis], count)
    if rest or not 0 < count <= 10_000:
        raise UntraceableError(node.name)
    return [Value(tuple(shape))] * count


def _reshape(node: Any, values: list[Value]) -> Value:
    wanted = list(_numbers(values[1]))
    if -1 in wanted:
        rest = math.prod(size for size in wanted if size != -1)
        wanted[wanted.index(-1)] = math.prod(values[0].shape) // rest
    if math.prod(wanted) != math.prod(values[0].shape):
        raise UntraceableError(node.name)
    return Value(tuple(wanted), values[0].numbers)


def _squeeze(node: Any, values: list[Value]) -> Value:
    shape = values[0].shape
    listed = attribute(node, "squeeze_dims").list.i
    axes = {axis % len(shape) for axis in listed} or {
        a for a, size in enumerate(shape) if size == 1
    }
    return Value(
        tuple(size for axis, size in enumerate(shape) if axis not in axes), values[0].numbers
    )


def _expand(node: Any, values: list[Value]) -> Value:
    shape = list(values[0].shape)
    (axis,) = _numbers(values[1])
    shape.insert(axis % (len(shape) + 1), 1)
    return Value(tuple(shape), values[0].numbers)


def _transpose(node: Any, values: list[Value]) -> Value:
    return Value(tuple(values[0].shape[axis] for axis in _numbers(values[1])))


def _shape_of(node: Any, values: list[Value]) -> Value:
    return Value((len(values[0].shape),), values[0].shape)


def _pack(node: Any, values: list[Value]) -> Value:
    axis = attribute(node, "axis").i
    shape = list(values[0].shape)
    shape.insert(axis % (len(shape) + 1), len(values))
    scalars = [value.numbers for value in values if value.numbers and not value.shape]
    whole = len(scalars) == len(values)
    return Value(tuple(shape), sum(scalars, ()) if whole else None)


def _resize(node: Any, values: list[Value]) -> Value:
    batch, _, _, channels = values[0].shape
    height, width = _numbers(values[1])
    return Value((batch, height, width, channels))


def _numbers(value: Value) -> Sizes:
    if value.numbers is None:
        raise UntraceableError("a shape that is computed")
    return value.numbers


# The result has the shape of the first input.
_SAME_SHAPE = """
    Abs BiasAdd CheckNumerics ClipByValue Elu EnsureShape Erf Exp Floor FusedBatchNorm
    FusedBatchNormV2 FusedBatchNormV3 GuaranteeConst LRN LeakyRelu Log LogSoftmax Neg
    PlaceholderWithDefault PreventGradient ReadVariableOp Reciprocal Relu Relu6 Round Rsqrt Selu
    Sigmoid Sign Snapshot Softmax Softplus Softsign Sqrt Square StopGradient Tanh
"""
_BROADCASTING = """
    Add AddN AddV2 Div DivNoNan FloorDiv FloorMod Maximum Minimum Mul Pow RealDiv
    SquaredDifference Sub
"""
_SAME = frozenset(_SAME_SHAPE.split())
_ELEMENTWISE = frozenset(_BROADCASTING.split())
_RULES: dict[str, Callable[[Any, list[Value]], Value]] = {
    **dict.fromkeys(("Conv2D", "DepthwiseConv2dNative"), _convolution),
    **dict.fromkeys(("AvgPool", "MaxPool"), _pool),
    **dict.fromkeys(("Pad", "PadV2", "MirrorPad"), _pad),
    **dict.fromkeys(("Max", "Mean", "Min", "Prod", "Sum"), _reduce),
    **dict.fromkeys(("ResizeBilinear", "ResizeBicubic", "ResizeNearestNeighbor"), _resize),
    "ConcatV2": _concat,
    "ExpandDims": _expand,
    "MatMul": _matmul,
    "Pack": _pack,
    "Reshape": _reshape,
    "Shape": _shape_of,
    "Slice": _slice,
    "Squeeze": _squeeze,
    "StridedSlice": _strided_slice,
    "Transpose": _transpose,
}
