"""Follow a graph: a tensor back to its operations, attributes to the functions that they name."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

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


def operations_before(meta_graph: Any, tensor: str) -> Iterator[str]:
    """Yield the types of the operations that compute a tensor, as outputs.output_kind takes them.

    Each is the one that computes the first input of the operation before. Calls are followed into
    their functions. Ends early where the graph cannot be followed.
    """
    graph = meta_graph.graph_def
    functions = {function.signature.name: function for function in graph.library.function}
    nodes_of = {
        name: {node.name: node for node in function.node_def}
        for name, function in functions.items()
    }
    scope = _Scope({node.name: node for node in graph.node})
    for _ in range(_MAX_STEPS):
        name, *output = tensor.split(":")
        if scope.caller is not None and name in scope.arguments:
            tensor = data_inputs(scope.call)[scope.arguments.index(name)]
            scope = scope.caller
            continue
        node = scope.nodes.get(name)
        if node is None or _is_later_output(node, output):
            return
        inputs = data_inputs(node)
        if node.op in _CALLS or node.op in functions:
            called = attribute(node, "f").func.name if node.op in _CALLS else node.op
            index = int(output[-1]) if output and output[-1].isdecimal() else 0
            function = functions.get(called)
            if function is None or index >= len(function.signature.output_arg):
                return
            arguments = tuple(argument.name for argument in function.signature.input_arg)
            if len(arguments) != len(inputs):
                return
            tensor = function.ret.get(function.signature.output_arg[index].name, "")
            scope = _Scope(nodes_of[called], arguments, node, scope)
            continue
        yield str(node.op)
        if not inputs:
            return
        tensor = inputs[0]


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
