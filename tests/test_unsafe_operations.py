"""The scan for operations that could touch files, the network or run code.

The hostile models are only parsed here, never run.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from nasnet_cli.models.safety.allowed import (
    _GROUPS,
    ALLOWED,
    RESTORE,
    SAVE,
    TABLE_FILES,
    UNREACHED,
)
from nasnet_cli.models.safety.scan import unsafe_operations
from nasnet_cli.models.savedmodel.reader import read_saved_model
from nasnet_cli.models.savedmodel.schema import message
from support import crafted
from support.crafted import function, meta_graph, node, signature, tensor

TINY = Path(__file__).parent / "data" / "tf1_tiny"
IMAGES = node("images", "Placeholder")
ATTACKS = [
    "BigQueryReader",
    "CreateSummaryFileWriter",
    "DebugIdentity",
    "DebugIdentityV2",
    "DebugIdentityV3",
    "DecodeProtoV2",
    "DistributedSave",
    "EagerPyFunc",
    "EncodeProto",
    "FixedUnigramCandidateSampler",
    "ImmutableConst",
    "InitializeTableFromTextFileV2",
    "LoadAndRemapMatrix",
    "MatchingFiles",
    "MergeV2Checkpoints",
    "Print",
    "PrintV2",
    "PyFunc",
    "PyFuncStateless",
    "ReadFile",
    "RecordInput",
    "RemoteCall",
    "RestoreV2",
    "Save",
    "SaveV2",
    "ShardedFilename",
    "TextLineDataset",
    "WholeFileReaderV2",
    "WriteFile",
    "WriteSummary",
    "XlaCallModule",
    "NoSuchOperation",
]


def unsafe(folder: Path, *graphs: Any) -> list[str]:
    return unsafe_operations(read_saved_model(crafted.write(folder, *graphs)))


def test_every_allowed_name_is_an_operation() -> None:
    from nasnet_cli.quiet import tf

    names = [name for group in _GROUPS.values() for name in group.split()]
    assert len(names) == len(ALLOWED)
    for name in ALLOWED | RESTORE | SAVE | TABLE_FILES:
        assert hasattr(tf.raw_ops, name), name
    assert not ALLOWED & set(ATTACKS)


def test_allowed_unreached_operations_never_run_on_loading() -> None:
    from nasnet_cli.quiet import tf  # isort: skip
    from tensorflow.python.framework import op_def_registry  # isort: skip

    assert not UNREACHED & ALLOWED
    for name in UNREACHED:
        assert hasattr(tf.raw_ops, name), name
        only_describes = re.search(r"Dataset(V\d)?$", name)
        assert op_def_registry.get(name).is_stateful or only_describes, name


def test_module_written_by_tensorflow_hub_is_safe() -> None:
    model = read_saved_model(TINY)
    assert unsafe_operations(model) == []
    for graph in model.meta_graphs:
        assert {n.op for n in graph.proto.graph_def.node} <= ALLOWED


def test_module_written_by_nasnet_is_safe(tiny_module: Path) -> None:
    assert unsafe_operations(read_saved_model(tiny_module)) == []


@pytest.mark.parametrize("op", ATTACKS)
def test_operation_that_an_output_needs_is_reported(tmp_path: Path, op: str) -> None:
    nodes = [IMAGES, node("attack", op, "images"), node("logits", "Identity", "attack:0")]
    assert unsafe(tmp_path, meta_graph(nodes, tags=["serve"])) == [f"{op} in the graph {{serve}}"]


@pytest.mark.parametrize("op", ["WriteFile", "PrintV2", "SaveV2"])
def test_control_inputs_are_followed(tmp_path: Path, op: str) -> None:
    nodes = [IMAGES, node("attack", op), node("logits", "Identity", "images", "^attack")]
    assert unsafe(tmp_path, meta_graph(nodes)) == [f"{op} in the graph {{}}"]


def test_training_graph_is_scanned_too(tmp_path: Path) -> None:
    nodes = [node("logits", "ReadFile")]
    graphs = meta_graph([node("logits", "Const")]), meta_graph(nodes, tags=["train"])
    assert unsafe(tmp_path, *graphs) == ["ReadFile in the graph {train}"]


def test_stateful_operation_that_nothing_reaches_is_allowed(tmp_path: Path) -> None:
    nodes = [IMAGES, node("logits", "Identity", "images"), node("idle", "WriteFile", "images")]
    unused = function("unused", ["x"], node("attack", "WriteFile", "x"))
    assert unsafe(tmp_path, meta_graph(nodes, [unused])) == []


@pytest.mark.parametrize("op", ["ReadFile", "MatchingFiles", "ImmutableConst", "DatasetFromGraph"])
def test_constant_operation_that_nothing_reaches_is_reported(tmp_path: Path, op: str) -> None:
    fine = [IMAGES, node("logits", "Identity", "images")]
    idle = node("idle", op, "name")
    assert unsafe(tmp_path, meta_graph([*fine, idle])) == [f"{op} in the graph {{}}"]
    unused = function("unused", ["x"], idle)
    assert unsafe(tmp_path, meta_graph(fine, [unused])) == [f"{op} in the function unused"]


LEAF = function("leaf", ["x"], node("attack", "WriteFile", "x", "x"))
CALLERS = {
    "a call": node("logits", "StatefulPartitionedCall", "images", f="leaf"),
    "a branch": node("logits", "If", "images", then_branch="fine", else_branch="leaf"),
    "a loop": node("logits", "While", "images", cond="leaf", body="fine"),
    "a list": node("logits", "Case", branches={"list": {"func": [{"name": "leaf"}]}}),
    "the function's name": node("logits", "leaf", "images"),
    "a gradient's name": node("logits", "Identity", "images", _gradient_op_type=b"leaf"),
    "an attribute of a function": node(
        "logits",
        "SymbolicGradient",
        f={"func": {"name": "fine", "attr": {"g": {"func": {"name": "leaf"}}}}},
    ),
    "a string in an attribute of a function": node(
        "logits",
        "PartitionedCall",
        f={"func": {"name": "fine", "attr": {"_gradient_op_type": {"s": b"leaf"}}}},
    ),
}


@pytest.mark.parametrize("caller", CALLERS.values(), ids=CALLERS.keys())
def test_functions_are_followed(tmp_path: Path, caller: Any) -> None:
    fine = function("fine", ["x"], node("y", "Identity", "x"))
    assert unsafe(tmp_path, meta_graph([IMAGES, caller], [fine, LEAF])) == [
        "WriteFile in the function leaf"
    ]


def test_interchangeable_functions_are_followed(tmp_path: Path) -> None:
    called, other = function("called", ["x"], node("y", "Identity", "x")), function("other", ["x"])
    other.CopyFrom(LEAF)
    other.signature.name = "other"
    for each in (called, other):
        each.attr["api_implements"].s = b"either"
    call = node("logits", "PartitionedCall", "images", f="called")
    assert unsafe(tmp_path, meta_graph([IMAGES, call], [called, other])) == [
        "WriteFile in the function other"
    ]


def test_function_attributes_are_followed(tmp_path: Path) -> None:
    called = function("called", ["x"], node("y", "PartitionedCall", "x", f={"placeholder": "g"}))
    called.signature.attr.add(name="g").default_value.func.name = "leaf"
    graph = meta_graph([IMAGES, node("logits", "called", "images")], [called, LEAF])
    assert unsafe(tmp_path, graph) == ["WriteFile in the function leaf"]


def test_nested_functions_are_followed(tmp_path: Path) -> None:
    outer = function("outer", ["x"], node("y", "PartitionedCall", "x", f="middle"))
    middle = function("middle", ["x"], node("y", "PartitionedCall", "x", f="leaf"))
    call = node("logits", "PartitionedCall", "images", f="outer")
    assert unsafe(tmp_path, meta_graph([IMAGES, call], [outer, middle, LEAF])) == [
        "WriteFile in the function leaf"
    ]


def test_operation_named_in_place_of_a_function_is_reported(tmp_path: Path) -> None:
    call = node("logits", "PartitionedCall", "images", f="WriteFile")
    assert unsafe(tmp_path, meta_graph([IMAGES, call])) == ["WriteFile in the graph {}"]


def test_function_named_like_an_operation_is_reported(tmp_path: Path) -> None:
    false = function("Identity", ["x"], node("attack", "ReadFile", "x"))
    nodes = [IMAGES, node("logits", "Identity", "images")]
    assert unsafe(tmp_path, meta_graph(nodes, [false])) == [
        "ReadFile in the function Identity",
        "function Identity in place of the operation",
    ]


def test_duplicate_names_are_reported(tmp_path: Path) -> None:
    nodes = [node("logits", "WriteFile"), node("logits", "Const")]
    assert unsafe(tmp_path, meta_graph(nodes)) == ["duplicate names in the graph {}"]
    graph = meta_graph([node("logits", "Const")], [LEAF, function("leaf", ["x"])])
    assert unsafe(tmp_path, graph) == ["duplicate names in the graph {}"]


def test_nested_attributes_are_followed(tmp_path: Path) -> None:
    functions = [function(f"f{i}", []) for i in range(5000)]
    for number, each in enumerate(functions):
        each.attr["forward_function_name"].s = b"f%d" % (number + 1)
    functions.append(function("f5000", [], node("attack", "ReadFile")))
    graph = meta_graph([node("logits", "PartitionedCall", f="f0")], functions)
    assert unsafe(tmp_path, graph) == ["ReadFile in the function f5000"]


@pytest.mark.parametrize("name", ["main_op", "saved_model_main_op", "legacy_init_op", "update_ops"])
def test_operations_that_run_on_loading_are_roots(tmp_path: Path, name: str) -> None:
    graph = meta_graph([node("logits", "Const"), node("attack", "WriteFile")])
    graph.collection_def[name].node_list.value.append("attack")
    assert unsafe(tmp_path, graph) == ["WriteFile in the graph {}"]


def test_initialiser_signature_is_a_root(tmp_path: Path) -> None:
    start = signature({}, {"__saved_model_init_op": tensor("attack")})
    nodes = [node("logits", "Const"), node("attack", "WriteFile")]
    graph = meta_graph(nodes, default=crafted.classifier(), __saved_model_init_op=start)
    assert unsafe(tmp_path, graph) == ["WriteFile in the graph {}"]


def test_variable_initialiser_is_a_root(tmp_path: Path) -> None:
    graph = meta_graph([node("logits", "Const"), node("w/Assign", "RestoreV2")])
    variable = message("VariableDef")(variable_name="w:0", initializer_name="w/Assign")
    graph.collection_def["variables"].bytes_list.value.append(variable.SerializeToString())
    found = unsafe_operations(read_saved_model(crafted.write(tmp_path, graph)))
    assert found == ["RestoreV2 in the graph {}"]


def test_object_functions_and_gradients_are_roots(tmp_path: Path) -> None:
    graph = meta_graph([node("logits", "Const")], [LEAF])
    graph.object_graph_def.nodes.add()
    assert unsafe(tmp_path, graph) == []
    graph.object_graph_def.concrete_functions["leaf"].SetInParent()
    assert unsafe(tmp_path, graph) == ["WriteFile in the function leaf"]
    graph.object_graph_def.concrete_functions.clear()
    graph.graph_def.library.registered_gradients.add(gradient_func="leaf")
    assert unsafe(tmp_path, graph) == ["WriteFile in the function leaf"]


def saver(*extra: Any, restore: str = "restore", save: str = "save") -> Any:
    """A graph with a saver as TensorFlow 1 makes it, and more nodes."""
    nodes = [
        IMAGES,
        node("logits", "Identity", "images"),
        node("file", "PlaceholderWithDefault"),
        node("names", "Const"),
        node("shard", "ShardedFilename", "file"),
        node("save", "SaveV2", "shard", "names"),
        node("merge", "MergeV2Checkpoints", "shard", "file", "^save"),
        node("value", "RestoreV2", "file", "names"),
        node("w", "VarHandleOp"),
        node("assign", "AssignVariableOp", "w", "value"),
        node("restore", "NoOp", "^assign"),
    ]
    replaced = {n.name for n in extra}
    graph = meta_graph([*(n for n in nodes if n.name not in replaced), *extra])
    graph.saver_def.filename_tensor_name = "file:0"
    graph.saver_def.restore_op_name = restore
    graph.saver_def.save_tensor_name = save
    return graph


def saver_operations(folder: Path, graph: Any) -> list[str]:
    """Unsafe operations of a graph whose variables aren't on disk."""
    graph.object_graph_def.nodes.add()  # TensorFlow 2 counts variables among its objects
    return unsafe(folder, graph)


