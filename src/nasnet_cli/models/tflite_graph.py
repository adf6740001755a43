"""The content of TFLite files: tensors with their quantization, operations, metadata.

The numbers of fields and operations are those of TensorFlow's schema.fbs and of tflite-support's
metadata_schema.fbs.
"""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from nasnet_cli.models.flatbuffer import Table, root
from nasnet_cli.models.outputs import Operation
from nasnet_cli.models.values import Scaling, range_in_metadata

_DTYPES = {
    0: "float32", 1: "float16", 2: "int32", 3: "uint8", 4: "int64", 5: "string", 6: "bool",
    7: "int16", 8: "complex64", 9: "int8", 10: "float64", 11: "complex128", 12: "uint64",
    13: "resource", 14: "variant", 15: "uint32", 16: "uint16", 17: "int4", 18: "bfloat16",
}  # fmt: skip
_QUANTIZED = ("uint8", "int8", "int16", "int4")
# The names that outputs.py has, of operations that may end a network.
_OPERATIONS = {
    0: "Add", 1: "AvgPool", 2: "Concat", 3: "Conv", 4: "DepthwiseConv", 6: "Dequantize",
    9: "MatMul", 11: "L2Normalization", 14: "Sigmoid", 17: "MaxPool", 18: "Mul", 19: "Relu",
    21: "Relu6", 22: "Reshape", 23: "Resize", 25: "Softmax", 28: "Tanh", 34: "Pad", 36: "Gather",
    39: "Transpose", 40: "Mean", 41: "Sub", 42: "Div", 43: "Squeeze", 45: "StridedSlice",
    47: "Exp", 48: "TopKV2", 49: "Split", 50: "LogSoftmax", 53: "Cast", 55: "Maximum",
    56: "ArgMax", 57: "Minimum", 65: "Slice", 70: "ExpandDims", 73: "Log", 74: "Sum", 78: "Pow",
    79: "ArgMin", 80: "FakeQuantize", 82: "Max", 83: "Pack", 85: "OneHot", 102: "SplitV",
    106: "AddN", 114: "Quantize", 126: "BatchMatMul",
}  # fmt: skip
_SCALINGS = {"Add": "Add", "Div": "Divide", "Mul": "Multiply", "Sub": "Subtract"}
# What comes before and between the scaling of images, and changes no value.
_PLAIN = ("Cast", "FakeQuantize", "Maximum", "Minimum", "Pad", "Reshape", "Resize", "Transpose")
_METADATA = "TFLITE_METADATA"
_NORMALIZATION, _AXIS_LABELS, _VALUE_LABELS = 1, 2, 3
_LABELS_LIMIT = 10_000_000


class LiteTensor(NamedTuple):
    """A tensor: shape has None for an open size; scales and zero_points are empty for floats.

    data has the values of a constant, None for what is computed.
    """

    name: str
    dtype: str
    shape: tuple[int | None, ...]
    scales: tuple[float, ...]
    zero_points: tuple[int, ...]
    data: memoryview | None

    @property
    def is_quantized(self) -> bool:
        """True for integers that stand for numbers by a scale."""
        return self.dtype in _QUANTIZED and bool(self.scales)

    @property
    def zero_point(self) -> int:
        """The integer that stands for 0, of a tensor with one scale."""
        return self.zero_points[0] if self.zero_points else 0


class Normalization(NamedTuple):
    """Metadata on the images: the range of their values; "rgb" where it says so."""

    range: str | None = None
    channels: str | None = None


