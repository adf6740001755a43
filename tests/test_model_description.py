"""A module's description: sizes, counts, card, digest, multiply-adds."""

from __future__ import annotations

import json
import os
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nasnet_cli.errors import ModelError, NasnetError
from nasnet_cli.images import preprocess
from nasnet_cli.labels import Label
from nasnet_cli.models import card
from nasnet_cli.models.card import CARD, LABELS, Card, read_card, read_module_labels, write_card
from nasnet_cli.models.info import MultiplyAdds
from nasnet_cli.models.outputs import Head, Operation, UnclearOutputError, is_pooled, read_head
from nasnet_cli.models.savedmodel.graph import Graph
from nasnet_cli.models.savedmodel.signatures import pick_signature
from nasnet_cli.network.spec import MOBILE
from support import crafted
from support.crafted import function, meta_graph, node, signature, tensor
from support.models import open_saved_model

TINY = Path(__file__).parent / "data" / "tf1_tiny"
NAMES = [Label("n1", "one"), Label("n2", "two"), *(Label("", str(i)) for i in range(3, 6))]


@pytest.fixture
def module(tmp_path: Path) -> Path:
    """A copy of the tiny module, of 8x8 images and 5 classes."""
    return Path(shutil.copytree(TINY, tmp_path / "module"))


def test_description_of_the_tiny_module() -> None:
    module = open_saved_model(TINY)
    assert module.format == "tf1-hub"
    assert module.tag_sets == [[], ["train"]]
    assert module.image_size == (8, 8)
    assert (module.classes, module.feature_depth, module.parameters) == (5, 4, 149)
    assert module.output == "logits"
    assert module.labels is None
    assert module.card is None
    assert module.unsafe_operations == []
    assert module.preprocessing == {
        "size": [8, 8],
        "resize": "stretch",
        "crop_fraction": 0.875,
        "resample": "bilinear",
    }
    assert list(module.file_sizes) == [
        "saved_model.pb",
        "tfhub_module.pb",
        "variables/variables.data-00000-of-00001",
        "variables/variables.index",
    ]
    assert module.file_sizes["tfhub_module.pb"] == 2
    # The convolution: 4x4 places, 3x3x3 to 4 channels. The classifier: 4 to 5.
    assert module.multiply_adds == MultiplyAdds(4 * 4 * 27 * 4 + 4 * 5, 0)


def test_multiply_adds_of_the_mobile_network_are_the_published_ones(golden_module: Path) -> None:
    module = open_saved_model(golden_module)
    assert module.parameters == 5_327_773
    assert module.image_size == (224, 224)
    assert (module.classes, module.feature_depth) == (1001, 1056)
    found = module.multiply_adds
    assert found is not None
    assert round(found.total / 1e6, 1) == 563.6
    assert round(found.depthwise / 1e6, 1) == 69.7


def test_digest_covers_names_and_contents(module: Path, tmp_path: Path) -> None:
    digest = open_saved_model(module).digest
    assert digest == open_saved_model(TINY).digest
    os.utime(module / "saved_model.pb", (0, 0))
    (module / "assets").mkdir()
    assert open_saved_model(module).digest == digest
    (module / "assets" / "a").write_text("bc")
    one = open_saved_model(module).digest
    (module / "assets" / "a").rename(module / "assets" / "ab")
    (module / "assets" / "ab").write_text("c")
    assert len({digest, one, open_saved_model(module).digest}) == 3


def test_links_are_followed_inside_the_module_only(module: Path, tmp_path: Path) -> None:
    (module / "copy").symlink_to("tfhub_module.pb")
    assert open_saved_model(module).file_sizes["copy"] == 2
    (tmp_path / "secret").write_text("x")
    (module / "copy").unlink()
    (module / "copy").symlink_to(tmp_path / "secret")
    with pytest.raises(ModelError, match="leads out of the model"):
        _ = open_saved_model(module).digest


def test_pipes_and_links_to_folders_are_refused(module: Path) -> None:
    os.mkfifo(module / "pipe")
    with pytest.raises(ModelError, match="not a regular file"):
        _ = open_saved_model(module).digest
    (module / "pipe").unlink()
    (module / "loop").symlink_to(".")
    with pytest.raises(ModelError, match="not a regular file"):
        _ = open_saved_model(module).file_sizes


