"""Find operations through which a SavedModel could touch files, the network or run code.

TensorFlow runs whatever a SavedModel contains. So before it gets one, every operation that can be
reached must be known to compute and nothing else (allowed.py). What else is safe depends on the
phase in which an operation is reached:

- "compute", what a user of the model runs: signatures, the objects' functions, collections;
- "init", what the loader runs once: it may read label tables from the model's own assets;
- "restore", what the loader runs to fill the variables: it may read the file that it is given;
- "save", the saver's own part, which every TF2 SavedModel has and nobody runs here.

In a function every operation counts, because TensorFlow runs those with side effects even if no
output needs them. An operation that nothing reaches is not run, with one exception: TensorFlow
infers the shapes of a graph while it loads it and evaluates what it takes for constant on the way,
such as the content of a file with a constant name. So an unreached operation must be safe too, or
one that is never constant.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any, Literal, NamedTuple

from nasnet_cli.models.safety.allowed import ALLOWED, RESTORE, SAVE, TABLE_FILES, UNREACHED
from nasnet_cli.models.savedmodel.graph import attribute_values, called_functions
from nasnet_cli.models.savedmodel.reader import INIT_SIGNATURES, MetaGraph, SavedModelFile
from nasnet_cli.models.savedmodel.schema import attribute, data_inputs, message, node_name

Phase = Literal["compute", "init", "restore", "save"]

_INIT_COLLECTIONS = {
    *("main_op", "saved_model_main_op", "legacy_init_op"),
    *("table_initializer", "local_init_op", "init_op"),
}
_OWN_ASSIGNMENT = ("AssignVariableOp", "VarIsInitializedOp")
# Operations that run the functions named by their attributes.
_CALLS = {
    *("Case", "For", "If", "MapDefun", "PartitionedCall", "StatefulPartitionedCall"),
    *("StatelessCase", "StatelessIf", "StatelessWhile", "SymbolicGradient", "While"),
}
# Functions with the same value of this attribute are interchangeable: TensorFlow's optimizer calls
# the one for the device at hand, even if no node names it.
_INTERFACE = "api_implements"
_ALLOWED_UNREACHED = ALLOWED | UNREACHED | RESTORE | SAVE | TABLE_FILES
# The index of the input that names the file to read.
_FILE_INPUT = {"RestoreV2": 0, **dict.fromkeys(TABLE_FILES, 1)}


def unsafe_operations(model: SavedModelFile) -> list[str]:
    """Return all operations of a model that are not known to be safe, sorted; usually none.

    An entry reads "WriteFile in the function __inference_f_7" or "PyFunc in the graph {serve}".
    Assets outside the model's folder have an entry too. Raises ModelError when a collection of
    variables is damaged.
    """
    unsafe: set[str] = set()
    for graph in model.meta_graphs:
        unsafe.update(_GraphScan(graph).unsafe())
        unsafe.update(_assets_outside(graph, model.folder))
    return sorted(unsafe)


class _Use(NamedTuple):
    """A node reached in a phase, in a function or, if function is None, in the graph itself."""

    phase: Phase
    function: str | None
    node: Any


class _Caller(NamedTuple):
    """A call of a function with inputs as its arguments; None when they are not known."""

    function: str | None
    inputs: list[str] | None


class _GraphScan:
    """A walk of one graph from its roots, each in the phase of its root."""

    def __init__(self, graph: MetaGraph) -> None:
        self.graph = graph
        proto = graph.proto
        self.nodes = {node.name: node for node in proto.graph_def.node}
        library = proto.graph_def.library
        self.functions = {function.signature.name: function for function in library.function}
        self.by_name = _functions_by_name(library.function)
        self.assets = {node_name(asset.tensor_info.name) for asset in proto.asset_file_def}
        self.reached: set[tuple[Phase, bool, str]] = set()
        self.waiting: list[_Use] = []
        self.callers: defaultdict[tuple[Phase, str], list[_Caller]] = defaultdict(list)
        self.readers: list[_Use] = []
        self.unsafe_ops: set[tuple[str, str | None]] = set()

    def unsafe(self) -> Iterator[str]:
        for phase, name in self._roots():
            self._reach(phase, name)
        self._reach_unnamed_functions()
        while self.waiting:
            self._visit(self.waiting.pop())
        for use in self.readers:
            if not self._reads_own_file(use):
                self.unsafe_ops.add((use.node.op, use.function))
        self._check_unreached()
        tags = ", ".join(self.graph.tags)
        if len(self.nodes) < len(self.graph.proto.graph_def.node) or len(self.functions) < len(
            self.graph.proto.graph_def.library.function
        ):
            yield f"duplicate names in the graph {{{tags}}}"
        for name in ALLOWED & self.functions.keys():
            yield f"function {name} in place of the operation"
        for op, function in self.unsafe_ops:
            where = f"the function {function}" if function else f"the graph {{{tags}}}"
            yield f"{op} in {where}"

    def _roots(self) -> Iterator[tuple[Phase, str]]:
        """Yield the names of tensors and nodes that a loader or a user runs in the graph."""
        proto = self.graph.proto
        for name in proto.signature_def:
            signature = proto.signature_def[name]
            phase: Phase = "init" if name == INIT_SIGNATURES[0] else "compute"
            for infos in (signature.inputs, signature.outputs):
                for key in infos:
                    yield from ((phase, tensor) for tensor in _tensor_names(infos[key]))
        for name in proto.collection_def:
            phase = "init" if name in _INIT_COLLECTIONS else "compute"
            for node in proto.collection_def[name].node_list.value:
                yield phase, node
            if name.endswith("variables"):
                for variable in self.graph.variable_defs(name):
                    yield from (("compute", tensor) for _, tensor in variable.ListFields())
        yield "restore", proto.saver_def.restore_op_name
        yield "save", proto.saver_def.filename_tensor_name
        yield "save", proto.saver_def.save_tensor_name

    def _reach_unnamed_functions(self) -> None:
        """Reach functions that run without a node that calls them: the objects' and gradients."""
        objects = self.graph.proto.object_graph_def
        library = self.graph.proto.graph_def.library
        for name in objects.concrete_functions:
            self._reach_function("compute", name, None)
        for gradient in (*library.gradient, *library.registered_gradients):
            self._reach_function("compute", gradient.gradient_func, _Caller(None, None))

    def _reach(self, phase: Phase, tensor: str) -> None:
        name = node_name(tensor)
        node = self.nodes.get(name)
        if node is not None and (phase, False, name) not in self.reached:
            self.reached.add((phase, False, name))
            self.waiting.append(_Use(phase, None, node))

    def _reach_function(self, phase: Phase, name: str, caller: _Caller | None) -> None:
        if caller is not None:
            self.callers[phase, name].append(caller)
        if name in self.functions and (phase, True, name) not in self.reached:
            self.reached.add((phase, True, name))
            function = self.functions[name]
            self.waiting.extend(_Use(phase, name, node) for node in function.node_def)
            # Functions named by the function's own attributes, as if a node named them.
            defaults = {attr.name: attr.default_value for attr in function.signature.attr}
            for attributes in (function.attr, defaults):
                named = message("NodeDef")(op="NoOp", attr=attributes)
                self.waiting.append(_Use(phase, name, named))

    def _visit(self, use: _Use) -> None:
        phase, function, node = use
        # TensorFlow looks up an operation among the functions first.
        if node.op in self.functions:
            self._reach_function(phase, node.op, _Caller(function, data_inputs(node)))
        elif node.op in _FILE_INPUT and self._may_read(phase, node.op):
            self.readers.append(use)
        elif not _is_allowed(phase, node.op):
            self.unsafe_ops.add((node.op, function))
        is_call = node.op in ("PartitionedCall", "StatefulPartitionedCall")
        caller = _Caller(function, data_inputs(node) if is_call else None)
        for text in _function_names(node.attr) if self.functions else ():
            for name in self.by_name.get(text, ()):
                self._reach_function(phase, name, caller)
        for name in (
            called_functions(node.attr) if node.op in _CALLS or node.op in self.functions else ()
        ):
            # The name of an operation, if not of a function.
            if name and name not in self.functions and not _is_allowed(phase, name):
                self.unsafe_ops.add((name, function))
        if function is None:
            for tensor in node.input:
                self._reach(phase, tensor)

    def _check_unreached(self) -> None:
        """Check what nothing reaches, since TensorFlow infers its shapes all the same."""
        reached = {(is_function, name) for _, is_function, name in self.reached}
        unreached = [
            (None, node) for name, node in self.nodes.items() if (False, name) not in reached
        ]
        for name, function in self.functions.items():
            if (True, name) not in reached:
                unreached += [(name, node) for node in function.node_def]
        for where, node in unreached:
            if node.op not in _ALLOWED_UNREACHED and node.op not in self.functions:
                self.unsafe_ops.add((node.op, where))

    def _may_read(self, phase: Phase, op: str) -> bool:
        return phase == "restore" if op in RESTORE else phase in ("init", "compute")

    def _reads_own_file(self, use: _Use) -> bool:
        """Return whether a node can only read a file that the loader passes to it."""
        inputs = data_inputs(use.node)
        at = _FILE_INPUT[use.node.op]
        if len(inputs) <= at:
            return False
        waiting = [(use.function, inputs[at])]
        seen = set()
        while waiting:
            function, tensor = waiting.pop()
            if (function, tensor) in seen:
                continue
            seen.add((function, tensor))
            sources = self._sources(use.phase, function, tensor)
            if sources is None:
                return False
            waiting.extend(sources)
        return True

    def _sources(
        self, phase: Phase, function: str | None, tensor: str
    ) -> list[tuple[str | None, str]] | None:
        """Return the tensors that a tensor is copied from, none if the loader feeds it.

        None when its value may come from anywhere.
        """
        name = node_name(tensor)
        if function is None:
            if self._is_fed(phase, name):
                return []
            node = self.nodes.get(name)
            if node is not None and node.op == "ReadVariableOp":
                return self._variable_sources(node)
        else:
            definition = self.functions[function]
            arguments = [argument.name for argument in definition.signature.input_arg]
            if name in arguments:
                return self._argument_sources(phase, function, arguments.index(name))
            node = next((n for n in definition.node_def if n.name == name), None)
        inputs = data_inputs(node) if node is not None and node.op == "Identity" else []
        return [(function, inputs[0])] if inputs else None

    def _variable_sources(self, read: Any) -> list[tuple[str | None, str]] | None:
        """Return the tensors assigned to a variable that only the graph itself assigns.

        TensorFlow 2 keeps the path of an asset in one.
        """
        variable = self.nodes.get(node_name(read.input[0])) if read.input else None
        if variable is None or variable.op != "VarHandleOp":
            return None
        name = _variable_name(variable)
        for node in self._all_nodes():
            if node.op == "VarHandleOp" and node is not variable and _may_be_named(node, name):
                return None
        users = [
            node
            for node in self.nodes.values()
            if variable.name in map(node_name, data_inputs(node))
        ]
        if {node.op for node in users} - {"ReadVariableOp", *_OWN_ASSIGNMENT}:
            return None
        assigned = [data_inputs(node) for node in users if node.op == "AssignVariableOp"]
        if not assigned or any(len(inputs) != 2 for inputs in assigned):
            return None
        return [(None, inputs[1]) for inputs in assigned]

    def _all_nodes(self) -> Iterator[Any]:
        yield from self.nodes.values()
        for function in self.functions.values():
            yield from function.node_def

    def _is_fed(self, phase: Phase, name: str) -> bool:
        """Return whether the loader feeds this node, whatever its value in the graph."""
        if phase == "restore":
            return name == node_name(self.graph.proto.saver_def.filename_tensor_name)
        # It feeds assets to the initialisers, not to signatures.
        return phase == "init" and name in self.assets

    def _argument_sources(
        self, phase: Phase, function: str, index: int
    ) -> list[tuple[str | None, str]] | None:
        sources = []
        for caller in self.callers[phase, function]:
            if caller.inputs is None or index >= len(caller.inputs):
                return None
            sources.append((caller.function, caller.inputs[index]))
        objects = self.graph.proto.object_graph_def
        if phase == "compute" and function in objects.concrete_functions:
            # Captured tensors come after the arguments; a captured asset stands for its path.
            bound = objects.concrete_functions[function].bound_inputs
            at = index - len(self.functions[function].signature.input_arg) + len(bound)
            if at < 0 or not 0 <= bound[at] < len(objects.nodes):
                return None
            if not objects.nodes[bound[at]].HasField("asset"):
                return None
        return sources


