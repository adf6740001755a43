"""Facts from OpenVINO's graph of a network: operations, constants, multiply-adds."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any


def count_multiply_adds(model: Any, shape: Sequence[int]) -> tuple[int, int]:
    """Return the multiply-adds of an openvino.Model for an input of this shape: all, depthwise.

    The model is reshaped. Counted are convolutions and matrix products. Raises RuntimeError when
    only a run would tell the shapes.
    """
    model.reshape({0: list(shape)})
    counts = [_products(operation) for operation in model.get_ops()]
    return sum(map(sum, counts)), sum(depthwise for _, depthwise in counts)


def count_parameters(model: Any) -> int:
    """Return the count of numbers in a model's constants, without its single numbers."""
    constants = (op.output(0) for op in model.get_ops() if op.get_type_name() == "Constant")
    sizes = (math.prod(c.get_shape()) for c in constants if c.get_element_type().is_real())
    # Single numbers are the graph's own: the epsilon of a normalization, a factor.
    return sum(size for size in sizes if size > 1)


def operations_before(port: Any) -> Iterator[str]:
    """Yield the types of the operations that compute an output, as outputs.output_kind takes them."""
    operation = port.get_node()
    while operation.get_input_size():
        if operation.get_type_name() != "Result":
            yield operation.get_type_name()
        operation = operation.input_value(0).get_node()


def select_outputs(model: Any, indices: Sequence[int]) -> Any:
    """Return an openvino.Model of the same graph with these outputs of it in this order."""
    from nasnet_cli.quiet import openvino

    results = [model.outputs[index].get_node() for index in indices]
    return openvino.Model(results, model.get_parameters())


def _products(operation: Any) -> tuple[int, int]:
    """Return an operation's multiply-adds: of ordinary products, and of depthwise convolutions."""
    kind = operation.get_type_name()
    if kind not in ("Convolution", "GroupConvolution", "MatMul"):
        return 0, 0
    size = math.prod(operation.output(0).get_shape())
    if kind == "MatMul":
        return size * operation.input_value(0).get_shape()[-1], 0
    kernel = operation.input_value(1).get_shape()
    if kind == "Convolution":
        return size * math.prod(kernel[1:]), 0
    each = size * math.prod(kernel[2:])
    return (0, each) if kernel[2] == 1 else (each, 0)