CARD_OF_TINY = Card(
    name="tiny",
    output="probabilities",
    preprocessing={"size": [8, 8], "resize": "crop", "crop_fraction": 1.0, "resample": "tf1"},
    network=MOBILE.to_dict(),
    accuracy={"dataset": "none", "pictures": 0, "top1": 0.5, "top5": 0.9, "how": "not at all"},
    source="here",
    licence="Apache-2.0",
    tool="nasnet 0",
)


def test_a_card_and_labels_are_read_back(module: Path) -> None:
    write_card(module, CARD_OF_TINY, NAMES)
    opened = open_saved_model(module)
    assert opened.card is not None
    assert replace(opened.card, network=None) == replace(CARD_OF_TINY, network=None)
    assert opened.labels == tuple(NAMES)
    assert opened.output == "probabilities"
    assert opened.preprocessing == CARD_OF_TINY.preprocessing


def test_unknown_keys_of_a_card_are_ignored(module: Path) -> None:
    write_card(module, Card("tiny"), None)
    data = json.loads((module / CARD).read_text())
    data["later"] = 1
    data["preprocessing"]["later"] = 1
    (module / CARD).write_text(json.dumps(data))
    read = read_card(module)
    assert read is not None
    assert read.name == "tiny"
    assert "later" not in open_saved_model(module).preprocessing
    assert not (module / LABELS).exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not JSON"),
        ("[" * 10**5, "is not JSON"),
        ("[]", "not a JSON object"),
        ("{}", "a wrong name: it must be text"),
        ('{"name": 1}', "a wrong name: it must be text"),
        ('{"name": "a", "output": "softmax"}', "a wrong output: it must be logits or prob"),
        ('{"name": "a", "output": []}', "a wrong output"),
        ('{"name": "a", "tool": null}', "a wrong tool: it must be text"),
        ('{"name": "a", "network": []}', "a wrong network: it must be an object or null"),
        ('{"name": "a", "preprocessing": 1}', "a wrong preprocessing: it must be an object"),
        ('{"name": "a", "preprocessing": {"size": [1]}}', r"\[height, width\] in pixels"),
        ('{"name": "a", "preprocessing": {"size": [1, true]}}', r"\[height, width\] in pixels"),
        ('{"name": "a", "preprocessing": {"resize": "s"}}', "stretch, crop or pad"),
        ('{"name": "a", "preprocessing": {"crop_fraction": 0}}', "over 0 and at most 1"),
        ('{"name": "a", "preprocessing": {"crop_fraction": NaN}}', "over 0 and at most 1"),
        (
            '{"name": "a", "preprocessing": {"resample": 3}}',
            "resample: it must be one of bilinear, ",
        ),
    ],
)
def test_error_of_a_wrong_card_names_its_file(module: Path, text: str, message: str) -> None:
    (module / CARD).parent.mkdir()
    (module / CARD).write_text(text)
    with pytest.raises(ModelError, match=message) as raised:
        open_saved_model(module)
    assert str(module / CARD) in str(raised.value)


def test_card_allows_the_settings_of_preprocessing() -> None:
    assert card.Resize == preprocess.Resize
    assert card.Resample == preprocess.Resample


def test_card_that_is_not_text_is_refused(module: Path) -> None:
    (module / CARD).parent.mkdir()
    (module / CARD).write_bytes(b"\xff")
    with pytest.raises(ModelError, match="not UTF-8"):
        open_saved_model(module)


def test_count_of_labels_must_be_that_of_classes(module: Path) -> None:
    write_card(module, Card("tiny"), NAMES[:4])
    with pytest.raises(ModelError, match="has 4 labels for 5 classes"):
        open_saved_model(module)
    (module / LABELS).write_text("index\twnid\tname\n1\t\tone\n")
    with pytest.raises(NasnetError, match=r"labels\.tsv"):
        open_saved_model(module)


@given(
    names=st.lists(
        st.text("ab \t\n\u2028\"'#,é", min_size=1).map(str.strip).filter(bool), min_size=1
    )
)
def test_odd_label_names_are_read_back(
    tmp_path_factory: pytest.TempPathFactory, names: list[str]
) -> None:
    folder = tmp_path_factory.mktemp("labels")
    write_card(folder, Card("odd"), [Label("", name) for name in names])
    read = tuple(Label("", " ".join(name.split())) for name in names)
    assert read_module_labels(folder) == read


