"""Counts the multiply-adds of one picture, from the graph alone.

Shapes are carried from the picture through the operations that are known (shapes.py); a graph with
others upstream of its output has no count.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from nasnet_cli.models.savedmodel.graph import FlatGraph, Frame, Place, UntraceableError
from nasnet_cli.models.savedmodel.schema import attribute
from nasnet_cli.models.shapes import Sizes, Value, outputs


@dataclass(frozen=True)
class MultiplyAdds:
    """Multiply-adds per picture: total, and the share of the depthwise convolutions."""

    total: int
    depthwise: int


def multiply_adds(
    meta_graph: Any, picture: str, output: str, size: tuple[int, int]
) -> MultiplyAdds | None:
    """Counts Conv2D, DepthwiseConv2dNative and MatMul between two tensors of a graph.

    meta_graph is a MetaGraphDef message, picture and output the names of tensors in it, size the
    picture's (height, width) in pixels; one picture with three channels is counted. None when
    an operation on the way isn't known.
    """
    try:
        graph = FlatGraph(meta_graph)
        counter = _Counter(graph, graph.root.place(picture), (1, *size, 3))
        counter.evaluate(graph.root.place(output))
    except (UntraceableError, ValueError, IndexError, KeyError, ZeroDivisionError):
        return None
    return MultiplyAdds(counter.products + counter.depthwise, counter.depthwise)


class _Counter:
    """Evaluates shapes in the order of the graph and counts on the way."""

    def __init__(self, graph: FlatGraph, picture: Place, shape: Sizes) -> None:
        self.graph = graph
        self.values: dict[tuple[Frame, str], list[Value]] = {
            (picture.frame, picture.node): [Value(shape)]
        }
        self.products = 0
        self.depthwise = 0

    def evaluate(self, place: Place) -> None:
        """Evaluates a tensor and all that it needs. No recursion: networks are deep."""
        stack = [place]
        open_nodes: set[tuple[Frame, str]] = set()
        while stack:
            frame = stack[-1].frame
            key = (frame, stack[-1].node)
            if key in self.values:
                stack.pop()
                continue
            node = frame.nodes[stack[-1].node]
            needed = self._needed(frame, node)
            missing = [p for p in needed if (p.frame, p.node) not in self.values]
            if missing:
                if key in open_nodes:
                    raise UntraceableError("a loop")
                open_nodes.add(key)
                stack.extend(missing)
            else:
                values = [self.values[p.frame, p.node][p.index] for p in needed]
                self.values[key] = self._outputs(node, values)
                stack.pop()

    def _needed(self, frame: Frame, node: Any) -> list[Place]:
        if self.graph.is_call(node):
            inner, results = frame.call(node)
            return [inner.place(result) for result in results]
        return [] if node.op == "Placeholder" else frame.inputs(node)

    def _outputs(self, node: Any, values: list[Value]) -> list[Value]:
        if self.graph.is_call(node):
            return values
        results = outputs(node, values)
        self._count(node, values, results[0].shape)
        return results

    def _count(self, node: Any, values: list[Value], shape: Sizes) -> None:
        if node.op == "Conv2D":
            # The filter's own depth, which is less than the input's in a grouped convolution.
            height, width, depth, _ = values[1].shape
            self.products += math.prod(shape) * height * width * depth
        elif node.op == "DepthwiseConv2dNative":
            height, width, _, _ = values[1].shape
            self.depthwise += math.prod(shape) * height * width
        elif node.op == "MatMul":
            transposed = attribute(node, "transpose_a").b
            self.products += math.prod(shape) * values[0].shape[0 if transposed else 1]
