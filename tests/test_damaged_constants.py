"""Constants whose bytes are not what their shapes need are refused before a runtime sees them."""

from __future__ import annotations

import contextlib
import random
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from faults import constants as mutators
from nasnet_cli.errors import ModelError
from nasnet_cli.models.formats.table import FORMATS
from nasnet_cli.models.safety.constants import check_onnx, check_saved_model
from nasnet_cli.models.safety.tflite import check_tflite
from nasnet_cli.models.savedmodel import schema
from support import crafted
from support.modules import FILES

PHOTO = next((Path(__file__).parents[1] / "examples" / "photos").glob("*.jpg"))
HUGE = 2**60


@pytest.fixture(scope="module")
def exported(runtime_files: Path) -> Callable[[str], Path]:
    """Return the path of the tiny module's file in a format."""
    return lambda name: runtime_files / FILES[name]


@pytest.fixture(scope="module")
def small_saved_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SavedModel with constants and variables in its graph and constants in its functions.

    TensorFlow takes much longer for the hundreds of functions of a network.
    """
    from nasnet_cli.quiet import tf

    module = tf.Module()
    module.kernel = tf.Variable(np.ones((3, 4), np.float32))
    module.bias = tf.Variable(np.zeros(4, np.float32))

    @tf.function(input_signature=[tf.TensorSpec((None, 3), tf.float32)])
    def outputs(images: Any) -> Any:
        scaled = images * np.float32([1, 2, 3]) - np.float32(1)
        return tf.concat([tf.matmul(scaled, module.kernel) + module.bias, scaled], 1)

    module.outputs = outputs
    folder = tmp_path_factory.mktemp("small") / "m"
    tf.saved_model.save(module, folder, signatures=outputs)
    return folder


def _copy(path: Path, folder: Path, data: bytes) -> Path:
    """Copy a file and its companions to a folder, with other content."""
    for file in path.parent.glob(f"{path.stem}.*"):
        (folder / file.name).write_bytes(file.read_bytes())
    (folder / path.name).write_bytes(data)
    return folder / path.name


def _refused(nasnet: Any, path: Path) -> str:
    inspected = nasnet("inspect", path, expect=1)
    classified = nasnet("classify", PHOTO, "--model", path, expect=1)
    assert classified.stderr == inspected.stderr
    assert "is damaged: the constant" in classified.stderr
    return str(classified.stderr)


# OpenVINO


@pytest.mark.parametrize(
    ("pattern", "new", "said"),
    [
        (
            rb'shape="[^"]*"',
            b'shape="4611686018427387904,4"',
            "its shape needs 7378697629483820646",
        ),
        (rb'shape="[^"]*"', b'shape="-1"', "has no shape"),
        (rb'shape="[^"]*"', b'shape="12345, 1"', "its shape needs 49380"),
        (rb'size="\d+"', b'size="+4"', "has no place"),
        (rb'offset="\d+"', b'offset="0x10"', "has no place"),
        (rb'element_type="\w+"', b'element_type="f31"', "unknown type 'f31'"),
        (rb'element_type="\w+"', b'element_type="f64"', "its shape needs"),
    ],
)
def test_openvino_constants_need_their_bytes(
    nasnet: Any, exported: Any, tmp_path: Path, pattern: bytes, new: bytes, said: str
) -> None:
    data = exported("openvino").read_bytes()
    (constant, *_) = re.findall(rb'<data element_type="f32"[^>]*offset[^>]*>', data)
    changed = data.replace(constant, re.sub(pattern, new, constant, count=1), 1)
    assert said in _refused(nasnet, _copy(exported("openvino"), tmp_path, changed))


def test_openvino_type_in_capitals_is_a_constant_too(
    nasnet: Any, exported: Any, tmp_path: Path
) -> None:
    data = exported("openvino").read_bytes()
    changed = data.replace(b'type="Const"', b'type="CONST"')
    changed = re.sub(rb'(<data element_type="f32" shape=")[^"]*', rb"\g<1>9", changed, count=1)
    _refused(nasnet, _copy(exported("openvino"), tmp_path, changed.replace(b" size=", b"  size=")))


def test_openvino_doctype_is_refused(nasnet: Any, exported: Any, tmp_path: Path) -> None:
    data = exported("openvino").read_bytes()
    head = b'<!DOCTYPE net [<!ATTLIST data shape CDATA "1">]>'
    changed = data.replace(b"<layers>", head + b"<layers>", 1)
    said = nasnet("inspect", _copy(exported("openvino"), tmp_path, changed), expect=1).stderr
    assert "broken" in said or "DOCTYPE" in said


# TFLite


def _tflite(data: bytes, change: Callable[[Any, Any], None]) -> bytes:
    """Change the first constant of floats: its tensor and its buffer."""
    import flatbuffers
    from tensorflow.lite.python import schema_py_generated as tflite

    model: Any = tflite.ModelT.InitFromPackedBuf(data)
    tensor = next(
        tensor
        for tensor in model.subgraphs[0].tensors
        if tensor.type == 0 and model.buffers[tensor.buffer].data is not None
    )
    change(tensor, model.buffers[tensor.buffer])
    builder = flatbuffers.Builder(len(data))
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _set(**fields: Any) -> Callable[[Any, Any], None]:
    def change(tensor: Any, buffer: Any) -> None:
        for name, value in fields.items():
            setattr(buffer if name in ("data", "offset", "size") else tensor, name, value)

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_set(shape=[2**31 - 1] * 3), "its shape needs 396140812"),
        (_set(shape=[-4]), "negative sizes"),
        (_set(data=None), "has no bytes"),
        (_set(data=[]), "has no bytes"),
        (_set(data=[0] * 4), "has 4 bytes"),
        (_set(type=10), "its shape needs"),
        (_set(type=13), "which has no bytes"),
        (_set(buffer=100_000), "lies in buffer 100000"),
        (_set(externalBuffer=1), "lies in another file"),
        (_set(offset=2**40, size=16), "has 0 bytes of 16"),
    ],
)
def test_tflite_constants_need_their_bytes(
    nasnet: Any, tmp_path: Path, change: Any, said: str
) -> None:
    path = tmp_path / "m.tflite"
    path.write_bytes(_tflite(_packed((32,), 0, bytes(128)), change))
    assert said in _refused(nasnet, path)


def _packed(shape: Sequence[int], type_: int, data: bytes, sparsity: Any = None) -> bytes:
    """Return a TFLite file with one constant, which is an output."""
    import flatbuffers
    from tensorflow.lite.python import schema_py_generated as tflite

    tensor = tflite.TensorT()
    tensor.shape, tensor.type, tensor.buffer, tensor.name = list(shape), type_, 1, "constant"
    tensor.sparsity = sparsity
    graph, model = tflite.SubGraphT(), tflite.ModelT()
    graph.tensors, graph.inputs, graph.outputs, graph.operators = [tensor], [], [0], []
    full = tflite.BufferT()
    full.data = list(data)
    model.subgraphs, model.buffers = [graph], [tflite.BufferT(), full]
    model.version, model.operatorCodes, model.description = 3, [], ""
    builder = flatbuffers.Builder(0)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _sparsity(segments: list[int], indices: list[int], rows: int = 3) -> Any:
    """Return the sparsity of a matrix of dense rows, each with some columns."""
    from tensorflow.lite.python import schema_py_generated as tflite

    dense, sparse = tflite.DimensionMetadataT(), tflite.DimensionMetadataT()
    dense.format, dense.denseSize = 0, rows
    sparse.format = 1
    sparse.arraySegmentsType, sparse.arrayIndicesType = 1, 3
    sparse.arraySegments, sparse.arrayIndices = tflite.Int32VectorT(), tflite.Uint8VectorT()
    sparse.arraySegments.values, sparse.arrayIndices.values = segments, indices
    result = tflite.SparsityParametersT()
    result.traversalOrder, result.blockMap, result.dimMetadata = [0, 1], [], [dense, sparse]
    return result


@pytest.mark.parametrize(
    ("shape", "type_", "data"),
    [
        ((3,), 17, b"12"),  # int4: two in a byte
        ((5,), 19, b"12"),  # int2
        ((), 0, b"1234"),
        ((2, 0), 0, b""),
        ((2,), 5, b"\2\0\0\0\x10\0\0\0\x11\0\0\0\x13\0\0\0abc"),
    ],
)
def test_tflite_short_forms_are_allowed(
    tmp_path: Path, shape: tuple[int, ...], type_: int, data: bytes
) -> None:
    path = tmp_path / "m.tflite"
    path.write_bytes(_packed(shape, type_, data))
    check_tflite(path, path.read_bytes())
    if data:
        path.write_bytes(_packed(shape, type_, data[:-1]))
        with pytest.raises(ModelError):
            check_tflite(path, path.read_bytes())


def test_tflite_sparse_tensors_are_followed(tmp_path: Path) -> None:
    path = tmp_path / "m.tflite"
    path.write_bytes(_packed((3, 4), 9, b"abc", _sparsity([0, 1, 1, 3], [3, 0, 2])))
    check_tflite(path, path.read_bytes())
    for data, segments, indices in (
        (b"ab", [0, 1, 1, 3], [3, 0, 2]),
        (b"abc", [0, 1, 1, 3], [4, 0, 2]),
        (b"abc", [0, 3, 1, 3], [3, 0, 2]),
        (b"abc", [0, 1, 3], [3, 0, 2]),
        (b"abc", [0, 1, 1, 4], [3, 0, 2]),
    ):
        path.write_bytes(_packed((3, 4), 9, data, _sparsity(segments, indices)))
        with pytest.raises(ModelError):
            check_tflite(path, path.read_bytes())


@pytest.mark.slow
def test_tflite_with_any_offset_changed_ends_in_a_sentence(exported: Any, tmp_path: Path) -> None:
    data = exported("tflite").read_bytes()
    path = tmp_path / "m.tflite"
    chance = random.Random(1)
    for _ in range(300):
        changed = bytearray(data)
        at = chance.randrange(len(data) - 4)
        changed[at : at + 4] = chance.choice((b"\xff" * 4, b"\0" * 4, chance.randbytes(4)))
        path.write_bytes(changed)
        with contextlib.suppress(ModelError):
            check_tflite(path, path.read_bytes())


# ONNX


def _onnx_model(data: bytes, **fields: Any) -> bytes:
    """Change fields of the first initializer of floats."""
    import onnx

    model = onnx.ModelProto.FromString(data)
    tensor = next(t for t in model.graph.initializer if t.data_type == 1 and len(t.raw_data) > 4)
    for name, value in fields.items():
        if isinstance(value, list):
            tensor.ClearField(name)
            getattr(tensor, name).extend(value)
        else:
            setattr(tensor, name, value)
    return bytes(model.SerializeToString())


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"dims": [2**62, 4]}, "its shape needs 737869762948382064"),
        ({"dims": [-1]}, "negative sizes"),
        ({"raw_data": b""}, "has 0 values"),
        ({"raw_data": b"1234"}, "has 4 bytes"),
        ({"data_type": 11}, "its shape needs"),
        ({"data_type": 99}, "unknown type 99"),
        ({"data_type": 8}, "has its values twice"),
        ({"float_data": [1.0]}, "has its values twice"),
        ({"raw_data": b"", "int64_data": [1]}, "values of another type"),
    ],
)
def test_onnx_constants_need_their_bytes(
    nasnet: Any, exported: Any, tmp_path: Path, fields: dict[str, Any], said: str
) -> None:
    changed = _onnx_model(exported("onnx").read_bytes(), **fields)
    assert said in _refused(nasnet, _copy(exported("onnx"), tmp_path, changed))


def _onnx_tensor(**fields: Any) -> Any:
    return schema.message("OnnxTensor")(**fields)


@pytest.mark.parametrize(
    "fields",
    [
        {"data_type": 22, "dims": [3], "int32_data": [1, 2]},
        {"data_type": 22, "dims": [3], "raw_data": b"12"},
        {"data_type": 10, "dims": [2], "int32_data": [1, 2]},
        {"data_type": 14, "dims": [2], "float_data": [1, 2, 3, 4]},
        {"data_type": 8, "dims": [2], "string_data": [b"a", b""]},
        {"data_type": 1, "dims": [0]},
        {"data_type": 7, "int64_data": [5]},
    ],
)
def test_onnx_short_forms_are_allowed(fields: dict[str, Any]) -> None:
    check_onnx(Path("m"), [_onnx_tensor(**fields)], [])
    with pytest.raises(ModelError):
        check_onnx(Path("m"), [_onnx_tensor(**{**fields, "dims": [9]})], [])


def test_onnx_sparse_tensors_stay_in_their_shape() -> None:
    def check(dims: list[int], shape: list[int], places: list[int]) -> None:
        values = _onnx_tensor(data_type=1, dims=[2], float_data=[1, 2])
        indices = _onnx_tensor(data_type=7, dims=shape, int64_data=places)
        sparse = schema.message("OnnxSparseTensor")(values=values, indices=indices, dims=dims)
        check_onnx(Path("m"), [values, indices], [sparse])

    check([3, 4], [2], [0, 11])
    check([3, 4], [2, 2], [0, 0, 2, 3])
    for arguments in (
        ([3, 4], [2], [0, 12]),
        ([3, 4], [2], [-1, 0]),
        ([3, 4], [2, 2], [0, 0, 3, 0]),
        ([3, 4], [1], [0]),
        ([HUGE], [2], [0, 1]),
    ):
        with pytest.raises(ModelError):
            check(*arguments)


# SavedModels


def _constant(dtype: int, *sizes: int, **fields: Any) -> Any:
    """Return a graph with one constant."""
    tensor = schema.message("TensorProto")(dtype=dtype, **fields)
    for size in sizes:
        tensor.tensor_shape.dim.add(size=size)
    node = crafted.node("constant", "Const")
    node.attr["value"].tensor.CopyFrom(tensor)
    node.attr["dtype"].type = dtype
    return crafted.meta_graph([node])


@pytest.mark.parametrize(
    "graph",
    [
        _constant(1, 1000, float_val=[1.5]),
        _constant(1, 1000),
        _constant(1, 2, tensor_content=b"12345678"),
        _constant(29, 3, tensor_content=b"123"),
        _constant(8, 3, scomplex_val=[1, 2]),
        _constant(7, 2, string_val=[b"a"]),
        _constant(19, 4, half_val=[1, 2]),
        _constant(10, bool_val=[True]),
        _constant(20),
    ],
)
def test_tensorflow_repeats_the_last_value(graph: Any) -> None:
    check_saved_model(Path("m"), [graph])


@pytest.mark.parametrize(
    "graph",
    [
        _constant(1, 2, tensor_content=b"1234567"),
        _constant(1, 2**32, 2**32, tensor_content=b"12345678"),
        _constant(1, 2**32, 2**30, float_val=[1]),
        _constant(1, -1, float_val=[1]),
        _constant(1, 2, float_val=[1, 2, 3]),
        _constant(1, 2, int_val=[1, 2]),
        _constant(1, 1, float_val=[1], tensor_content=b"1234"),
        _constant(7, 9, tensor_content=b"12345678"),
        _constant(20, tensor_content=b"1"),
    ],
)
def test_tensorflow_constants_need_their_bytes(graph: Any) -> None:
    with pytest.raises(ModelError, match="the constant 'constant'"):
        check_saved_model(Path("m"), [graph])


def test_constants_of_functions_count() -> None:
    graph = _constant(1, 2, tensor_content=b"1")
    node = graph.graph_def.node[0]
    inner = crafted.meta_graph([])
    inner.graph_def.library.function.append(crafted.function("f", [], node))
    with pytest.raises(ModelError):
        check_saved_model(Path("m"), [inner])
    listed = crafted.meta_graph([crafted.node("n", "NoOp")])
    listed.graph_def.node[0].attr["x"].list.tensor.append(node.attr["value"].tensor)
    with pytest.raises(ModelError):
        check_saved_model(Path("m"), [listed])


def test_damaged_constants_are_refused_even_if_operations_are_allowed(
    nasnet: Any, tiny_module: Path, tmp_path: Path
) -> None:
    (tmp_path / "m" / "variables").mkdir(parents=True)
    for file in tiny_module.rglob("*"):
        if file.is_file():
            copy = tmp_path / "m" / file.relative_to(tiny_module)
            copy.parent.mkdir(exist_ok=True)
            copy.write_bytes(file.read_bytes())
    pb = tmp_path / "m" / "saved_model.pb"
    model = schema.parse("SavedModel", pb.read_bytes())
    for graph in model.meta_graphs:
        node = next(node for node in graph.graph_def.node if node.op == "Const")
        node.attr["value"].tensor.tensor_content = b"123"
    pb.write_bytes(model.SerializeToString())
    _refused(nasnet, tmp_path / "m")
    said = nasnet("classify", PHOTO, "--model", tmp_path / "m", "--allow-unsafe-ops", expect=1)
    assert "the constant" in said.stderr


# All of them


@pytest.mark.parametrize("name", sorted(mutators.FILES))
def test_changed_constants_never_reach_a_runtime(
    tiny_module: Path, small_saved_model: Path, exported: Any, tmp_path: Path, name: str
) -> None:
    """A few changes of each kind; `make fuzz` makes many more."""
    if name in ("tf1-hub", "saved-model"):
        source = tiny_module if name == "tf1-hub" else small_saved_model
        path, data = source / "saved_model.pb", (source / "saved_model.pb").read_bytes()
    else:
        path, data = exported(name), exported(name).read_bytes()
    chance = random.Random(7)
    refused = 0
    for _ in range(20):
        changed = mutators.mutate_constant(name, data, chance)
        copy = _copy(path, tmp_path, changed) if path.suffix != ".pb" else path
        try:
            if path.suffix == ".pb":
                check_saved_model(path, schema.parse("SavedModel", changed).meta_graphs)
            else:
                FORMATS[name].open(copy)
        except ModelError:
            refused += 1
    assert refused >= 8


def test_what_numpy_writes_is_whole(tmp_path: Path) -> None:
    from nasnet_cli.quiet import tf

    for kind in ("float16", "float64", "int8", "uint32", "uint64", "complex128", "bool"):
        for values in (np.zeros((3, 4), kind), np.arange(12).reshape(3, 4).astype(kind)):
            made = tf.make_tensor_proto(values)
            content = schema.parse("TensorProto", made.SerializeToString())
            node = crafted.node("constant", "Const")
            node.attr["value"].tensor.CopyFrom(content)
            node.attr["dtype"].type = content.dtype
            check_saved_model(Path("m"), [crafted.meta_graph([node])])
