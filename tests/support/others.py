"""Small models as other makers write them: by ONNX' helpers, and by TensorFlow Lite's converter."""

from __future__ import annotations

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
) -> Path:
    """Write a model of the mean colour, followed by operations of tail (type and attributes).

    scaling multiplies the images and adds a number first.
    """
    from onnx import TensorProto, helper, numpy_helper

    weights = {"w": kernel(classes=classes), "s": np.float32(1 / 256), "z": np.uint8(0)}
    nodes, last = [], "x"
    if dtype != "FLOAT":
        nodes.append(helper.make_node("Cast", [last], ["cast"], to=TensorProto.FLOAT))
        last = "cast"
    if scaling is not None:
        weights |= {"factor": np.float32(scaling[0]), "shift": np.float32(scaling[1])}
        nodes.append(helper.make_node("Mul", [last, "factor"], ["scaled"]))
        nodes.append(helper.make_node("Add", ["scaled", "shift"], ["shifted"]))
        last = "shifted"
    if not channels_first:
        nodes.append(helper.make_node("Transpose", [last], ["first"], perm=[0, 3, 1, 2]))
        last = "first"
    nodes.append(helper.make_node("GlobalAveragePool", [last], ["pool"]))
    nodes.append(helper.make_node("Flatten", ["pool"], ["flat"]))
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
        [helper.make_tensor_value_info(last, TensorProto.FLOAT, [batch, classes])],
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
