"""Modules are read without TensorFlow, as TensorFlow would, and broken ones refused in words."""

from __future__ import annotations

import importlib
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nasnet_cli.errors import ModelError
from nasnet_cli.models.detect import identify
from nasnet_cli.models.savedmodel import schema
from nasnet_cli.models.savedmodel.reader import MetaGraph, Variable, read_saved_model
from nasnet_cli.models.savedmodel.signatures import pick_signature
from support import crafted
from support.crafted import classifier, meta_graph, signature, tensor

TINY = Path(__file__).parent / "data" / "tf1_tiny"
PB = (TINY / "saved_model.pb").read_bytes()


@pytest.fixture
def module(tmp_path: Path) -> Path:
    """A copy of the tiny module."""
    return Path(shutil.copytree(TINY, tmp_path / "module"))


def test_schema_matches_tensorflows_messages() -> None:
    _tensorflow("tensor_bundle_pb2")
    pool = _tensorflow("saved_model_pb2").DESCRIPTOR.pool
    elsewhere = {
        "MetaInfoDef": "MetaGraphDef.MetaInfoDef",
        "ListValue": "AttrValue.ListValue",
        "Dim": "TensorShapeProto.Dim",
        "ArgDef": "OpDef.ArgDef",
        "CooSparse": "TensorInfo.CooSparse",
        "CompositeTensor": "TensorInfo.CompositeTensor",
        "NodeList": "CollectionDef.NodeList",
        "BytesList": "CollectionDef.BytesList",
        "ObjectReference": "TrackableObjectGraph.TrackableObject.ObjectReference",
        "SlotVariableReference": "TrackableObjectGraph.TrackableObject.SlotVariableReference",
        "SerializedTensor": "TrackableObjectGraph.TrackableObject.SerializedTensor",
        "AttrDef": "OpDef.AttrDef",
        "DebugInfo": "NodeDef.ExperimentalDebugInfo",
        "TrackableObject": "TrackableObjectGraph.TrackableObject",
    }
    hub = {"ModuleAttachment", "ImageModuleInfo", "ImageSize"}
    onnx = {name for name in schema._MESSAGES if name.startswith("Onnx")}
    for name in schema._MESSAGES.keys() - hub - onnx:
        ours = schema.message(name).DESCRIPTOR
        theirs = pool.FindMessageTypeByName(f"tensorflow.{elsewhere.get(name, name)}")
        for field in ours.fields:
            twin = theirs.fields_by_name[field.name]
            assert _described(field) == _described(twin), f"{name}.{field.name}"


def _tensorflow(name: str) -> Any:
    """TensorFlow's own messages, which its quiet import must come before."""
    from nasnet_cli.quiet import tf  # noqa: F401

    return importlib.import_module(f"tensorflow.core.protobuf.{name}")


def _described(field: Any) -> tuple[Any, ...]:
    entry = field.message_type if field.type == field.TYPE_MESSAGE else None
    value = entry.fields_by_name["value"].type if entry and entry.GetOptions().map_entry else None
    kind = field.TYPE_INT32 if field.type == field.TYPE_ENUM else field.type
    oneof = field.containing_oneof.name if field.containing_oneof else None
    return field.number, kind, field.is_repeated, value, oneof


def test_fields_outside_the_schema_survive_writing() -> None:
    model = schema.parse("SavedModel", PB)
    theirs = _tensorflow("saved_model_pb2").SavedModel
    again = theirs.FromString(model.SerializeToString())
    assert again == theirs.FromString(PB)
    assert again.meta_graphs[0].meta_info_def.stripped_op_list.op


def test_tf1_hub_module_is_described() -> None:
    model = read_saved_model(TINY)
    graph = model.inference
    assert identify(TINY, "tiny").format.name == "tf1-hub"
    assert not model.has_objects
    assert [g.tags for g in model.meta_graphs] == [(), ("train",)]
    assert graph.tags == ()
    assert graph.image_size == (8, 8)
    assert sorted(graph.signatures) == ["default", "image_classification", "image_feature_vector"]
    images = graph.signatures["default"].inputs["images"]
    assert (images.tensor, images.dtype, images.shape) == ("images:0", "float32", (None, 8, 8, 3))
    assert graph.parameters == 3 * 3 * 3 * 4 + 4 * 4 + 4 * 5 + 5
    assert Variable("bn/moving_mean", "float32", (4,)) in graph.variables
    assert Variable("FC/weights", "float32", (4, 5)) in graph.variables
    training = model.meta_graphs[1].proto.collection_def
    assert "update_ops" not in graph.proto.collection_def
    assert len(training["update_ops"].node_list.value) == 2


