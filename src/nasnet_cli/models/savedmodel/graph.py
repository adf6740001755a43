"""Follow a graph: a tensor back to its operations, attributes to the functions that they name."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from nasnet_cli.models.outputs import Operation
from nasnet_cli.models.savedmodel.schema import attribute, data_inputs

_CALLS = ("PartitionedCall", "StatefulPartitionedCall")
# Loops and functions that call themselves have no end.
_MAX_STEPS = 10_000


@dataclass(frozen=True)
class _Scope:
    """The graph itself or, with the node that calls it and that node's scope, a function."""

    nodes: dict[str, Any]
    arguments: tuple[str, ...] = ()
    call: Any = None
    caller: _Scope | None = None


class Graph:
    """A MetaGraphDef's graph, to be followed backwards, calls into their functions included."""

    def __init__(self, meta_graph: Any) -> None:
        graph = meta_graph.graph_def
        self._functions = {f.signature.name: f for f in graph.library.function}
        self._nodes = {
            name: {node.name: node for node in function.node_def}
            for name, function in self._functions.items()
        }
        self._top = _Scope({node.name: node for node in graph.node})

    def before(self, tensor: str) -> Operation | None:
        """Return the operation that computes a tensor; None where the graph cannot be followed."""
        return self._before(tensor, self._top)

    def _before(self, tensor: str, scope: _Scope) -> Operation | None:
        for _ in range(_MAX_STEPS):
            name, *output = tensor.split(":")
            if scope.caller is not None and name in scope.arguments:
                tensor = data_inputs(scope.call)[scope.arguments.index(name)]
                scope = scope.caller
                continue
            node = scope.nodes.get(name)
            if node is None or _is_later_output(node, output):
                return None
            if node.op not in _CALLS and node.op not in self._functions:
                return Operation(str(node.op), partial(self._inputs, node, scope))
            inside = self._enter(node, output, scope)
            if inside is None:
                return None
            tensor, scope = inside
        return None

    def _inputs(self, node: Any, scope: _Scope) -> list[Operation]:
        tensors = data_inputs(node)
        if node.op == "Split":  # the axis comes first
            tensors.reverse()
        found = [self._before(tensor, scope) for tensor in tensors]
        return [operation or Operation("", list) for operation in found]

    def _enter(self, node: Any, output: list[str], scope: _Scope) -> tuple[str, _Scope] | None:
        """Return the tensor in a function that gives an output of a call, with its scope."""
        called = attribute(node, "f").func.name if node.op in _CALLS else node.op
        index = int(output[-1]) if output and output[-1].isdecimal() else 0
        function = self._functions.get(called)
        if function is None or index >= len(function.signature.output_arg):
            return None
        arguments = tuple(argument.name for argument in function.signature.input_arg)
        if len(arguments) != len(data_inputs(node)):
            return None
        tensor = function.ret.get(function.signature.output_arg[index].name, "")
        return tensor, _Scope(self._nodes[called], arguments, node, scope)


def _is_later_output(node: Any, output: list[str]) -> bool:
    # The only known operation with several named outputs; y is the first.
    return len(output) == 2 and node.op.startswith("FusedBatchNorm") and output[0] != "y"


def called_functions(attributes: Any) -> Iterator[str]:
    """Yield the functions that attributes name, and those that these name in turn."""
    for value in attribute_values(attributes):
        if value.WhichOneof("value") == "func":
            yield value.func.name
        yield from (function.name for function in value.list.func)


def attribute_values(attributes: Any) -> Iterator[Any]:
    """Yield the values of attributes and, at any depth, of the functions that they name."""
    waiting = [attributes]
    while waiting:
        for value in waiting.pop().values():
            yield value
            waiting += [function.attr for function in (value.func, *value.list.func)]