@dataclass(frozen=True, eq=False)
class LiteGraph:
    """The first subgraph of a TFLite file: tensors, and its operations as their type, inputs and
    outputs (numbers of tensors, -1 for none)."""

    tensors: tuple[LiteTensor, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    operations: tuple[tuple[str, tuple[int, ...], tuple[int, ...]], ...]
    normalization: Normalization
    label_files: tuple[str, ...]

    @property
    def is_quantized(self) -> bool:
        """True if anything is computed in integers, or from weights in integers."""
        return any(tensor.is_quantized for tensor in self.tensors)

    @property
    def parameters(self) -> int:
        """The count of numbers in its constants, without single numbers and shapes."""
        constants = (tensor for tensor in self.tensors if tensor.data is not None)
        weights = (t for t in constants if t.scales or t.dtype.startswith(("float", "bfloat")))
        sizes = (math.prod(size or 0 for size in tensor.shape) for tensor in weights)
        return sum(size for size in sizes if size > 1)

    @cached_property
    def _makers(self) -> dict[int, tuple[str, tuple[int, ...]]]:
        return {out: (kind, inputs) for kind, inputs, outs in self.operations for out in outs}

    def before(self, tensor: int) -> Operation:
        """Return the operation that computes a tensor, to be followed backwards."""
        maker = self._makers.get(tensor)
        if maker is None:
            is_constant = 0 <= tensor < len(self.tensors) and self.tensors[tensor].data is not None
            return Operation("Const" if is_constant else "", list)
        kind, inputs = maker
        if kind == "Split":  # the axis comes first
            inputs = inputs[::-1]
        return Operation(kind, lambda: [self.before(each) for each in inputs])

    def stated_values(self) -> tuple[str | None, str | None]:
        """Return the range and the channels that a graph of floats takes, by what it does with them
        first; None for what it doesn't tell."""
        number, scaling = self.inputs[0], Scaling()
        for kind, inputs, outputs in self.operations:
            if number not in inputs:
                continue
            others = [self.tensors[each] for each in inputs if each not in (number, -1)]
            if kind in _SCALINGS and len(inputs) == 2 and others and others[0].dtype == "float32":
                data = others[0].data
                numbers = data.cast("f") if data and len(data) in (4, 12) else memoryview(b"")
                if not scaling.apply(_SCALINGS[kind], [*numbers], is_first=inputs[1] == number):
                    break
            elif kind not in _PLAIN:
                break
            number = outputs[0]
        return scaling.stated()

    def entry_quantization(self) -> tuple[str, float, int] | None:
        """Return the type, scale and zero point of the images as they enter the network.

        For images of floats they are those of the operation that quantizes them. None without.
        """
        number = self.inputs[0]
        for kind, inputs, outputs in self.operations:
            if number in inputs and kind == "Quantize" and not self.tensors[number].is_quantized:
                number = outputs[0]
                break
        tensor = self.tensors[number]
        if (
            not tensor.is_quantized
            or len(tensor.scales) != 1
            or not 0 < tensor.scales[0] < math.inf
        ):
            return None
        return tensor.dtype, tensor.scales[0], tensor.zero_point


def read_lite_graph(data: bytes) -> LiteGraph:
    """Read a TFLite file, whose constants safety/tflite.py has checked.

    Raises ValueError, saying what is wrong, when it is damaged.
    """
    view = memoryview(data)
    model = root(view, b"TFL3")
    subgraphs = model.tables(2)
    if not subgraphs:
        raise ValueError("it has no graph")
    codes = [_operation(code) for code in model.tables(1)]
    buffers = [buffer_content(buffer, view) or None for buffer in model.tables(4)]
    tensors = tuple(_tensor(table, buffers) for graph in subgraphs[:1] for table in graph.tables(0))
    graph = subgraphs[0]
    operations = []
    for table in graph.tables(3):
        code = table.number(0, "I")
        inputs, outputs = _indices(table, 1), _indices(table, 2)
        if code >= len(codes) or any(not -1 <= i < len(tensors) for i in (*inputs, *outputs)):
            raise ValueError("an operation names what is not there")
        operations.append((codes[code], inputs, outputs))
    inputs, outputs = _indices(graph, 1), _indices(graph, 2)
    if any(not 0 <= i < len(tensors) for i in (*inputs, *outputs)):
        raise ValueError("an input or output is not there")
    normalization, files = _metadata(model, buffers)
    return LiteGraph(tensors, inputs, outputs, tuple(operations), normalization, files)


def labels_in_file(data: bytes, graph: LiteGraph) -> Iterator[tuple[str, str]]:
    """Yield the texts of the label files that a file's metadata names, with their names.

    They lie in a zip archive behind the model.
    """
    if not graph.label_files:
        return
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            for name in graph.label_files:
                if name in archive.namelist() and archive.getinfo(name).file_size < _LABELS_LIMIT:
                    yield name, archive.read(name).decode("utf-8", "replace")
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, RuntimeError):
        return


def _indices(table: Table, slot: int) -> tuple[int, ...]:
    return table.numbers(slot, "i")


def _operation(code: Table) -> str:
    number = max(code.number(0, "b"), code.number(3, "i"))
    return _OPERATIONS.get(number, f"operation {number}")


def buffer_content(buffer: Table, file: memoryview) -> memoryview:
    """Return a buffer's bytes, which very large files have behind the flatbuffer."""
    offset, size = buffer.number(1, "Q"), buffer.number(2, "Q")
    # 0 is the default, and 1 what converters write where there is nothing.
    return file[offset : offset + size] if offset > 1 else buffer.content(0)


def _tensor(table: Table, buffers: list[memoryview | None]) -> LiteTensor:
    dtype = _DTYPES.get(table.number(1, "b"), "unknown")
    sizes = _indices(table, 0)
    signature = _indices(table, 7)
    shape = tuple(
        None if open_size < 0 else size
        for size, open_size in zip(sizes, signature or sizes, strict=False)
    )
    number = table.number(2, "I")
    if number >= len(buffers):
        raise ValueError("a constant is not there")
    data = buffers[number]
    quantization = table.table(4)
    scales = quantization.numbers(2, "f") if quantization else ()
    zero_points = quantization.numbers(3, "q") if quantization else ()
    return LiteTensor(table.text(3), dtype, shape, scales, zero_points, data)


def _metadata(
    model: Table, buffers: list[memoryview | None]
) -> tuple[Normalization, tuple[str, ...]]:
    """Return what the metadata says of images, and the names of its label files."""
    for entry in model.tables(6):
        number = entry.number(1, "I")
        data = buffers[number] if number < len(buffers) else None
        if entry.text(0) != _METADATA or data is None:
            continue
        try:
            graphs = root(data, b"M001").tables(3)
        except ValueError:
            continue
        if graphs:
            return _normalization(graphs[0].tables(2)), tuple(_label_files(graphs[0].tables(3)))
    return Normalization(), ()


def _normalization(inputs: list[Table]) -> Normalization:
    found = Normalization()
    for unit in inputs[0].tables(4) if len(inputs) == 1 else ():
        options = unit.table(1)
        if unit.number(0, "B") == _NORMALIZATION and options is not None:
            mean, std = options.numbers(0, "f"), options.numbers(1, "f")
            found = Normalization(range_in_metadata(mean, std) or found.range)
    content = inputs[0].table(3) if len(inputs) == 1 else None
    image = content.table(1) if content is not None and content.number(0, "B") == 2 else None
    if image is not None and image.number(0, "b") == 1:
        found = found._replace(channels="rgb")
    return found


def _label_files(outputs: list[Table]) -> Iterator[str]:
    """Yield the names of the files of labels: those of no language first, then English ones."""
    files = [file for output in outputs for file in output.tables(6)]
    for file in sorted(files, key=lambda file: {"": 0, "en": 1}.get(file.text(3)[:2], 2)):
        if file.number(2, "b") in (_AXIS_LABELS, _VALUE_LABELS):
            yield file.text(0)
