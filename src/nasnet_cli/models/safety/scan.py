"""Finds the operations by which a module could touch files, the network or run code.

TensorFlow runs whatever a SavedModel says, so before it is given one each operation that can be
reached must be known to compute and nothing else (allowed_operations). Where an operation is
reached from decides what more is fine:

- "compute", what a user of the module runs: signatures, the objects' functions, collections;
- "init", what the loader runs once: it may read label tables from the module's own assets;
- "restore", what the loader runs to fill the variables: it may read the file that it is given;
- "save", the saver's own part, which every honest TF2 SavedModel carries and nobody runs here.

In a function every operation counts, as TensorFlow runs those with side effects even if no output
needs them. What none of these reaches is not run, but for one thing: TensorFlow infers the shapes
of a graph as it loads it, and computes what it takes for constant on the way, such as the content
of a file with a constant name. So what nothing reaches may only be what is safe or never constant.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any, Literal, NamedTuple

from nasnet_cli.models.safety.allowed import ALLOWED, IDLE, RESTORE, SAVE, TABLE_FILES
from nasnet_cli.models.savedmodel.reader import INIT_SIGNATURES, MetaGraph, SavedModelFile
from nasnet_cli.models.savedmodel.schema import attribute, message

Kind = Literal["compute", "init", "restore", "save"]

_INIT_COLLECTIONS = {
    "main_op",
    "saved_model_main_op",
    "legacy_init_op",
    "table_initializer",
    "local_init_op",
    "init_op",
}
_OWN_ASSIGNMENT = ("AssignVariableOp", "VarIsInitializedOp")
# These run the functions that an attribute names.
_CALLS = {
    *("Case", "For", "If", "MapDefun", "PartitionedCall", "StatefulPartitionedCall"),
    *("StatelessCase", "StatelessIf", "StatelessWhile", "SymbolicGradient", "While"),
}
# Functions with the same word under this attribute stand for each other: TensorFlow's optimizer
# calls whichever is for the device at hand, though no node names it.
_INTERFACE = "api_implements"
_MAY_STAND_IDLE = ALLOWED | IDLE | RESTORE | SAVE | TABLE_FILES
# Which input of an operation names the file that it reads.
_FILE_INPUT = {"RestoreV2": 0, **dict.fromkeys(TABLE_FILES, 1)}


def unsafe_operations(model: SavedModelFile) -> list[str]:
    """What in any graph of the module is not known to be safe, with its place, sorted.

    An entry reads "WriteFile in the function __inference_f_7" or "PyFunc in the graph {serve}".
    Assets that lie outside of the module's folder have an entry too. Empty in an honest module.
    Raises ModelError when a collection of variables is broken.
    """
    found: set[str] = set()
    for graph in model.meta_graphs:
        found.update(_Walk(graph).unsafe())
        found.update(_assets_outside(graph, model.folder))
    return sorted(found)


class _Place(NamedTuple):
    """A node's place: in a function, or where function is None in the graph itself."""

    kind: Kind
    function: str | None
    node: Any


class _Caller(NamedTuple):
    """Where a function is called with the inputs as its arguments; None: in another way."""

    function: str | None
    inputs: list[str] | None


