"""ONNX, OpenVINO and TFLite files as models: what export wrote, and what others did."""

from __future__ import annotations

import shutil
import subprocess
import sys

import numpy as np
import pytest

from nasnet_cli.errors import ModelError
from nasnet_cli.model import load_model
from nasnet_cli.models.detect import detect
from support.cli import exit_status
from support.documents import ROOT
from support.models import load_network
from support.modules import FILES

PHOTOS = ROOT / "examples" / "photos"
COMPANIONS = {
    "onnx": [],
    "openvino": ["m.bin"],
    "tflite": ["m.tflite.labels.tsv", "m.tflite.nasnet.json"],
}

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")


@pytest.mark.parametrize("form", FILES)
def test_file_gives_the_results_of_its_source(form, runtime_files, labelled_module, cache_folder):
    for model in (
        load_model(runtime_files / FILES[form]),
        load_model(runtime_files / f"features-{FILES[form]}"),
    ):
        expected = [row.vector for row in load_model(labelled_module).embed([PHOTOS])]
        got = [row.vector for row in model.embed([PHOTOS])]
        np.testing.assert_allclose(got, expected, rtol=0, atol=1e-4)
    first, again = load_model(labelled_module), load_model(runtime_files / FILES[form])
    for one, two in zip(first.classify([PHOTOS]), again.classify([PHOTOS]), strict=True):
        assert [p.label for p in one.predictions] == [p.label for p in two.predictions]
        for a, b in zip(one.predictions, two.predictions, strict=True):
            assert a.probability == pytest.approx(b.probability, abs=1e-5)


@pytest.mark.parametrize("form", FILES)
def test_inspect_describes_a_file_like_its_source(form, runtime_files, labelled_module):
    module, file = (
        load_model(labelled_module).inspect(),
        load_model(runtime_files / FILES[form]).inspect(),
    )
    same = ["image_size", "output", "classes", "labels", "feature_depth", "preprocessing"]
    same += ["multiply_adds", "multiply_adds_depthwise"]
    assert {key: file[key] for key in same} == {key: module[key] for key in same}
    assert (file["format"], file["tag_sets"], file["unsafe_operations"]) == (form, [], [])
    assert sorted(file["file_sizes"]) == sorted([FILES[form], *COMPANIONS[form]])
    # TFLite's converter merges normalisations with the products before them.
    assert file["parameters"] == module["parameters"] or form == "tflite"
    assert 0 < file["parameters"] <= module["parameters"]
    assert set(file["signatures"]["default"]["outputs"]) == {"logits", "features"}


@pytest.mark.parametrize("form", FILES)
def test_format_is_recognized_by_the_content(form, runtime_files, tmp_path):
    other = shutil.copy(runtime_files / FILES[form], tmp_path / "some file")
    assert detect(tmp_path / "some file").format.name == form
    # A copy has the digest of its original, whatever it is called.
    if form == "onnx":
        digests = {load_model(path).module.digest for path in (other, runtime_files / FILES[form])}
        assert len(digests) == 1


def test_classify_with_a_feature_vector_file_is_an_error(runtime_files, capfd):
    assert exit_status("classify", "-m", runtime_files / "features-m.onnx", PHOTOS) == 1
    said = capfd.readouterr().err
    assert "features-m.onnx has no classes, only a feature vector." in said


