"""Models of other makers: what goes in, what comes out, held to their own runtimes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from faults import fuzz_makers
from nasnet_cli.errors import ModelError
from nasnet_cli.model import load_model
from nasnet_cli.models.keras_config import read_settings
from support.documents import ROOT
from support.others import CLASSES, kernel, lite, lite_outputs, with_metadata, write_onnx

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")

SOFTMAX = [("Softmax", {"axis": 1})]
PHOTO = ROOT / "examples" / "photos" / "cat.jpg"
WHOLE = {"crop_fraction": 1.0}


@pytest.fixture
def colours(tmp_path):
    """Return a folder of images of one colour each, and their pixels [n, 3]."""
    folder = tmp_path / "colours"
    folder.mkdir()
    pixels = np.random.RandomState(5).randint(0, 256, (6, 3))
    for i, colour in enumerate(pixels):
        Image.new("RGB", (24, 16), tuple(map(int, colour))).save(folder / f"{i}.png")
    return folder, pixels.astype(np.uint8)


def tool(path, folder, **changes):
    """Return the tool's probabilities [n, classes] for a folder, in the order of the classes."""
    model = load_model(path, preprocessing={**WHOLE, **changes})
    rows = []
    for record in model.classify([folder], top=CLASSES):
        assert record.error is None
        rows.append([p.probability for p in sorted(record.predictions, key=lambda p: p.index)])
    return np.array(rows)