def test_two_image_sizes_are_refused(module: Path) -> None:
    write_card(module, Card("tiny", preprocessing={"size": [9, 9]}), None)
    with pytest.raises(ModelError, match=r"8x8 in its attachment.*9x9 in its card"):
        open_saved_model(module)


def _open(
    folder: Path, nodes: list[Any], functions: tuple[Any, ...] = (), **signatures: Any
) -> Any:
    return open_saved_model(crafted.write(folder, meta_graph(nodes, functions, **signatures)))


def test_card_gives_the_size_of_a_module_of_open_size(tmp_path: Path) -> None:
    images = {"images": tensor("images:0", -1, -1, -1, 3)}
    nodes = [node("images", "Placeholder"), node("logits", "Mean", "images")]
    default = signature(images, {"default": tensor("logits:0", -1, 5)})
    module = _open(tmp_path, nodes, default=default)
    assert module.image_size is None
    assert "size" not in module.preprocessing
    assert module.multiply_adds is None
    write_card(tmp_path, Card("a", preprocessing={"size": [20, 30]}), None)
    assert open_saved_model(tmp_path).image_size == (20, 30)


def test_feature_vector_module_has_no_classes(tmp_path: Path) -> None:
    images = {"images": tensor("images:0", -1, 8, 8, 3)}
    vector = signature(images, {"default": tensor("pool:0", -1, 4)})
    module = _open(tmp_path, [], default=vector, image_feature_vector=vector)
    assert (module.classes, module.feature_depth, module.output) == (None, 4, None)
    with pytest.raises(ModelError, match="no signature for classification"):
        pick_signature(module.model.inference, "classification")


def test_module_for_other_data_is_refused(tmp_path: Path) -> None:
    text = signature({"text": tensor("t:0", -1, dtype=7)}, {"default": tensor("v:0", -1, 4)})
    with pytest.raises(ModelError, match="the inputs 'text'"):
        _open(tmp_path / "a", [], default=text)
    grey = signature({"images": tensor("i:0", -1, 8, 8, 1)}, {"default": tensor("v:0", -1, 4)})
    with pytest.raises(ModelError, match=r"shape \(None, 8, 8, 1\)"):
        _open(tmp_path / "b", [], default=grey)


def test_a_softmax_at_the_end_gives_probabilities(tmp_path: Path) -> None:
    last = function(
        "f", ["x"], node("y", "Softmax", "x"), node("z", "Identity", "y:softmax"), r="z:output"
    )
    call = node("logits", "PartitionedCall", "images", f="f")
    assert _open(tmp_path, [node("images", "Placeholder"), call], (last,)).output == "probabilities"


LOGITS, SOFTMAX = Head("logits", "softmax"), Head("probabilities", "softmax")
SIGMOIDS, LOGARITHMS = Head("probabilities", "sigmoid"), Head("logits", "log_softmax")


def chain(text: str) -> Operation | None:
    """Return the graph of "Div(Exp Sum(Exp))": operations, each with what it is made of."""
    words = re.findall(r"\w+|[()]", text)

    def read() -> list[Operation]:
        found = []
        while words and words[0] != ")":
            kind = words.pop(0)
            inputs: list[Operation] = []
            if words and words[0] == "(":
                words.pop(0)
                inputs = read()
                words.pop(0)
            found.append(Operation(kind, lambda inputs=inputs: inputs))
        return found

    return next(iter(read()), None)


@pytest.mark.parametrize(
    ("graph", "head"),
    [
        ("Softmax(MatMul)", SOFTMAX),
        ("Identity(Reshape(Squeeze(Softmax) Const))", SOFTMAX),
        ("Dequantize(Quantize(Softmax))", SOFTMAX),
        ("FakeQuantize(Convert(Transpose(Sigmoid)))", SIGMOIDS),
        ("Identity(LogSoftmax(MatMul))", LOGARITHMS),
        ("Log(Softmax)", LOGARITHMS),
        ("Exp(LogSoftmax)", SOFTMAX),
        ("Div(Exp(Sub) Sum(Exp(Sub)))", SOFTMAX),
        ("StridedSlice(Softmax)", SOFTMAX),
        ("MatMul(Softmax)", LOGITS),
        ("Add(MatMul(Mul(Conv Sigmoid(Conv))) Const)", LOGITS),
        ("Mean(Mul(Conv Sigmoid(Conv)))", LOGITS),
        ("Mul(Add(MatMul Const) Const)", LOGITS),
        ("Mul(Sqrt(Const) MatMul)", LOGITS),
        ("Div(BiasAdd Const)", LOGITS),
        ("Sub(MatMul Log(Sum(Exp(MatMul))))", LOGARITHMS),
        ("Clamp(Softmax)", SOFTMAX),
        ("", LOGITS),
    ],
)
def test_head_is_that_of_the_last_operation(graph: str, head: Head) -> None:
    assert read_head(chain(graph)) == head