def test_saver_is_allowed(tmp_path: Path) -> None:
    assert saver_operations(tmp_path, saver(save="merge")) == []


@pytest.mark.parametrize("op", ["MatchingFiles", "WriteFile", "ReadFile"])
def test_saver_with_another_operation_is_reported(tmp_path: Path, op: str) -> None:
    restoring = saver(node("assign", op, "w", "value"))
    assert saver_operations(tmp_path, restoring) == [f"{op} in the graph {{}}"]
    saving = saver(node("shard", op, "file"))
    assert saver_operations(tmp_path, saving) == [f"{op} in the graph {{}}"]


def test_restoring_that_saves_is_reported(tmp_path: Path) -> None:
    graph = saver(node("restore", "NoOp", "^assign", "^merge"))
    assert saver_operations(tmp_path, graph) == [
        f"{op} in the graph {{}}" for op in ("MergeV2Checkpoints", "SaveV2", "ShardedFilename")
    ]


@pytest.mark.parametrize("node_name", ["value", "merge"])
def test_saver_that_an_output_reaches_is_reported(tmp_path: Path, node_name: str) -> None:
    graph = saver(node("logits", "Identity", "images", f"^{node_name}"))
    assert saver_operations(tmp_path, graph)


@pytest.mark.parametrize(
    "path",
    [
        [node("other", "Const")],
        [node("other", "Identity", "file2"), node("file2", "Const")],
        [node("other", "StringJoin", "file", "file")],
    ],
)
def test_restoring_from_another_file_is_reported(tmp_path: Path, path: list[Any]) -> None:
    graph = saver(node("value", "RestoreV2", "other", "names"), *path)
    assert saver_operations(tmp_path, graph) == ["RestoreV2 in the graph {}"]