def test_reading_imports_neither_tensorflow_nor_numpy() -> None:
    code = (
        "import sys; from pathlib import Path; from nasnet_cli.models.formats.tf1_hub import TF1Hub;"
        "assert 'google.protobuf' not in sys.modules;"
        f"m = TF1Hub().open(Path({str(TINY)!r}));"
        "m.digest, m.parameters, m.unsafe_operations;"
        "assert not {'tensorflow', 'numpy', 'openvino'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_tensorflow_2_model_is_described(tmp_path: Path) -> None:
    from nasnet_cli.quiet import tf

    class Model(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            self.kernel = tf.Variable(tf.ones((3, 3, 3, 4)), name="kernel")
            self.statistics = tf.Variable(tf.ones((4,)), trainable=False, name="statistics")
            self.step = tf.Variable(0, trainable=False, name="step")
            self.optimizer = tf.Module()
            self.optimizer.momentum = tf.Variable(tf.ones((100,)), name="momentum")

        @tf.function(input_signature=[tf.TensorSpec((None, 8, 8, 3), name="images")])
        def __call__(self, images: Any) -> Any:
            features = tf.reduce_mean(tf.nn.conv2d(images, self.kernel, 1, "SAME"), (1, 2))
            return {"logits": 2.0 * features, "features": features}

    model = Model()
    tf.saved_model.save(model, tmp_path / "m", signatures={"serving_default": model.__call__})
    read = read_saved_model(tmp_path / "m")
    graph = read.inference
    assert identify(read.folder, "it").format.name == "saved-model"
    assert (read.has_objects, graph.tags) == (True, ("serve",))
    assert graph.parameters == 3 * 3 * 3 * 4 + 4
    assert Variable("kernel", "float32", (3, 3, 3, 4)) in graph.variables
    assert Variable("statistics", "float32", (4,)) in graph.variables
    assert list(graph.signatures) == ["serving_default"]
    assert pick_signature(graph, "classification").output.key == "logits"
    assert pick_signature(graph, "feature_vector").output.key == "features"


def test_path_that_is_not_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="There is no model at"):
        read_saved_model(tmp_path / "none")
    with pytest.raises(ModelError, match="is not a folder"):
        read_saved_model(TINY / "saved_model.pb")
    with pytest.raises(ModelError, match=r"neither saved_model\.pb nor saved_model\.pbtxt"):
        read_saved_model(tmp_path)
    with pytest.raises(ModelError, match=r"Cannot read .*File name too long"):
        read_saved_model(tmp_path / ("a" * 300))


def test_text_form_is_refused_unless_the_binary_form_exists(module: Path) -> None:
    # As in TensorFlow, which reads the text only where there is no saved_model.pb.
    (module / "saved_model.pbtxt").write_text("saved_model_schema_version: 1")
    assert len(read_saved_model(module).meta_graphs) == 2
    (module / "saved_model.pb").unlink()
    with pytest.raises(ModelError, match=r"text form \(saved_model\.pbtxt\)"):
        read_saved_model(module)


def test_split_form_is_refused(module: Path) -> None:
    (module / "saved_model.cpb").write_bytes(b"")
    with pytest.raises(ModelError, match=r"split into pieces"):
        read_saved_model(module)


@pytest.mark.parametrize("content", [PB[:-1], PB[:20000], b"\xff" * 100])
def test_damaged_file_is_refused(module: Path, content: bytes) -> None:
    (module / "saved_model.pb").write_bytes(content)
    with pytest.raises(ModelError, match=r"saved_model\.pb is damaged: it is not a SavedModel"):
        read_saved_model(module)


def test_empty_file_is_refused(module: Path) -> None:
    (module / "saved_model.pb").write_bytes(b"")
    with pytest.raises(ModelError, match="it has no graphs"):
        read_saved_model(module)


@given(st.data())
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_damaged_file_raises_only_model_errors(module: Path, data: st.DataObject) -> None:
    content = bytearray(PB)
    for at in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=5)):
        content[at] = data.draw(st.integers(0, 255))
    (module / "saved_model.pb").write_bytes(content)
    try:
        for graph in read_saved_model(module).meta_graphs:
            assert graph.parameters >= 0
            assert graph.image_size != (0, 0)
            pick_signature(graph, "classification")
            pick_signature(graph, "feature_vector")
    except ModelError:
        pass


def test_file_over_the_limit_is_refused_unread(module: Path) -> None:
    with (module / "saved_model.pb").open("ab") as file:
        file.truncate(2**31)  # a hole, which takes no space
    with pytest.raises(ModelError, match="over 2 GB"):
        read_saved_model(module)


@pytest.mark.parametrize("name", ["variables.index", "variables.data-00000-of-00001"])
def test_empty_or_missing_variables_are_refused(module: Path, name: str) -> None:
    path = module / "variables" / name
    path.write_bytes(b"")
    with pytest.raises(ModelError, match=name):
        read_saved_model(module)
    path.unlink()
    with pytest.raises(ModelError, match=f"{name} is missing"):
        read_saved_model(module)


def test_model_with_only_a_training_graph_is_refused(tmp_path: Path) -> None:
    folder = crafted.write(tmp_path, meta_graph(tags=["train"]))
    with pytest.raises(ModelError, match="only a training graph"):
        read_saved_model(folder)


