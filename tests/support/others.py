"""Small models as other makers write them: by ONNX' helpers, and by TensorFlow Lite's converter."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

CLASSES = 5


def kernel(seed: int = 3, classes: int = CLASSES) -> np.ndarray:
    """Return weights [3, classes] that tell colours well apart."""
    random = np.random.RandomState(seed)
    return (4 * random.uniform(-1, 1, (3, classes))).astype(np.float32)


def write_onnx(
    path: Path,
    tail: list[tuple[str, dict]],
    *,
    batch: int | str = "n",
    channels_first: bool = True,
    scaling: tuple[float, float] | None = None,
    dtype: str = "FLOAT",
    opset: int = 13,
    classes: int = CLASSES,
    metadata: dict[str, str] | None = None,
    steps: Sequence[tuple[str, Sequence[float]]] = (),
    pooled: bool = False,
) -> Path:
    """Write a model of the mean colour, followed by operations of tail (type and attributes).

    scaling multiplies the images and adds a number first, steps are operations with a number for all
    channels or one for each before that. pooled leaves the layer of classes out, so that colours are
    pooled behind an activation.
    """
    from onnx import TensorProto, helper, numpy_helper

    weights = {"w": kernel(classes=classes), "s": np.float32(1 / 256), "z": np.uint8(0)}
    nodes, last = [], "x"
    if dtype != "FLOAT":
        nodes.append(helper.make_node("Cast", [last], ["cast"], to=TensorProto.FLOAT))
        last = "cast"
    for i, (kind, numbers) in enumerate(steps):
        integers = kind == "Gather"
        values = np.array(numbers, np.int64 if integers else np.float32)
        wide = (1, -1, 1, 1) if channels_first else (-1,)
        weights[f"n{i}"] = values if integers else values.reshape(wide)
        attributes = {"axis": 1 if channels_first else 3} if integers else {}
        nodes.append(helper.make_node(kind, [last, f"n{i}"], [f"s{i}"], **attributes))
        last = f"s{i}"
    if scaling is not None:
        weights |= {"factor": np.float32(scaling[0]), "shift": np.float32(scaling[1])}
        nodes.append(helper.make_node("Mul", [last, "factor"], ["scaled"]))
        nodes.append(helper.make_node("Add", ["scaled", "shift"], ["shifted"]))
        last = "shifted"
    if not channels_first:
        nodes.append(helper.make_node("Transpose", [last], ["first"], perm=[0, 3, 1, 2]))
        last = "first"
    if pooled:
        nodes.append(helper.make_node("Relu", [last], ["active"]))
        last = "active"
    nodes.append(helper.make_node("GlobalAveragePool", [last], ["pool"]))
    nodes.append(helper.make_node("Flatten", ["pool"], ["flat"]))
    last = "flat"
    if not pooled:
        nodes.append(helper.make_node("MatMul", ["flat", "w"], ["scores"]))
        last = "scores"
    for i, (kind, attributes) in enumerate(tail):
        more = ["s", "z"] if kind.endswith("Linear") else []
        if kind == "Reshape":
            weights["shape"] = np.array([-1, classes], np.int64)
            more = ["shape"]
        nodes.append(helper.make_node(kind, [last, *more], [f"t{i}"], **attributes))
        last = f"t{i}"
    used = {name for node in nodes for name in node.input}
    shape = [batch, 3, 8, 12] if channels_first else [batch, 8, 12, 3]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", getattr(TensorProto, dtype), shape)],
        [helper.make_tensor_value_info(last, TensorProto.FLOAT, [batch, 3 if pooled else classes])],
        [
            numpy_helper.from_array(np.asarray(weights[name]), name)
            for name in weights
            if name in used
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    helper.set_model_props(model, metadata or {})
    path.write_bytes(model.SerializeToString())
    return path


def lite(
    *,
    quantized: str | None = None,
    activation: str = "softmax",
    scaling: tuple[float, float] | None = None,
    low: float = 0.0,
    high: float = 1.0,
    classes: int = CLASSES,
    batch: int | None = 1,
) -> bytes:
    """Return a TFLite model of a small convolution; quantized is the type of its images and
    outputs, "weights" for weights alone."""
    from nasnet_cli.quiet import silence, tf

    random = np.random.RandomState(11)
    first = tf.constant(random.uniform(-0.4, 0.4, (3, 3, 3, 16)).astype(np.float32))
    second = tf.constant(random.uniform(-4, 4, (16, classes)).astype(np.float32))

    @tf.function(input_signature=[tf.TensorSpec((batch, 16, 16, 3), tf.float32)])
    def network(images):
        if scaling is not None:
            images = images * scaling[0] + scaling[1]
        values = tf.nn.relu(tf.nn.conv2d(images, first, 2, "SAME"))
        values = tf.reduce_mean(values, [1, 2]) @ second
        functions = {"softmax": tf.nn.softmax, "sigmoid": tf.sigmoid, "linear": tf.identity}
        return functions[activation](values)

    def examples():
        for _ in range(40):
            shape = (batch or 1, 16, 16, 3)
            yield [random.uniform(low, high, shape).astype(np.float32)]

    with silence():
        converter = tf.lite.TFLiteConverter.from_concrete_functions(
            [network.get_concrete_function()], tf.Module()
        )
        if quantized is not None:
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if quantized not in (None, "weights"):
            converter.representative_dataset = examples
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
            converter.inference_input_type = tf.as_dtype(quantized)
            converter.inference_output_type = tf.as_dtype(quantized)
        return converter.convert()


def lite_outputs(content: bytes, images: np.ndarray) -> tuple[np.ndarray, float]:
    """Return an interpreter's outputs for images of its type, as numbers, and a step of them."""
    from nasnet_cli.quiet import litert, silence_errors

    with silence_errors():
        interpreter = litert.Interpreter(model_content=content)
        interpreter.allocate_tensors()
    source, target = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    found = []
    for image in images:
        interpreter.set_tensor(source["index"], image[None])
        interpreter.invoke()
        found.append(interpreter.get_tensor(target["index"])[0].astype(np.float64))
    scale, zero_point = target["quantization"]
    values = np.array(found)
    return ((values - zero_point) * scale if scale else values), scale