def runtime(path, images):
    """Return ONNX Runtime's outputs."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    fixed = session.get_inputs()[0].shape[0]
    parts = np.split(images, len(images)) if fixed == 1 else [images]
    return np.concatenate([session.run(None, {"x": part})[0] for part in parts])


def planes(pixels, values=lambda p: p / np.float32(255), channels_first=True):
    """Return images [n, 3, 8, 12] of one colour each."""
    images = np.broadcast_to(values(pixels)[:, :, None, None], (len(pixels), 3, 8, 12))
    images = images if channels_first else images.transpose(0, 2, 3, 1)
    return np.ascontiguousarray(images)


def softmax(values):
    powers = np.exp(values - values.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


QDQ = [("QuantizeLinear", {}), ("DequantizeLinear", {})]
TAILS = {
    "logits": ([], softmax),
    "softmax": (SOFTMAX, lambda y: y),
    "softmax and reshape": ([*SOFTMAX, ("Reshape", {})], lambda y: y),
    "softmax in integers": ([*SOFTMAX, *QDQ], lambda y: y),
    "logarithms": ([("LogSoftmax", {"axis": 1})], np.exp),
    "sigmoids": ([("Sigmoid", {})], lambda y: y),
    "sigmoids in integers": ([("Sigmoid", {}), *QDQ], lambda y: y),
}


@pytest.mark.parametrize("batch", ["n", 1])
@pytest.mark.parametrize("tail", TAILS)
def test_onnx_ends(tail, batch, colours, tmp_path, cache_folder):
    folder, pixels = colours
    operations, expected = TAILS[tail]
    path = write_onnx(tmp_path / "m.onnx", operations, batch=batch, channels_first=batch == 1)
    images = planes(pixels, channels_first=batch == 1).astype(np.float32)
    np.testing.assert_allclose(tool(path, folder), expected(runtime(path, images)), atol=1e-4)


@pytest.mark.parametrize(
    ("tail", "available"), [("softmax", True), ("sigmoids", False), ("sigmoids in integers", False)]
)
def test_independent_outputs_have_no_everyday_label(
    tail, available, colours, label_file, nasnet, tmp_path, cache_folder
):
    model = write_onnx(tmp_path / "m.onnx", TAILS[tail][0])
    lines = label_file.read_text().splitlines(keepends=True)[:CLASSES]
    (tmp_path / "labels.txt").write_text("".join(lines))
    done = nasnet("classify", colours[0], "-m", model, "--sure", 0, expect=0)
    assert all(row["predictions"][0]["wnid"] for row in done.rows)
    assert {row["sure"] is not None for row in done.rows} == {available}
    text = nasnet("inspect", model, expect=0).stdout
    assert ("none (the model's probabilities are independent)" in text) != available


@pytest.mark.parametrize(
    ("settings", "values", "source"),
    [
        ({"scaling": (1 / 255, 0)}, lambda p: p.astype(np.float32), "its graph"),
        ({"scaling": (1 / 127.5, -1)}, lambda p: p.astype(np.float32), "its graph"),
        ({"scaling": (1.0, -117.0)}, lambda p: p.astype(np.float32), "its graph"),
        ({"scaling": (2.0, -1.0)}, lambda p: p / np.float32(255), "its graph"),
        ({"dtype": "UINT8", "scaling": (0.01, 0)}, lambda p: p, "its input of uint8"),
        (
            {"dtype": "INT32", "scaling": (0.01, 0)},
            lambda p: p.astype(np.int32),
            "its input of int32",
        ),
        (
            {"metadata": {"Image.NominalPixelRange": "Normalized_1_1"}},
            lambda p: p / np.float32(127.5) - np.float32(1),
            "its metadata",
        ),
        ({}, lambda p: p / np.float32(255), "assumed"),
    ],
)
def test_range_of_values(settings, values, source, colours, tmp_path, cache_folder):
    folder, pixels = colours
    path = write_onnx(tmp_path / "m.onnx", SOFTMAX, **settings)
    assert load_model(path).inspect()["input_range_from"] == source
    np.testing.assert_allclose(tool(path, folder), runtime(path, planes(pixels, values)), atol=1e-4)


MEAN, STD = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]
CAFFE = [103.939, 116.779, 123.68]
REVERSED = ("Gather", [2, 1, 0])


@pytest.mark.parametrize("channels_first", [True, False])
@pytest.mark.parametrize(
    ("steps", "input_range", "channels"),
    [
        ([("Sub", MEAN), ("Div", STD)], "0..255", "rgb"),
        (
            [("Div", [255]), ("Sub", [0.485, 0.456, 0.406]), ("Div", [0.229, 0.224, 0.225])],
            "0..255",
            "rgb",
        ),
        ([("Sub", CAFFE), ("Mul", [0.017])], "0..255", "bgr"),
        ([REVERSED, ("Sub", CAFFE), ("Mul", [0.017])], "0..255", "rgb"),
        ([REVERSED, ("Sub", MEAN), ("Div", STD)], "0..255", "bgr"),
        ([("Mul", [255]), ("Sub", CAFFE), ("Mul", [0.017])], "0..1", "bgr"),
        ([("Add", [1]), ("Mul", [0.5])], "-1..1", "rgb"),
        ([("Add", [1]), ("Mul", [127.5]), ("Sub", MEAN), ("Div", STD)], "-1..1", "rgb"),
        ([("Mul", [0.229, 0.224, 0.225]), ("Add", [0.485, 0.456, 0.406])], "imagenet", "rgb"),
        ([("Max", [0]), ("Min", [255]), ("Mul", [1 / 255])], "0..255", "rgb"),
    ],
)
def test_values_that_a_graph_begins_with(
    steps, input_range, channels, channels_first, colours, tmp_path, cache_folder
):
    from nasnet_cli.models.values import RANGES

    folder, pixels = colours
    path = write_onnx(tmp_path / "m.onnx", SOFTMAX, steps=steps, channels_first=channels_first)
    shown = load_model(path).inspect()
    assert (shown["input_range"], shown["channels"]) == (input_range, channels)
    assert shown["input_range_from"] == "its graph"
    mean, std = np.array(RANGES[input_range], np.float32)
    order = slice(None, None, -1) if channels == "bgr" else slice(None)
    images = planes(pixels, lambda p: ((p - mean) / std)[:, order], channels_first)
    np.testing.assert_allclose(tool(path, folder), runtime(path, images), atol=1e-4)


def test_integers_between_change_no_range(colours, tmp_path, cache_folder):
    """Images are made integers and floats again, which multiplies them by 1/255."""
    folder, pixels = colours
    path = write_onnx(tmp_path / "m.onnx", SOFTMAX)
    import onnx

    model = onnx.load(path)
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.float32(1 / 255), "step"))
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.uint8(0), "zero"))
    nodes = [
        onnx.helper.make_node("QuantizeLinear", ["x", "step", "zero"], ["q"]),
        onnx.helper.make_node("DequantizeLinear", ["q", "step", "zero"], ["x2"]),
    ]
    model.graph.node[0].input[0] = "x2"
    for node in reversed(nodes):
        model.graph.node.insert(0, node)
    onnx.save(model, path)
    got = tool(path, folder)
    np.testing.assert_allclose(got, runtime(path, planes(pixels).astype(np.float32)), atol=1e-4)


@pytest.mark.parametrize("channels", ["rgb", "bgr"])
@pytest.mark.parametrize("resample", ["bilinear", "tf1"])
@pytest.mark.parametrize("input_range", ["0..1", "-1..1", "0..255", "imagenet"])
def test_named_range_and_channels(input_range, channels, resample, colours, tmp_path, cache_folder):
    from nasnet_cli.models.values import RANGES

    folder, pixels = colours
    mean, std = np.array(RANGES[input_range], np.float32)
    order = slice(None, None, -1) if channels == "bgr" else slice(None)
    path = write_onnx(tmp_path / "m.onnx", SOFTMAX, channels_first=resample == "tf1")
    images = planes(pixels, lambda p: ((p - mean) / std)[:, order], resample == "tf1")
    got = tool(path, folder, input_range=input_range, channels=channels, resample=resample)
    np.testing.assert_allclose(got, runtime(path, images), atol=1e-4)


def test_assumption_is_said_once(colours, nasnet, tmp_path, cache_folder):
    path = write_onnx(tmp_path / "m.onnx", SOFTMAX)
    done = nasnet("classify", "-m", path, colours[0])
    assert done.exit_code == 0 and done.stderr.count("values of 0 to 1 and RGB assumed") == 1
    named = nasnet("classify", "-m", path, "--input-range", "0..255", colours[0])
    assert named.exit_code == 0 and "assumed" not in named.stderr


def test_file_that_fails_while_it_runs_is_named(colours, tmp_path, cache_folder):
    """A shape that depends on the pixels of the images can only fail then."""
    from onnx import TensorProto, helper, numpy_helper

    given = {"w": kernel(), "shape": np.array([-1], np.int64), "none": np.zeros(1, np.float32)}
    steps = [
        ("GlobalAveragePool", "x", "pool", {}),
        ("Flatten", "pool", "colour", {}),
        ("ReduceMax", "colour", "brightest", {"keepdims": 0}),
        ("Ceil", "brightest", "up", {}),
        ("Cast", "up", "one", {"to": TensorProto.INT64}),
        ("Reshape", "one shape", "count", {}),
        ("Add", "count count4", "five", {}),
        ("Concat", "shape five", "wanted", {"axis": 0}),
        ("Reshape", "colour wanted", "misshapen", {}),
        ("ReduceSum", "misshapen", "total", {"keepdims": 0}),
        ("Mul", "total none", "nothing", {}),
        ("Add", "colour nothing", "same", {}),
        ("MatMul", "same w", "scores", {}),
    ]
    given["count4"] = np.array([4], np.int64)  # five do not divide the colours of a request
    graph = helper.make_graph(
        [helper.make_node(kind, a.split(), [b], **more) for kind, a, b, more in steps],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 8, 12])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", CLASSES])],
        [numpy_helper.from_array(values, name) for name, values in given.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    path = tmp_path / "m.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match=f"OpenVINO cannot run the model in {path}"):
        tool(path, colours[0])


def test_single_sigmoid_is_two_classes(colours, tmp_path, cache_folder):
    folder, pixels = colours
    path = write_onnx(tmp_path / "m.onnx", [("Sigmoid", {})], classes=1)
    p = runtime(path, planes(pixels).astype(np.float32))
    np.testing.assert_allclose(tool(path, folder), np.hstack([1 - p, p]), atol=1e-5)
    assert load_model(path).inspect()["classes"] == 2


@pytest.mark.parametrize(
    ("tail", "words"),
    [
        ([], "single output that is not a sigmoid"),
        ([("Tanh", {})], "the operation Tanh"),
    ],
)
def test_outputs_that_say_nothing_are_refused(tail, words, colours, tmp_path, cache_folder):
    path = write_onnx(tmp_path / "m.onnx", tail, classes=1 if not tail else CLASSES)
    with pytest.raises(ModelError, match=words):
        tool(path, colours[0])


def test_pooled_output_is_a_feature_vector(colours, tmp_path, cache_folder):
    folder, pixels = colours
    path = write_onnx(tmp_path / "m.onnx", [], pooled=True)
    model = load_model(path, preprocessing=WHOLE)
    with pytest.raises(ModelError, match="no classes, only a feature vector"):
        next(model.classify([folder]))
    vectors = [record.vector for record in model.embed([folder])]
    np.testing.assert_allclose(vectors, runtime(path, planes(pixels).astype(np.float32)), atol=1e-5)


def test_pooled_output_with_labels_is_of_classes(tmp_path, cache_folder):
    """Some networks have their layer of classes before the pooling."""
    path = write_onnx(tmp_path / "m.onnx", [], pooled=True)
    (tmp_path / "labels.txt").write_text("red\ngreen\nblue\n")
    assert load_model(path).inspect()["classes"] == 3


@pytest.mark.parametrize(
    ("name", "shape"), [("logits", [-1, 2, 2]), ("features", [-1, 2, 2]), ("scores", [-1, 4])]
)
def test_outputs_of_detectors_are_refused(name, shape, tmp_path, cache_folder):
    """A box for each of several things, whatever the scores are called."""
    from onnx import TensorProto, helper, numpy_helper

    boxes = [-1, 2, 2]
    nodes = [
        helper.make_node("GlobalAveragePool", ["x"], ["pool"]),
        helper.make_node("Concat", ["pool", "pool"], ["six"], axis=1),
        helper.make_node("Slice", ["six", "start", "end", "axis"], ["four"]),
        helper.make_node("Reshape", ["four", "shape"], [name]),
        helper.make_node("Reshape", ["four", "wide"], ["boxes"]),
    ]
    constants = {"start": [0], "end": [4], "axis": [1], "shape": shape, "wide": boxes}
    outputs = {name: shape, "boxes": boxes}
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 8, 12])],
        [
            helper.make_tensor_value_info(key, TensorProto.FLOAT, ["n", *sizes[1:]])
            for key, sizes in outputs.items()
        ],
        [numpy_helper.from_array(np.array(v, np.int64), k) for k, v in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    path = tmp_path / "m.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match="'boxes' \\[\\?, 2, 2\\], which doesn't say"):
        load_model(path)


def test_openvino_file_with_the_preprocessing_of_its_model_api(colours, tmp_path, cache_folder):
    from nasnet_cli.quiet import openvino

    folder, pixels = colours
    path = write_onnx(tmp_path / "m.onnx", SOFTMAX)
    graph = openvino.Core().read_model(path)
    given = {"mean_values": MEAN, "scale_values": STD, "labels": "abcde"}
    for key, values in given.items():
        graph.set_rt_info(" ".join(map(str, values)), ["model_info", key])
    openvino.save_model(graph, tmp_path / "m.xml")
    model = load_model(tmp_path / "m.xml")
    assert model.inspect()["input_range_from"] == "its metadata"
    assert [label.name for label in model.labels] == list("abcde")
    images = planes(pixels, lambda p: ((p - MEAN) / STD).astype(np.float32))
    np.testing.assert_allclose(tool(tmp_path / "m.xml", folder), runtime(path, images), atol=1e-3)


@pytest.mark.parametrize(("mean", "std"), [("0", "nan"), ("1e400", "1"), ("1 2 3", "1 0 1")])
def test_metadata_that_is_no_range_says_nothing(mean, std, tmp_path, cache_folder):
    from nasnet_cli.quiet import openvino

    graph = openvino.Core().read_model(write_onnx(tmp_path / "m.onnx", SOFTMAX))
    graph.set_rt_info(mean, ["model_info", "mean_values"])
    graph.set_rt_info(std, ["model_info", "scale_values"])
    openvino.save_model(graph, tmp_path / "m.xml")
    assert load_model(tmp_path / "m.xml").inspect()["input_range_from"] == "assumed"


class TestLabels:
    @pytest.mark.parametrize("name", ["labels.txt", "labels.tsv", "m_labels.txt", "o_labels.txt"])
    def test_beside_the_file(self, name, colours, nasnet, tmp_path, cache_folder):
        head = "index\tname\n" if name.endswith("tsv") else ""
        mark = "\t" if head else " "
        lines = "".join(f"{i}{mark}thing {i}\n" for i in range(CLASSES))
        (tmp_path / name).write_text(head + lines)
        path = write_onnx(tmp_path / "m.onnx", SOFTMAX)
        assert [label.name for label in load_model(path).labels] == [
            f"thing {i}" for i in range(CLASSES)
        ]
        assert load_model(path).inspect()["labels_from"] == name
        out = tmp_path / "out.csv"
        assert nasnet("classify", "-m", path, colours[0], "-o", out).exit_code == 0
        meta = json.loads((tmp_path / "out.csv.meta.json").read_text())
        assert meta["model"]["labels"] == name and len(meta["model"]["labels_digest"]) == 64

    def test_of_another_count_are_left_alone(self, tmp_path):
        (tmp_path / "labels.txt").write_text("one\ntwo\n")
        path = write_onnx(tmp_path / "m.onnx", SOFTMAX)
        assert load_model(path).labels[0].name == "class 0"

    @pytest.mark.parametrize(
        "text", ["a,b,c,d,e", '["a","b","c","d","e"]', "{0:'a',1:'b',2:'c',3:'d',4:'e'}"]
    )
    def test_in_metadata(self, text, tmp_path):
        path = write_onnx(tmp_path / "m.onnx", SOFTMAX, metadata={"names": text})
        assert [label.name for label in load_model(path).labels] == list("abcde")


@pytest.fixture(scope="module")
def lite_models():
    """Return TFLite models by what they compute in."""
    return {
        "uint8": lite(quantized="uint8"),
        "int8": lite(quantized="int8", scaling=(1 / 255, 0), high=255),
        "int8 logits": lite(quantized="int8", activation="linear", low=-1),
        "weights": lite(quantized="weights", batch=None),
        "float": lite(scaling=(1 / 127.5, -1), batch=None),
    }


@pytest.mark.parametrize("kind", ["uint8", "int8", "int8 logits", "weights", "float"])
def test_tflite_is_held_to_its_interpreter(kind, lite_models, tmp_path, cache_folder):
    content = lite_models[kind]
    path = tmp_path / "m.tflite"
    path.write_bytes(content)
    folder = tmp_path / "noise"
    folder.mkdir()
    pixels = np.random.RandomState(8).randint(0, 256, (40, 16, 16, 3)).astype(np.uint8)
    pixels[::2] = pixels[::2, :1, :1]
    for i, image in enumerate(pixels):
        Image.fromarray(image).save(folder / f"{i:02}.png")
    images = {
        "uint8": pixels,
        "int8": (pixels.astype(np.int16) - 128).astype(np.int8),
        "int8 logits": (pixels.astype(np.int16) - 128).astype(np.int8),
        "weights": (pixels / 255).astype(np.float32),
        "float": pixels.astype(np.float32),
    }[kind]
    expected, step = lite_outputs(content, images)
    if kind == "int8 logits":
        expected = softmax(expected)
    got = tool(path, folder, resample="nearest")
    np.testing.assert_allclose(got, expected, atol=1e-3 + step if step else 1e-3)
    assert np.array_equal(got.argmax(1), expected.argmax(1))


@pytest.mark.parametrize(
    ("form", "models"),
    [
        ("onnx", 10),
        pytest.param("tflite", 10, marks=pytest.mark.slow),
        pytest.param("saved-model", 6, marks=pytest.mark.slow),
    ],
)
def test_models_made_at_random_agree_with_their_runtime(form, models, cache_folder):
    assert fuzz_makers.run(models, 500, [form]) == 0


def test_parameters_of_integers_are_counted(lite_models, tmp_path, cache_folder):
    path = tmp_path / "m.tflite"
    path.write_bytes(lite_models["uint8"])
    shown = load_model(path).inspect()
    assert (
        3 * 3 * 3 * 16 + 16 * CLASSES <= shown["parameters"] <= 3 * 3 * 3 * 16 + 17 * CLASSES + 16
    )
    assert shown["output"] == "probabilities" and shown["batch"] == 1


def test_metadata_of_tflite_is_followed(lite_models, tmp_path, cache_folder):
    """The weights alone are integers, so that the scaling isn't in the graph."""
    names = [f"thing {i}" for i in range(CLASSES)]
    path = tmp_path / "m.tflite"
    path.write_bytes(with_metadata(lite_models["weights"], 127.5, 127.5, names))
    model = load_model(path)
    shown = model.inspect()
    assert shown["input_range_from"] == "its metadata"
    assert model.preprocessing.input_range == "-1..1"
    assert [label.name for label in model.labels] == names
    path.write_bytes(with_metadata(lite_models["weights"], 127.5, float("nan"), names))
    assert load_model(path).inspect()["input_range_from"] == "assumed"