class _Walk:
    """Reaches everything in one graph that its roots need, each under the root's kind."""

    def __init__(self, graph: MetaGraph) -> None:
        self.graph = graph
        proto = graph.proto
        self.nodes = {node.name: node for node in proto.graph_def.node}
        library = proto.graph_def.library
        self.functions = {function.signature.name: function for function in library.function}
        self.meant = _functions_by_name(library.function)
        self.assets = {asset.tensor_info.name.partition(":")[0] for asset in proto.asset_file_def}
        self.seen: set[tuple[Kind, bool, str]] = set()
        self.waiting: list[_Place] = []
        self.callers: defaultdict[tuple[Kind, str], list[_Caller]] = defaultdict(list)
        self.readers: list[_Place] = []
        self.bad: set[tuple[str, str | None]] = set()

    def unsafe(self) -> Iterator[str]:
        for kind, name in self._roots():
            self._reach(kind, name)
        self._reach_unnamed_functions()
        while self.waiting:
            self._visit(self.waiting.pop())
        for place in self.readers:
            if not self._reads_own_file(place):
                self.bad.add((place.node.op, place.function))
        self._look_at_the_rest()
        tags = ", ".join(self.graph.tags)
        if len(self.nodes) < len(self.graph.proto.graph_def.node) or len(self.functions) < len(
            self.graph.proto.graph_def.library.function
        ):
            yield f"two of one name in the graph {{{tags}}}"
        for name in ALLOWED & self.functions.keys():
            yield f"function {name} in the place of the operation"
        for op, function in self.bad:
            where = f"the function {function}" if function else f"the graph {{{tags}}}"
            yield f"{op} in {where}"

    def _roots(self) -> Iterator[tuple[Kind, str]]:
        """What a loader or a user runs in the graph, by the names of tensors and nodes."""
        proto = self.graph.proto
        for name in proto.signature_def:
            signature = proto.signature_def[name]
            kind: Kind = "init" if name == INIT_SIGNATURES[0] else "compute"
            for infos in (signature.inputs, signature.outputs):
                for key in infos:
                    yield from ((kind, tensor) for tensor in _tensor_names(infos[key]))
        for name in proto.collection_def:
            kind = "init" if name in _INIT_COLLECTIONS else "compute"
            for node in proto.collection_def[name].node_list.value:
                yield kind, node
            if name.endswith("variables"):
                for variable in self.graph.variable_defs(name):
                    yield "compute", variable.variable_name
                    yield "compute", variable.initializer_name
                    yield "compute", variable.snapshot_name
                    yield "compute", variable.initial_value_name
        yield "restore", proto.saver_def.restore_op_name
        yield "save", proto.saver_def.filename_tensor_name
        yield "save", proto.saver_def.save_tensor_name

    def _reach_unnamed_functions(self) -> None:
        """Functions that are run though no node calls them: the objects' and the gradients."""
        objects = self.graph.proto.object_graph_def
        library = self.graph.proto.graph_def.library
        for name in objects.concrete_functions:
            self._reach_function("compute", name, None)
        for gradient in (*library.gradient, *library.registered_gradients):
            self._reach_function("compute", gradient.gradient_func, _Caller(None, None))

    def _reach(self, kind: Kind, tensor: str) -> None:
        name = _node_name(tensor)
        node = self.nodes.get(name)
        if node is not None and (kind, False, name) not in self.seen:
            self.seen.add((kind, False, name))
            self.waiting.append(_Place(kind, None, node))

    def _reach_function(self, kind: Kind, name: str, caller: _Caller | None) -> None:
        if caller is not None:
            self.callers[kind, name].append(caller)
        if name in self.functions and (kind, True, name) not in self.seen:
            self.seen.add((kind, True, name))
            function = self.functions[name]
            self.waiting.extend(_Place(kind, name, node) for node in function.node_def)
            # What the function's own attributes name is followed as if a node named it.
            defaults = {attr.name: attr.default_value for attr in function.signature.attr}
            for attributes in (function.attr, defaults):
                named = message("NodeDef")(op="NoOp", attr=attributes)
                self.waiting.append(_Place(kind, name, named))

    def _visit(self, place: _Place) -> None:
        kind, function, node = place
        # TensorFlow looks an operation up among the functions first.
        if node.op in self.functions:
            self._reach_function(kind, node.op, _Caller(function, _data_inputs(node)))
        elif node.op in _FILE_INPUT and self._may_read(kind, node.op):
            self.readers.append(place)
        elif not _is_allowed(kind, node.op):
            self.bad.add((node.op, function))
        is_call = node.op in ("PartitionedCall", "StatefulPartitionedCall")
        caller = _Caller(function, _data_inputs(node) if is_call else None)
        for text in _function_names(node.attr) if self.functions else ():
            for name in self.meant.get(text, ()):
                self._reach_function(kind, name, caller)
        for name in _called(node.attr) if node.op in _CALLS or node.op in self.functions else ():
            # A name that is no function's may be an operation's.
            if name and name not in self.functions and not _is_allowed(kind, name):
                self.bad.add((name, function))
        if function is None:
            for tensor in node.input:
                self._reach(kind, tensor)

    def _look_at_the_rest(self) -> None:
        """What nothing reaches: TensorFlow infers its shapes all the same."""
        reached = {(is_function, name) for _, is_function, name in self.seen}
        rest = [(None, node) for name, node in self.nodes.items() if (False, name) not in reached]
        for name, function in self.functions.items():
            if (True, name) not in reached:
                rest += [(name, node) for node in function.node_def]
        for where, node in rest:
            if node.op not in _MAY_STAND_IDLE and node.op not in self.functions:
                self.bad.add((node.op, where))

    def _may_read(self, kind: Kind, op: str) -> bool:
        return kind == "restore" if op in RESTORE else kind in ("init", "compute")

    def _reads_own_file(self, place: _Place) -> bool:
        """Whether the file that a node reads can only be one that the loader gives it."""
        inputs = _data_inputs(place.node)
        at = _FILE_INPUT[place.node.op]
        if len(inputs) <= at:
            return False
        waiting = [(place.function, inputs[at])]
        seen = set()
        while waiting:
            function, tensor = waiting.pop()
            if (function, tensor) in seen:
                continue
            seen.add((function, tensor))
            sources = self._sources(place.kind, function, tensor)
            if sources is None:
                return False
            waiting.extend(sources)
        return True

    def _sources(
        self, kind: Kind, function: str | None, tensor: str
    ) -> list[tuple[str | None, str]] | None:
        """Where a tensor comes from: none when the loader gives it, None when anyone may."""
        name = _node_name(tensor)
        if function is None:
            if self._is_given(kind, name):
                return []
            node = self.nodes.get(name)
            if node is not None and node.op == "ReadVariableOp":
                return self._variable_sources(node)
        else:
            definition = self.functions[function]
            arguments = [argument.name for argument in definition.signature.input_arg]
            if name in arguments:
                return self._argument_sources(kind, function, arguments.index(name))
            node = next((n for n in definition.node_def if n.name == name), None)
        inputs = _data_inputs(node) if node is not None and node.op == "Identity" else []
        return [(function, inputs[0])] if inputs else None

    def _variable_sources(self, read: Any) -> list[tuple[str | None, str]] | None:
        """What is assigned to a variable of the graph, which only the graph itself may do.

        TensorFlow 2 keeps the path of an asset in one.
        """
        variable = self.nodes.get(_node_name(read.input[0])) if read.input else None
        if variable is None or variable.op != "VarHandleOp":
            return None
        name = _variable_name(variable)
        for node in self._all_nodes():
            if node.op == "VarHandleOp" and node is not variable and _may_be_named(node, name):
                return None
        users = [
            node
            for node in self.nodes.values()
            if variable.name in map(_node_name, _data_inputs(node))
        ]
        if {node.op for node in users} - {"ReadVariableOp", *_OWN_ASSIGNMENT}:
            return None
        assigned = [_data_inputs(node) for node in users if node.op == "AssignVariableOp"]
        if not assigned or any(len(inputs) != 2 for inputs in assigned):
            return None
        return [(None, inputs[1]) for inputs in assigned]

    def _all_nodes(self) -> Iterator[Any]:
        yield from self.nodes.values()
        for function in self.functions.values():
            yield from function.node_def

    def _is_given(self, kind: Kind, name: str) -> bool:
        """Whether the loader feeds this node of the graph, whatever the graph says itself."""
        if kind == "restore":
            return name == _node_name(self.graph.proto.saver_def.filename_tensor_name)
        # It feeds assets when it runs the initialisers, but not to signatures.
        return kind == "init" and name in self.assets

    def _argument_sources(
        self, kind: Kind, function: str, index: int
    ) -> list[tuple[str | None, str]] | None:
        sources = []
        for caller in self.callers[kind, function]:
            if caller.inputs is None or index >= len(caller.inputs):
                return None
            sources.append((caller.function, caller.inputs[index]))
        objects = self.graph.proto.object_graph_def
        if kind == "compute" and function in objects.concrete_functions:
            # Captured tensors follow the arguments proper; an asset among them is its own path.
            bound = objects.concrete_functions[function].bound_inputs
            at = index - len(self.functions[function].signature.input_arg) + len(bound)
            if at < 0 or not 0 <= bound[at] < len(objects.nodes):
                return None
            if not objects.nodes[bound[at]].HasField("asset"):
                return None
        return sources