def with_metadata(content: bytes, mean: float, std: float, labels: list[str]) -> bytes:
    """Return a TFLite model with metadata as metadata_schema.fbs has it: normalization and labels.

    The file of labels lies in a zip archive behind the model.
    """
    import flatbuffers
    from tensorflow.lite.python import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(content, 0)
    model.buffers.append(schema.BufferT())
    model.buffers[-1].data = np.frombuffer(_metadata(mean, std), np.uint8)
    entry = schema.MetadataT()
    entry.name, entry.buffer = b"TFLITE_METADATA", len(model.buffers) - 1
    model.metadata = [*(model.metadata or []), entry]
    builder = flatbuffers.Builder(len(content))
    builder.Finish(model.Pack(builder), b"TFL3")
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as files:
        files.writestr("labels.txt", "\n".join(labels))
    return bytes(builder.Output()) + archive.getvalue()


def _metadata(mean: float, std: float) -> bytes:
    """Return a flatbuffer of one image input, and one output with a file of labels."""
    import flatbuffers

    builder = flatbuffers.Builder(0)

    def vector(offsets: list[int]) -> int:
        builder.StartVector(4, len(offsets), 4)
        for offset in reversed(offsets):
            builder.PrependUOffsetTRelative(offset)
        return int(builder.EndVector())

    def table(slots: int, offsets: dict[int, int], kind: int | None = None) -> int:
        builder.StartObject(slots)
        for slot, offset in offsets.items():
            builder.PrependUOffsetTRelativeSlot(slot, offset, 0)
        if kind is not None:
            builder.PrependUint8Slot(0, kind, 0)
        return int(builder.EndObject())

    numbers = []
    for number in (mean, std):
        builder.StartVector(4, 1, 4)
        builder.PrependFloat32(number)
        numbers.append(builder.EndVector())
    unit = table(2, {1: table(2, dict(enumerate(numbers)))}, kind=1)  # NormalizationOptions
    image = table(7, {4: vector([unit])})
    name = builder.CreateString("labels.txt")
    builder.StartObject(4)
    builder.PrependUOffsetTRelativeSlot(0, name, 0)
    builder.PrependInt8Slot(2, 2, 0)  # TENSOR_AXIS_LABELS
    file = builder.EndObject()
    output = table(7, {6: vector([file])})
    graph = table(5, {2: vector([image]), 3: vector([output])})
    builder.Finish(table(8, {3: vector([graph])}), b"M001")
    return bytes(builder.Output())