def _is_allowed(phase: Phase, op: str) -> bool:
    return op in ALLOWED or (phase == "save" and op in SAVE)


def _variable_name(node: Any) -> str:
    return attribute(node, "shared_name").s.decode("utf-8", "replace") or str(node.name)


def _may_be_named(node: Any, name: str) -> bool:
    """Return whether a variable's handle may refer to the variable of that name."""
    # The caller of a function fills in a placeholder.
    is_open = attribute(node, "shared_name").WhichOneof("value") == "placeholder"
    return is_open or _variable_name(node) == name


def _tensor_names(info: Any) -> Iterator[str]:
    yield info.name
    yield from (
        info.coo_sparse.values_tensor_name,
        info.coo_sparse.indices_tensor_name,
        info.coo_sparse.dense_shape_tensor_name,
    )
    for component in info.composite_tensor.components:
        yield from _tensor_names(component)


def _function_names(attributes: Any) -> Iterator[str]:
    """Yield what _called yields, and every string, because strings name gradients."""
    yield from called_functions(attributes)
    for value in attribute_values(attributes):
        for text in (value.s, *value.list.s):
            yield text.decode("utf-8", "replace")


def _functions_by_name(functions: Iterable[Any]) -> dict[str, list[str]]:
    """Map each name to functions: a function's own name to it, an interface's to all of it."""
    by_name: defaultdict[str, list[str]] = defaultdict(list)
    for function in functions:
        name = function.signature.name
        by_name[name].append(name)
        if _INTERFACE in function.attr:
            by_name[function.attr[_INTERFACE].s.decode("utf-8", "replace")].append(name)
    return dict(by_name)


def _assets_outside(graph: MetaGraph, folder: Path) -> Iterator[str]:
    root = folder.resolve()
    for asset in graph.proto.asset_file_def:
        name = PurePosixPath(asset.filename)
        inside = (folder / "assets" / name).resolve().is_relative_to(root)
        if name.is_absolute() or ".." in name.parts or not inside:
            yield f"asset {asset.filename} outside the model's folder"