@pytest.mark.parametrize(("mean", "std"), [(0.0, 1.0), (127.5, 127.5), (0.0, 255.0)])
def test_metadata_of_floats_is_not_for_bytes(mean, std, lite_models, tmp_path, cache_folder):
    """Images of bytes go in as they are, whatever is written for floats."""
    path = tmp_path / "m.tflite"
    path.write_bytes(with_metadata(lite_models["uint8"], mean, std, list("abcde")))
    pixels = np.random.RandomState(8).randint(0, 256, (16, 16, 3)).astype(np.uint8)
    expected, step = lite_outputs(lite_models["uint8"], pixels[None])
    model = load_model(path, preprocessing={**WHOLE, "resample": "nearest"})
    (record,) = model.classify([pixels], top=CLASSES)
    got = [p.probability for p in sorted(record.predictions, key=lambda p: p.index)]
    np.testing.assert_allclose(got, expected[0], atol=step)


def test_quantized_file_has_one_runtime(lite_models, nasnet, tmp_path, cache_folder):
    path = tmp_path / "m.tflite"
    path.write_bytes(lite_models["uint8"])
    done = nasnet("classify", "-m", path, "--runtime", "openvino", PHOTO)
    assert done.exit_code == 1 and "computes in integers" in done.stderr


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        (
            "m.onnx",
            b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n",
            "Git LFS",
        ),
        ("model.json", b'{"format": "layers-model", "modelTopology": {}}', "TensorFlow.js"),
        ("group1-shard1of2.bin", b"\0" * 9, "TensorFlow.js"),
        ("m.pb", b"\n\x14\n\x05input\x12\x0bPlaceholder", "frozen TensorFlow graph"),
        ("m.pt", b"PK\x03\x04", "a PyTorch file"),
        ("m.xml", b'<?xml version="1.0"?>\n<net name="m" version="7">\n</net>', "version 7"),
    ],
)
def test_files_are_named_for_what_they_are(name, content, words, nasnet, tmp_path):
    (tmp_path / name).write_bytes(content)
    done = nasnet("inspect", tmp_path / name)
    assert done.exit_code == 1 and words in done.stderr and done.stderr.count("\n") == 1


