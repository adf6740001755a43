"""Traces tensors through a graph and the functions that it calls."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from nasnet_cli.models.savedmodel.schema import attribute, data_inputs

_CALLS = ("PartitionedCall", "StatefulPartitionedCall")
# Calls can grow exponentially: f calls g twice, g calls h twice, and so on.
_MAX_NODES = 200_000
_CALL_COST = 20


class UntraceableError(Exception):
    """The origin of a tensor is unknown."""


@dataclass(frozen=True)
class Place:
    """A tensor: the output with this index of a node, in a call of a function or in the graph."""

    frame: Frame
    node: str
    index: int


class Frame:
    """A call of a function, or the graph itself.

    Each call has its own frame, because the same function may get other shapes in another call.
    """

    def __init__(self, graph: FlatGraph, nodes: Any, arguments: dict[str, Place]) -> None:
        self.graph = graph
        self.nodes = {node.name: node for node in nodes}
        self.arguments = arguments
        self.calls: dict[str, tuple[Frame, list[str]]] = {}

    def inputs(self, node: Any) -> list[Place]:
        """Return the inputs of a node, without control inputs, traced through calls."""
        return [self.place(tensor) for tensor in data_inputs(node)]

    def place(self, tensor: str) -> Place:
        """Trace the tensor called "node", "node:1" or, in a function, "node:output:1"."""
        name, *rest = tensor.split(":")
        if name in self.arguments:
            return self.arguments[name]
        node = self.nodes.get(name)
        if node is None:
            raise UntraceableError(tensor)
        index = int(rest[-1]) if rest and rest[-1].isdecimal() else 0
        if len(rest) == 2 and _is_later_output(node.op, rest[0]):
            raise UntraceableError(tensor)  # the index counts only outputs of that name
        return Place(self, name, index)

    def call(self, node: Any) -> tuple[Frame, list[str]]:
        """Return the frame of the function that a node calls, and the names of its results."""
        if node.name not in self.calls:
            self.calls[node.name] = self.graph.enter(self, node)
        return self.calls[node.name]


class FlatGraph:
    """A MetaGraphDef as one graph, with every call of a function expanded."""

    def __init__(self, meta_graph: Any) -> None:
        library = meta_graph.graph_def.library
        self.functions = {function.signature.name: function for function in library.function}
        self.size = 0
        self.root = Frame(self, meta_graph.graph_def.node, {})

    def is_call(self, node: Any) -> bool:
        """Return whether a node is a plain call of a function."""
        return node.op in _CALLS or node.op in self.functions

    def enter(self, frame: Frame, node: Any) -> tuple[Frame, list[str]]:
        """Return a new frame for a call. Raises UntraceableError for an unknown function."""
        name = attribute(node, "f").func.name if node.op in _CALLS else node.op
        function = self.functions.get(name)
        if function is None:
            raise UntraceableError(name)
        self.size += _CALL_COST + len(function.node_def)
        if self.size > _MAX_NODES:
            raise UntraceableError(name)
        names = [argument.name for argument in function.signature.input_arg]
        inputs = frame.inputs(node)
        if len(names) != len(inputs):
            raise UntraceableError(name)
        results = [function.ret.get(out.name, "") for out in function.signature.output_arg]
        return Frame(self, function.node_def, dict(zip(names, inputs, strict=True))), results


def operations_before(meta_graph: Any, tensor: str) -> Iterator[str]:
    """Yield the types of the operations that compute a tensor, as outputs.output_kind takes them.

    Calls are followed into their functions. Ends early where the graph cannot be followed.
    """
    try:
        graph = FlatGraph(meta_graph)
        place = graph.root.place(tensor)
        while True:
            node = place.frame.nodes[place.node]
            if graph.is_call(node):
                inner, results = place.frame.call(node)
                place = inner.place(results[place.index])
            else:
                yield str(node.op)
                place = place.frame.inputs(node)[0]
    except (UntraceableError, IndexError):
        return


def _is_later_output(op: str, output: str) -> bool:
    # The only known operation with several named outputs; y is the first.
    return op.startswith("FusedBatchNorm") and output != "y"