@pytest.mark.parametrize(
    ("graph", "pooled"),
    [
        ("Reshape(Mean(Relu(Conv)))", True),
        ("AvgPool(Mul(BiasAdd Sigmoid(BiasAdd)))", True),
        ("Squeeze(ReduceMean(Add(Convolution Const)))", False),
        ("Mean(FusedBatchNormV3)", False),
        ("MatMul(Mean(Relu(Conv)))", False),
        ("", False),
    ],
)
def test_features_are_a_pooled_activation(graph: str, pooled: bool) -> None:
    assert is_pooled(chain(graph)) == pooled


@pytest.mark.parametrize(
    "graph",
    [
        "Mul(Add(Softmax Softmax) Const)",
        "Concat(Sub(Const Sigmoid) Sigmoid)",
        "Mean(Pack(Softmax Softmax))",
        "Mul(Softmax Const)",
        "ArgMax(MatMul)",
        "Tanh(MatMul)",
        "Relu(Softmax)",
        "Softplus(MatMul)",
        "Select(Greater Softmax Const)",
        "Clamp(Mul(MatMul Const))",
        "Mul(Elu(MatMul) Const)",
        "Div(Relu6(Add(MatMul Const)) Const)",
        "Div(MatMul Sqrt(Sum(Square(MatMul))))",
        "Div(Const Add(Exp(Neg(MatMul)) Const))",
        "Mul(Exp(MatMul) Power(Sum(Exp(MatMul)) Const))",
        "Div(Exp(MatMul) Sum(MatMul))",
    ],
)
def test_what_is_made_of_probabilities_is_unclear(graph: str) -> None:
    with pytest.raises(UnclearOutputError) as raised:
        read_head(chain(graph))
    named = re.match(r"its output comes from the operation (\w+),", raised.value.problem)
    assert named and named[1] in graph


def test_multiply_adds_of_each_operation() -> None:
    from nasnet_cli.models.openvino_graph import count_multiply_adds
    from nasnet_cli.quiet import openvino
    from openvino import opset13 as op  # isort: skip

    def weights(*shape: int) -> Any:
        return op.constant(np.ones(shape, np.float32))

    window = ([2, 2], [0, 0], [0, 0], [1, 1])
    images = op.parameter([-1, 3, 9, 7], np.float32)
    net = op.convolution(images, weights(4, 3, 3, 3), *window)  # 4x3
    depthwise = op.group_convolution(net, weights(4, 1, 1, 3, 3), *window)  # 1x1
    grouped = op.group_convolution(net, weights(2, 5, 2, 1, 1), *window)  # 2x2
    means = [op.reduce_mean(x, op.constant([2, 3]), False) for x in (depthwise, grouped)]
    logits = op.matmul(op.concat(means, 1), weights(6, 14), False, True)
    model = openvino.Model([logits], [images])
    ordinary = 4 * 3 * 4 * 27 + 2 * 2 * 10 * 2 + 14 * 6
    assert count_multiply_adds(model, (1, 3, 9, 7)) == (ordinary + 4 * 9, 4 * 9)


def test_module_with_unsafe_operations_has_no_multiply_adds(module: Path) -> None:
    """Counting has OpenVINO read the module."""
    opened = open_saved_model(module)
    vars(opened)["unsafe_operations"] = ["ReadFile"]
    assert opened.multiply_adds is None


ENDLESS = function("f", ["x"], node("y", "PartitionedCall", "x", f="f"), r="y:output")


def test_untraceable_output_is_taken_for_logits() -> None:
    nodes = [node("y", "PartitionedCall", "x", f="f"), node("x", "Placeholder")]
    graph = meta_graph([*nodes, node("loop", "Identity", "loop")], [ENDLESS])
    before = Graph(graph).before
    found = before("x:0")
    assert found is not None and (found.kind, found.inputs()) == ("Placeholder", [])
    assert before("y:0") is None and before("none:0") is None
    for name in ("y:0", "loop:0", "none:0"):
        assert read_head(before(name)) == LOGITS