def test_folder_with_one_model_file_is_followed(tmp_path, cache_folder):
    write_onnx(tmp_path / "m.onnx", SOFTMAX)
    (tmp_path / "README.md").write_text("a model")
    assert load_model(tmp_path).module.path == tmp_path / "m.onnx"
    write_onnx(tmp_path / "n.onnx", SOFTMAX)
    with pytest.raises(ModelError, match=r"2 models: m\.onnx, n\.onnx"):
        load_model(tmp_path)


def test_folder_of_tensorflow_serving_gives_its_newest_version(tmp_path):
    tiny = Path(__file__).parent / "data" / "tf1_tiny"
    for version in ("3", "10"):
        shutil.copytree(tiny, tmp_path / "name" / version)
    assert load_model(tmp_path / "name").module.path == tmp_path / "name" / "10"


def test_pointer_of_git_lfs_in_a_folder_is_named(nasnet, tmp_path):
    tiny = Path(__file__).parent / "data" / "tf1_tiny"
    shutil.copytree(tiny, tmp_path / "m")
    data = next((tmp_path / "m" / "variables").glob("*.data-*"))
    data.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n")
    done = nasnet("inspect", tmp_path / "m")
    assert done.exit_code == 1 and f"{data.name} of" in done.stderr and "git lfs" in done.stderr


