"""Changes of a model's constants: a shape without its bytes, or bytes without their shape.

Unlike damage anywhere in a file, it leaves a file that every reader takes for whole.
"""

from __future__ import annotations

import random
import re
from typing import Any

_SIZES = (0, 1, 2, 3, 7, 8, 255, 65536, 2**31 - 1, 2**31, 2**32, 2**61, 2**62, 2**63 - 1)


def mutate_constant(name: str, data: bytes, chance: random.Random) -> bytes:
    """Change a shape or the bytes of a constant in a file; name is that of its form."""
    return _MUTATORS[name](data, chance)


def _shape(sizes: list[int], chance: random.Random, largest: int = 2**63 - 1) -> list[int]:
    """Return another shape: one size changed, added or left out."""
    result = list(sizes)
    value = min(chance.choice((*_SIZES, *(size + 1 for size in sizes))), largest)
    at = chance.randrange(len(result) + 1)
    result[at : at + chance.choice((0, 1))] = [value] if chance.random() < 0.8 else []
    return result


def _bytes(data: bytes, chance: random.Random) -> bytes:
    """Return other bytes: none, fewer or more."""
    return chance.choice((b"", data[:-1], data[: len(data) // 2], data + b"\0", data * 2))


def _onnx(data: bytes, chance: random.Random) -> bytes:
    import onnx

    model = onnx.ModelProto.FromString(data)
    tensor = chance.choice(model.graph.initializer)
    what = chance.randrange(3)
    if what == 0:
        dims = _shape(list(tensor.dims), chance)
        del tensor.dims[:]
        tensor.dims.extend(dims)
    elif what == 1:
        tensor.raw_data = _bytes(tensor.raw_data, chance)
    else:
        tensor.data_type = chance.randrange(1, 30)
    return bytes(model.SerializeToString())


def _openvino(data: bytes, chance: random.Random) -> bytes:
    """Change an attribute of a constant in an .xml; a .bin is cut or made longer."""
    constants = list(re.finditer(rb'<data element_type="[^>]*offset[^>]*>', data))
    if not constants:
        return _bytes(data, chance)
    start, end = chance.choice(constants).span()
    piece = data[start:end]
    key = chance.choice((b"shape", b"offset", b"size", b"element_type"))
    match = re.search(key + rb'="([^"]*)"', piece)
    assert match is not None
    if key == b"shape":
        sizes = [int(number) for number in match[1].split(b",") if number]
        value = b",".join(b"%d" % size for size in _shape(sizes, chance))
    elif key == b"element_type":
        value = chance.choice((b"u1", b"i4", b"nf4", b"u8", b"f16", b"i64", b"f64", b"string"))
    else:
        value = b"%d" % chance.choice((*_SIZES, 2**64 - 1, int(match[1]) + 4))
    return data[: start + match.start(1)] + value + data[start + match.end(1) :]


def _tflite(data: bytes, chance: random.Random) -> bytes:
    import flatbuffers
    from tensorflow.lite.python import schema_py_generated as schema

    model: Any = schema.ModelT.InitFromPackedBuf(data)
    tensors = [t for t in model.subgraphs[0].tensors if model.buffers[t.buffer].data is not None]
    tensor = chance.choice(tensors)
    buffer = model.buffers[tensor.buffer]
    what = chance.randrange(3)
    if what == 0:
        shape = [] if tensor.shape is None else [int(size) for size in tensor.shape]
        tensor.shape = _shape(shape, chance, 2**31 - 1)
    elif what == 1:
        buffer.data = list(_bytes(bytes(buffer.data), chance))
    else:
        tensor.type = chance.randrange(21)
    builder = flatbuffers.Builder(len(data))
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _saved_model(data: bytes, chance: random.Random) -> bytes:
    from nasnet_cli.models.savedmodel.schema import message

    model = message("SavedModel").FromString(data)
    graph = chance.choice(model.meta_graphs).graph_def
    nodes = [*graph.node, *(node for f in graph.library.function for node in f.node_def)]
    node = chance.choice([n for n in nodes if n.op in ("Const", "VarHandleOp")])
    if node.op == "VarHandleOp":
        _reshape(node.attr["shape"].shape, chance)
        return bytes(model.SerializeToString())
    tensor = node.attr["value"].tensor
    what = chance.randrange(3)
    if what == 0:
        _reshape(tensor.tensor_shape, chance)
    elif what == 1:
        tensor.tensor_content = _bytes(tensor.tensor_content or b"\0\0\0\0", chance)
    else:
        tensor.dtype = node.attr["dtype"].type = chance.randrange(1, 34)
    return bytes(model.SerializeToString())


def _reshape(shape: Any, chance: random.Random) -> None:
    sizes = _shape([dim.size for dim in shape.dim], chance)
    del shape.dim[:]
    for size in sizes:
        shape.dim.add(size=size)


_MUTATORS = {
    "onnx": _onnx,
    "openvino": _openvino,
    "saved-model": _saved_model,
    "tf1-hub": _saved_model,
    "tflite": _tflite,
}
FILES = {
    "onnx": ("m.onnx",),
    "openvino": ("m.bin", "m.xml", "m.xml", "m.xml"),
    "saved-model": ("m/saved_model.pb",),
    "tf1-hub": ("m/saved_model.pb",),
    "tflite": ("m.tflite",),
}
"""The files of a form that hold constants, as often as each is to be chosen."""