def _is_allowed(kind: Kind, op: str) -> bool:
    return op in ALLOWED or (kind == "save" and op in SAVE)


def _node_name(tensor: str) -> str:
    """The node of "node:0", "node:output:0" or the control input "^node"."""
    return tensor.removeprefix("^").partition(":")[0]


def _variable_name(node: Any) -> str:
    return attribute(node, "shared_name").s.decode("utf-8", "replace") or str(node.name)


def _may_be_named(node: Any, name: str) -> bool:
    """Whether a variable's handle may be to the variable of that name."""
    # Whoever calls a function fills in what it leaves open.
    is_open = attribute(node, "shared_name").WhichOneof("value") == "placeholder"
    return is_open or _variable_name(node) == name


def _data_inputs(node: Any) -> list[str]:
    return [tensor for tensor in node.input if not tensor.startswith("^")]


def _tensor_names(info: Any) -> Iterator[str]:
    yield info.name
    yield from (
        info.coo_sparse.values_tensor_name,
        info.coo_sparse.indices_tensor_name,
        info.coo_sparse.dense_shape_tensor_name,
    )
    for component in info.composite_tensor.components:
        yield from _tensor_names(component)


def _called(attributes: Any) -> Iterator[str]:
    """The functions that attributes name, and those that these name in turn."""
    for value in _values(attributes):
        if value.WhichOneof("value") == "func":
            yield value.func.name
        yield from (function.name for function in value.list.func)