@pytest.mark.parametrize("form", FILES)
@pytest.mark.parametrize("command", ["classify", "inspect"])
def test_truncated_file_is_a_one_line_error(form, command, runtime_files, tmp_path, capfd):
    whole = (runtime_files / FILES[form]).read_bytes()
    cut = tmp_path / FILES[form]
    cut.write_bytes(whole[: len(whole) // 2])
    if form == "openvino":
        shutil.copy(runtime_files / "m.bin", tmp_path)
    arguments = ["-m", cut, PHOTOS] if command == "classify" else [cut]
    assert exit_status(command, *arguments) == 1
    said = capfd.readouterr()
    assert said.out == ""
    assert said.err.startswith("Error: ") and said.err.count("\n") == 1
    assert FILES[form] in said.err


@pytest.mark.parametrize(
    ("share", "words"),
    [(None, "m.bin is missing"), (0.0, "it has 0 bytes"), (0.9, "is cut off or")],
)
def test_xml_without_its_complete_bin_is_a_one_line_error(
    share, words, runtime_files, tmp_path, capfd
):
    shutil.copy(runtime_files / "m.xml", tmp_path)
    if share is not None:
        whole = (runtime_files / "m.bin").read_bytes()
        (tmp_path / "m.bin").write_bytes(whole[: int(len(whole) * share)])
    assert exit_status("inspect", tmp_path / "m.xml") == 1
    said = capfd.readouterr().err
    assert words in said and said.count("\n") == 1


@pytest.mark.parametrize("name", ["m.onnx", "m.xml", "m.h5", "m.pb", "modèle"])
def test_tflite_of_any_name_is_read(name, runtime_files, tmp_path, capfd, cache_folder):
    """OpenVINO by itself takes it for what its name says, and complains on standard error."""
    for part in ("m.tflite", *COMPANIONS["tflite"]):
        shutil.copy(runtime_files / part, tmp_path / part.replace("m.tflite", name))
    assert exit_status("classify", "-q", "-m", tmp_path / name, PHOTOS) == 0
    said = capfd.readouterr()
    assert said.err == "" and '"label": "thing' in said.out


def test_tflite_without_its_card_names_the_missing_file(runtime_files, tmp_path):
    shutil.copy(runtime_files / "m.tflite", tmp_path)
    with pytest.raises(ModelError, match=r"put its m\.tflite\.nasnet\.json beside it again"):
        load_model(tmp_path / "m.tflite")


@pytest.mark.parametrize("kind", ["TensorFlow's", "custom"])
def test_tflite_with_foreign_operations_is_refused_by_their_names(kind, tmp_path, capfd):
    path = tmp_path / "m.tflite"
    path.write_bytes(lite_with_strings(kind))
    for command in (["inspect", path], ["classify", "-m", path, PHOTOS]):
        assert exit_status(*command) == 1
        name = "FlexAsString" if kind == "TensorFlow's" else "AsString"
        assert capfd.readouterr().err == (
            f"Error: {path} has operations that OpenVINO cannot run: {name}. Convert it again without "
            "custom operations and those of TensorFlow (SELECT_TF_OPS), or name the model that it was "
            "made from.\n"
        )


def lite_with_strings(kind):
    """A TFLite model with operations that TFLite itself hasn't: kept as TensorFlow's, or custom."""
    from nasnet_cli.quiet import silence, tf

    @tf.function(input_signature=[tf.TensorSpec((1, 8, 8, 3), tf.float32)])
    def logits(images):
        return tf.strings.to_number(tf.strings.as_string(tf.reduce_mean(images, [1, 2])))

    with silence():
        functions = [logits.get_concrete_function()]
        converter = tf.lite.TFLiteConverter.from_concrete_functions(functions, tf.Module())
        if kind == "custom":
            converter.allow_custom_ops = True
        else:
            sets = tf.lite.OpsSet
            converter.target_spec.supported_ops = [sets.TFLITE_BUILTINS, sets.SELECT_TF_OPS]
        return converter.convert()


@pytest.mark.parametrize(
    ("name", "shown"), [("onnx", "m.onnx"), ("tflite", "m.tflite.nasnet.json")]
)
def test_error_of_a_damaged_card_names_its_file(name, shown, runtime_files, tmp_path):
    path = tmp_path / f"m.{name}"
    if name == "onnx":
        import onnx

        model = onnx.load(runtime_files / "m.onnx")
        for entry in model.metadata_props:
            entry.value = "{"
        onnx.save(model, path)
    else:
        shutil.copy(runtime_files / "m.tflite", path)
        (tmp_path / "m.tflite.nasnet.json").write_text("{")
    with pytest.raises(ModelError, match=rf"{shown} is not JSON") as caught:
        load_model(path)
    assert str(tmp_path) in str(caught.value)


def test_tensorflow_runtime_refuses_a_file(runtime_files, capfd):
    assert (
        exit_status("classify", "-m", runtime_files / "m.onnx", "--runtime", "tensorflow", PHOTOS)
        == 1
    )
    assert "TensorFlow doesn't run" in capfd.readouterr().err


def test_export_reads_weights_of_onnx_and_refuses_the_others(
    runtime_files, tmp_path, labelled_module
):
    network = load_network(runtime_files / "m.onnx")
    original = load_network(labelled_module)
    assert network.spec == original.spec
    assert network.weights.keys() == original.weights.keys()
    assert all(np.array_equal(network.weights[k], original.weights[k]) for k in network.weights)
    assert load_network(runtime_files / "features-m.onnx").classification is False
    for name in ("m.xml", "m.tflite"):
        with pytest.raises(ModelError, match="merged with its batch normalization"):
            load_network(runtime_files / name)


class TestOthersFiles:
    """Files that export didn't write."""

    def onnx(self, path, shape, *, outputs=1, external=None, last="Identity"):
        """A convolution to four channels, averaged: the mean colours of an image."""
        from onnx import TensorProto, helper, numpy_helper

        kernel = np.zeros((4, 3, 1, 1), np.float32)
        kernel[:3, :, 0, 0] = np.eye(3)
        weight = numpy_helper.from_array(kernel, "w")
        if external is not None:
            weight.ClearField("raw_data")
            weight.data_location = TensorProto.EXTERNAL
            weight.external_data.add(key="location", value=external)
        first = shape[1] == 3
        nodes = [] if first else [helper.make_node("Transpose", ["x"], ["t"], perm=[0, 3, 1, 2])]
        nodes += [
            helper.make_node("Conv", ["x" if first else "t", "w"], ["c"]),
            helper.make_node("GlobalAveragePool", ["c"], ["p"]),
            helper.make_node("Flatten", ["p"], ["f"]),
            helper.make_node(last, ["f"], ["y"]),
            helper.make_node("Identity", ["f"], ["z"]),
        ]
        info = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["n", 4]) for n in "yz"]
        inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)]
        graph = helper.make_graph(nodes, "g", inputs, info[:outputs], [weight])
        opsets = [helper.make_opsetid("", 17)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
        path.write_bytes(model.SerializeToString())
        return path

    @pytest.mark.parametrize("shape", [["n", 3, 8, 12], ["n", 8, 12, 3], [1, 3, 8, 12]])
    def test_channels_first_input(self, shape, tmp_path, cache_folder):
        from PIL import Image

        Image.new("RGB", (24, 16), (255, 102, 0)).save(tmp_path / "orange.png")
        model = load_model(self.onnx(tmp_path / "m.onnx", shape))
        assert model.inspect()["image_size"] == [8, 12]
        (row,) = model.classify([tmp_path / "orange.png"], logits=True)
        assert [p.label for p in row.predictions[:2]] == ["class 0", "class 1"]
        assert [p.logit for p in row.predictions] == pytest.approx([1, 0.4, 0, 0], abs=1e-6)

    def test_softmax_is_not_applied_twice(self, tmp_path, cache_folder):
        path = self.onnx(tmp_path / "m.onnx", ["n", 3, 8, 8], last="Softmax")
        assert load_model(path).inspect()["output"] == "probabilities"
        (row,) = load_model(path).classify([PHOTOS / "cat.jpg"])
        assert sum(p.probability for p in row.predictions) == pytest.approx(1, abs=1e-5)

    @pytest.mark.parametrize(
        ("last", "expected"),
        [
            ("Sigmoid", [0.731059, 0.598688, 0.5, 0.5]),
            ("LogSoftmax", [0.437719, 0.240225, 0.161028, 0.161028]),
        ],
    )
    def test_probabilities_by_the_last_operation(self, last, expected, tmp_path, cache_folder):
        from PIL import Image

        Image.new("RGB", (24, 24), (255, 102, 0)).save(tmp_path / "orange.png")
        model = load_model(self.onnx(tmp_path / "m.onnx", ["n", 3, 8, 8], last=last))
        (row,) = model.classify([tmp_path / "orange.png"])
        assert [p.probability for p in row.predictions] == pytest.approx(expected, abs=2e-6)

    def test_unknown_outputs_are_named(self, tmp_path):
        with pytest.raises(
            ModelError, match=r"outputs 'y' .*, 'z' .*, which doesn't say what to run"
        ):
            load_model(self.onnx(tmp_path / "m.onnx", ["n", 3, 8, 8], outputs=2))

    def test_gray_input_is_refused(self, tmp_path):
        import onnx

        path = self.onnx(tmp_path / "m.onnx", ["n", 3, 8, 8])
        model = onnx.load(path)
        model.graph.input[0].type.tensor_type.shape.dim.pop()
        onnx.save(model, path)
        with pytest.raises(ModelError, match=r"cannot be read|input of shape"):
            load_model(path)

    @pytest.mark.parametrize("place", ["/etc/passwd", "../secret", "beside"])
    def test_weights_in_other_files_are_not_read(self, place, tmp_path):
        (tmp_path / "beside").write_bytes(bytes(48))
        path = self.onnx(tmp_path / "m.onnx", ["n", 3, 8, 8], external=place)
        with pytest.raises(ModelError, match="weights in other files"):
            load_model(path)

    @pytest.mark.parametrize("kept", ["a function", "a sparse weight", "an attribute"])
    def test_weights_in_other_files_are_found_anywhere_in_the_model(self, kept, tmp_path):
        """A sparse attribute's file OpenVINO really reads, were it asked to."""
        import onnx
        from onnx import helper

        path = self.onnx(tmp_path / "m.onnx", ["n", 3, 8, 8])
        model = onnx.load(path)
        values = onnx.TensorProto(name="v", dims=[15], data_type=1, data_location=1)
        values.external_data.add(key="location", value=str(tmp_path / "secret"))
        indices = helper.make_tensor("i", onnx.TensorProto.INT64, [15], range(15))
        sparse = onnx.SparseTensorProto(dims=[3, 5], values=values, indices=indices)
        if kept == "a function":
            node = helper.make_node("Constant", [], ["c"], value=values)
            opsets = model.opset_import
            model.functions.append(helper.make_function("mine", "F", [], ["c"], [node], opsets))
        elif kept == "a sparse weight":
            model.graph.sparse_initializer.append(sparse)
        else:
            model.graph.node.append(helper.make_node("Constant", [], ["c"], sparse_value=sparse))
        path.write_bytes(model.SerializeToString())
        with pytest.raises(ModelError, match="weights in other files"):
            load_model(path)


class TestHostileXml:
    """OpenVINO files that were changed to do harm."""

    @pytest.fixture(scope="class")
    def whole(self, tmp_path_factory):
        """The mean colours of an image, and a weight of 36 bytes."""
        from nasnet_cli.quiet import openvino
        from openvino import opset13 as op  # isort: skip

        images = op.parameter([-1, 8, 8, 3], np.float32, name="images")
        mean = op.reduce_mean(images, op.constant(np.array([1, 2])), False)
        logits = op.matmul(mean, op.constant(np.eye(3, dtype=np.float32)), False, True)
        logits.output(0).set_names({"logits"})
        path = tmp_path_factory.mktemp("openvino") / "m.xml"
        openvino.save_model(openvino.Model([logits], [images]), path, compress_to_fp16=False)
        return path

    @pytest.mark.parametrize(
        ("old", "new"),
        [
            ('size="36"', 'size="36000"'),
            ('size="36"', 'size="18446744073709551615"'),
            ('offset="16" size="36"', 'offset="99999999999" size="36"'),
            ('offset="16" size="36"', 'offset="18446744073709551600" size="36"'),
            ('type="MatMul" version="opset1"', 'type="Mine" version="extension"'),
            ('from-layer="0"', 'from-layer="3"'),
            ("<layers>", '<!DOCTYPE net [<!ENTITY a "b">]><layers>'),
            ("<layers>", "<a>" * 200_000 + "</a>" * 200_000 + "<layers>"),
            ("</layers>", ""),
        ],
    )
    def test_hostile_xml_is_a_one_line_error(self, old, new, whole, tmp_path):
        """Run in a process of its own: OpenVINO itself dies of elements that are nested so deep."""
        text = whole.read_text()
        assert old in text
        path = tmp_path / "m.xml"
        path.write_text(text.replace(old, new))
        shutil.copy(whole.with_suffix(".bin"), tmp_path)
        done = subprocess.run(
            [sys.executable, "-m", "nasnet_cli", "inspect", path], capture_output=True, text=True
        )
        assert done.returncode == 1 and done.stdout == ""
        # Of weights that aren't there it is the .bin that is spoken of.
        assert done.stderr.startswith((f"Error: {path} ", f"Error: {path.with_suffix('.bin')} "))
        assert done.stderr.count("\n") == 1


def test_tflite_with_a_wrong_count_of_labels_is_refused(runtime_files, tmp_path):
    for name in ("m.tflite", *COMPANIONS["tflite"]):
        shutil.copy(runtime_files / name, tmp_path)
    labels = tmp_path / "m.tflite.labels.tsv"
    labels.write_text("\n".join(labels.read_text().splitlines()[:-1]) + "\n")
    with pytest.raises(ModelError, match="6 labels for 7 classes"):
        load_model(tmp_path / "m.tflite")