def test_flipped_byte_in_the_weights_is_found(tmp_path, nasnet, cache_folder):
    """A tensor's checksum is checked once for each digest, before the model runs."""
    pytest.importorskip("google_crc32c")
    shutil.copytree(Path(__file__).parent / "data" / "tf1_tiny", tmp_path / "module")
    data = next((tmp_path / "module" / "variables").glob("*.data-*"))
    assert (
        nasnet("embed", "-m", tmp_path / "module", "-o", tmp_path / "a.npy", PHOTO).exit_code == 0
    )
    content = bytearray(data.read_bytes())
    content[len(content) // 2] ^= 0x40
    data.write_bytes(content)
    done = nasnet("embed", "-m", tmp_path / "module", "-o", tmp_path / "b.npy", PHOTO)
    assert done.exit_code == 1 and "the checksum of" in done.stderr


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        ([("Dense", {"activation": "softmax"})], ("softmax", None)),
        ([("Dense", {"activation": "linear"})], ("softmax", None)),
        ([("Dense", {"activation": "sigmoid"})], ("sigmoid", None)),
        ([("Dense", {}), ("Activation", {"activation": "sigmoid"})], ("sigmoid", None)),
        ([("Rescaling", {"scale": 2.0, "offset": -1.0})], ("softmax", None)),
        ([("Rescaling", {"scale": 1 / 127.5, "offset": -1.0})], ("softmax", "0..1")),
        (
            [("Rescaling", {"scale": 1 / 255, "offset": 0.0})],
            ("softmax", "mean -255,-255,-255 std 510,510,510"),
        ),
    ],
)
def test_keras_configuration(layers, expected):
    assert read_settings(_keras_config(layers), Path("m.keras")) == expected