def test_restoring_in_a_function_may_only_read_its_argument(tmp_path: Path) -> None:
    def graph(argument: str) -> Any:
        reads = function(
            "reads", ["prefix"], node("p", "Identity", "prefix"), node("v", "RestoreV2", "p:output")
        )
        call = node("assign", "StatefulPartitionedCall", argument, f="reads")
        result = saver(call)
        result.graph_def.library.function.append(reads)
        return result

    assert saver_operations(tmp_path, graph("file")) == []
    assert saver_operations(tmp_path, graph("names")) == ["RestoreV2 in the function reads"]


def table(*extra: Any, asset: str = "labels.txt") -> Any:
    """A graph that reads a table from an asset when it is loaded."""
    nodes = [
        node("logits", "Const"),
        node("path", "Const"),
        node("table", "HashTableV2"),
        node("init", "InitializeTableFromTextFileV2", "table", "path"),
    ]
    graph = meta_graph([*nodes, *extra])
    graph.collection_def["legacy_init_op"].node_list.value.append("init")
    graph.asset_file_def.add(tensor_info=tensor("path:0", dtype=7), filename=asset)
    return graph


def test_label_table_from_the_assets_is_allowed(tmp_path: Path) -> None:
    assert unsafe(tmp_path, table()) == []


def test_label_table_from_another_file_is_reported(tmp_path: Path) -> None:
    graph = table()
    del graph.asset_file_def[:]
    found = ["InitializeTableFromTextFileV2 in the graph {}"]
    assert unsafe(tmp_path, graph) == found