def test_serving_graph_comes_before_others(tmp_path: Path) -> None:
    tag_sets = (["train"], ["serve", "tpu"], ["serve"])
    folder = crafted.write(tmp_path, *(meta_graph(tags=tags) for tags in tag_sets))
    assert read_saved_model(folder).inference.tags == ("serve",)


@pytest.mark.parametrize("value", [b"\xff", b"", b"\x0a\x04\x08\x00\x10\x05"])
def test_damaged_attachment_is_refused(tmp_path: Path, value: bytes) -> None:
    graph = meta_graph()
    attachment = schema.message("ModuleAttachment")(key="image_module_info", value=value)
    attachments = graph.collection_def["hub_module_attachments"].bytes_list.value
    attachments.append(attachment.SerializeToString())
    with pytest.raises(ModelError, match="is damaged"):
        _ = read_saved_model(crafted.write(tmp_path, graph)).inference.image_size


def _chosen(tmp_path: Path, purpose: Any, **signatures: Any) -> tuple[str, str]:
    graph = read_saved_model(crafted.write(tmp_path, meta_graph(**signatures))).inference
    choice = pick_signature(graph, purpose)
    return choice.signature.name, choice.output.key


IMAGES = {"images": tensor("images:0", -1, 8, 8, 3)}
FEATURES = signature(IMAGES, {"default": tensor("pool:0", -1, 4), "map": tensor("map:0", -1, 4)})
BOTH = signature(IMAGES, {"logits": tensor("l:0", -1, 5), "features": tensor("f:0", -1, 4)})


@pytest.mark.parametrize(
    ("purpose", "signatures", "expected"),
    [
        (
            "classification",
            {"default": classifier(), "image_classification": classifier()},
            ("image_classification", "default"),
        ),
        (
            "classification",
            {"default": classifier(), "image_feature_vector": FEATURES},
            ("default", "default"),
        ),
        ("classification", {"serving_default": BOTH}, ("serving_default", "logits")),
        (
            "feature_vector",
            {"default": classifier(), "image_feature_vector": FEATURES},
            ("image_feature_vector", "default"),
        ),
        ("feature_vector", {"default": FEATURES}, ("default", "default")),
        ("feature_vector", {"serving_default": BOTH}, ("serving_default", "features")),
        (
            "feature_vector",
            {"default": BOTH, "image_classification": classifier()},
            ("default", "features"),
        ),
    ],
)
def test_pick_signature_follows_its_rules(
    tmp_path: Path, purpose: str, signatures: dict[str, Any], expected: tuple[str, str]
) -> None:
    assert _chosen(tmp_path, purpose, **signatures) == expected


def test_features_are_never_taken_for_logits(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no signature for classification; it has 'default'"):
        _chosen(tmp_path, "classification", default=FEATURES, image_feature_vector=FEATURES)


def test_logits_are_never_taken_for_features(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no signature for feature vector"):
        _chosen(tmp_path, "feature_vector", default=classifier(), image_classification=classifier())


def test_input_is_found_by_its_type(tmp_path: Path) -> None:
    image, flag = tensor("x:0", -1, 9, 9, 3), tensor("y:0", dtype=10)
    graph = meta_graph(
        serving_default=signature({"a": flag, "b": image}, {"o": tensor("o:0", -1, 2)})
    )
    read = read_saved_model(crafted.write(tmp_path, graph)).inference
    assert pick_signature(read, "classification").input.key == "b"


@pytest.mark.parametrize(
    ("inputs", "outputs", "message"),
    [
        (IMAGES, {"a": tensor("a:0", -1, 2), "b": tensor("b:0", -1, 2)}, "the outputs 'a', 'b'"),
        (IMAGES, {"a": tensor("a:0", -1, 2, 2)}, r"an output 'a' of shape \(None, 2, 2\)"),
        ({"x": tensor("x:0", -1, 2)}, {"a": tensor("a:0", -1, 2)}, "the inputs 'x'"),
        ({}, {"a": tensor("a:0", -1, 2)}, "the inputs none"),
        (IMAGES, {}, "no signature for classification; it has 'serving_default'"),
    ],
)
def test_unclear_signature_is_refused_with_its_keys(
    tmp_path: Path, inputs: dict[str, Any], outputs: dict[str, Any], message: str
) -> None:
    with pytest.raises(ModelError, match=message):
        _chosen(tmp_path, "classification", serving_default=signature(inputs, outputs))


def test_optimizer_variables_are_not_parameters(tmp_path: Path) -> None:
    names = ["w", "w/Adam", "w/Adam_1", "w/ExponentialMovingAverage", "beta1_power", "global_step"]
    shape = {"shape": {"dim": [{"size": 10}]}}
    nodes = [crafted.node(name, "VariableV2", dtype={"type": 1}, shape=shape) for name in names]
    graph = crafted.meta_graph(nodes)
    model = schema.message("SavedModel")(meta_graphs=[graph])
    assert MetaGraph(model.meta_graphs[0], tmp_path).parameters == 10