@pytest.mark.parametrize(
    ("layers", "words"),
    [
        ([("GlobalMaxPooling2D", {"name": "pool"})], "'pool' \\(GlobalMaxPooling2D\\)"),
        ([("Normalization", {"name": "norm"})], "Normalization"),
        ([("Dense", {"activation": "tanh"})], "activation tanh"),
        ([("Dense", {"activation": "softmax"}), ("Softmax", {})], "activation softmax"),
        ([("Rescaling", {"scale": [1, 2, 3]})], "Rescaling"),
        ([("Rescaling", {"scale": float("nan")})], "Rescaling"),
        ([("Rescaling", {"scale": 10**400})], "Rescaling"),
    ],
)
def test_keras_layers_that_change_the_result_are_refused(layers, words):
    with pytest.raises(ModelError, match=words):
        read_settings(_keras_config(layers), Path("m.keras"))


def test_keras_model_of_several_heads_is_refused():
    config = _keras_config([("Dense", {})])
    config["config"]["output_layers"] = [["a", 0, 0], ["b", 0, 0]]
    with pytest.raises(ModelError, match="2 outputs"):
        read_settings(config, Path("m.keras"))


def _keras_config(layers):
    inner = [{"class_name": kind, "config": settings} for kind, settings in layers]
    return {"class_name": "Functional", "config": {"layers": inner}}