@pytest.mark.parametrize("named", [{"s": b"kept"}, {"placeholder": "name"}])
def test_label_table_from_a_variable_path_is_reported(tmp_path: Path, named: Any) -> None:
    """An asset's path that goes through a variable, which a function assigns another to."""
    change = function(
        "change",
        ["x"],
        node("variable", "VarHandleOp", shared_name=named),
        node("assign", "AssignVariableOp", "variable", "x"),
    )
    nodes = [
        node("variable", "VarHandleOp", shared_name=b"kept"),
        node("kept", "AssignVariableOp", "variable", "path"),
        node("read", "ReadVariableOp", "variable", "^kept"),
        node("init", "InitializeTableFromTextFileV2", "table", "read"),
    ]
    graph = table()
    del graph.graph_def.node[-1]
    graph.graph_def.node.extend(nodes)
    assert saver_operations(tmp_path, graph) == []
    call = node("call", "StatefulPartitionedCall", "passwd", f="change")
    graph.graph_def.node.append(call)
    graph.graph_def.library.function.append(change)
    graph.graph_def.node[-2].input.append("^call")
    assert saver_operations(tmp_path, graph) == ["InitializeTableFromTextFileV2 in the graph {}"]


def test_label_table_that_an_output_initialises_is_reported(tmp_path: Path) -> None:
    # There the loader doesn't put the asset's path in the place of what the graph says.
    graph = table()
    graph.graph_def.node[0].input.append("^init")
    assert unsafe(tmp_path, graph) == ["InitializeTableFromTextFileV2 in the graph {}"]


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "a/../../../b"])
def test_asset_outside_the_folder_is_reported(tmp_path: Path, name: str) -> None:
    assert unsafe(tmp_path, table(asset=name)) == [f"asset {name} outside the model's folder"]