def _function_names(attributes: Any) -> Iterator[str]:
    """What _called gives, and every string, as gradients are named by strings."""
    yield from _called(attributes)
    for value in _values(attributes):
        for text in (value.s, *value.list.s):
            yield text.decode("utf-8", "replace")


def _values(attributes: Any) -> Iterator[Any]:
    """The values of attributes, and those of the functions' that they name, however deep."""
    waiting = [attributes]
    while waiting:
        for value in waiting.pop().values():
            yield value
            waiting += [function.attr for function in (value.func, *value.list.func)]


def _functions_by_name(functions: Iterable[Any]) -> dict[str, list[str]]:
    """The names of the functions that a word may mean: one's own name, all of an interface."""
    meant: defaultdict[str, list[str]] = defaultdict(list)
    for function in functions:
        name = function.signature.name
        meant[name].append(name)
        if _INTERFACE in function.attr:
            meant[function.attr[_INTERFACE].s.decode("utf-8", "replace")].append(name)
    return dict(meant)


def _assets_outside(graph: MetaGraph, folder: Path) -> Iterator[str]:
    root = folder.resolve()
    for asset in graph.proto.asset_file_def:
        name = PurePosixPath(asset.filename)
        inside = (folder / "assets" / name).resolve().is_relative_to(root)
        if name.is_absolute() or ".." in name.parts or not inside:
            yield f"asset {asset.filename} outside of the module"