def test_asset_that_links_outside_the_folder_is_reported(tmp_path: Path) -> None:
    (tmp_path / "m" / "assets").mkdir(parents=True)
    (tmp_path / "m" / "assets" / "labels.txt").symlink_to("/etc/passwd")
    assert unsafe(tmp_path / "m", table()) == ["asset labels.txt outside the model's folder"]


def test_hostile_tensorflow_2_model_is_told_from_a_safe_one(tmp_path: Path) -> None:
    from nasnet_cli.quiet import tf

    (tmp_path / "labels.txt").write_text("a\nb\n")

    class Model(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            self.variable = tf.Variable(1.0)
            line, text = tf.lookup.TextFileIndex.LINE_NUMBER, tf.lookup.TextFileIndex.WHOLE_LINE
            file = str(tmp_path / "labels.txt")
            reader = tf.lookup.TextFileInitializer(file, tf.string, text, tf.int64, line)
            self.table = tf.lookup.StaticHashTable(reader, -1)
            self.counts = tf.lookup.experimental.MutableHashTable(tf.string, tf.int64, -1)

        @tf.function(input_signature=[tf.TensorSpec((None,), tf.string)])
        def __call__(self, x: Any) -> Any:
            return self.table.lookup(x) + self.counts.lookup(x)

    class Attack(Model):
        @tf.function(input_signature=[])
        def helper(self) -> Any:
            tf.io.write_file("/nowhere/else", "text")
            return self.variable + 0.0

    for model, name in ((Model(), "honest"), (Attack(), "attack")):
        folder = str(tmp_path / name)
        tf.saved_model.save(model, folder, signatures={"serving_default": model.__call__})
    honest = read_saved_model(tmp_path / "honest")
    operations = {
        n.op for f in honest.inference.proto.graph_def.library.function for n in f.node_def
    }
    assert {"SaveV2", "RestoreV2", "InitializeTableFromTextFileV2"} <= operations
    assert unsafe_operations(honest) == []
    (found,) = unsafe_operations(read_saved_model(tmp_path / "attack"))
    assert found.startswith("WriteFile in the function __inference_helper_")


def test_keras_export_is_safe(tmp_path: Path) -> None:
    from nasnet_cli.quiet import tf

    keras = tf.keras
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((16, 16, 3)),
            layers.Conv2D(8, 3, strides=2, padding="same", use_bias=False),
            layers.BatchNormalization(),
            layers.ReLU(6.0),
            layers.DepthwiseConv2D(3, padding="same"),
            layers.GlobalAveragePooling2D(),
            layers.Dropout(0.2),
            layers.Dense(5, activation="softmax"),
        ]
    )
    model.export(tmp_path / "m", verbose=False)
    assert unsafe_operations(read_saved_model(tmp_path / "m")) == []
