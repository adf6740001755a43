"""Facts from OpenVINO's graph of a network: operations, constants, multiply-adds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from nasnet_cli.models.outputs import Operation
from nasnet_cli.models.values import Scaling

if TYPE_CHECKING:
    import numpy as np

_SCALINGS = ("Add", "Divide", "Multiply", "Subtract")
# What comes before and between the scaling of images, and changes no value.
_PLAIN = (
    "Clamp", "Convert", "Gather", "Interpolate", "Maximum", "Minimum", "Pad", "Reshape", "Reverse",
    "Slice", "StridedSlice", "Transpose",
)  # fmt: skip
_MOST_STEPS = 50


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


def operation_before(port: Any) -> Operation:
    """Return the operation that computes an output, to be followed backwards."""
    node = port.get_node()
    if node.get_type_name() == "Result":
        return operation_before(node.input_value(0))
    if (quantized := _dequantized(node)) is not None:
        return Operation("Dequantize", lambda: [operation_before(quantized)])
    values = node.input_values()
    return Operation(
        str(node.get_type_name()), lambda: [operation_before(value) for value in values]
    )


def _dequantized(node: Any) -> Any:
    """Return what a node makes floats of, as (integer - zero point) * scale; None for other nodes."""
    if node.get_type_name() != "Multiply" or constant_of(node.input_value(1)) is None:
        return None
    before = node.input_value(0).get_node()
    if before.get_type_name() == "Subtract" and constant_of(before.input_value(1)) is not None:
        before = before.input_value(0).get_node()
    if before.get_type_name() != "Convert" or not before.get_input_element_type(0).is_integral():
        return None
    return before.input_value(0)


def constant_of(output: Any) -> np.ndarray | None:
    """Return the values of a constant, also of a converted one; None for what is not constant."""
    node = output.get_node()
    while node.get_type_name() == "Convert":
        node = node.input_value(0).get_node()
    if node.get_type_name() != "Constant":
        return None
    values: np.ndarray = node.data
    return values


def stated_values(model: Any) -> tuple[str | None, str | None]:
    """Return the range and the channels that an openvino.Model takes, by what it does with them
    first; None for what it doesn't tell."""
    port, scaling = model.inputs[0], Scaling()
    for _ in range(_MOST_STEPS):
        users = [user.get_node() for user in port.get_target_inputs()]
        users = [user for user in users if user.get_type_name() != "ShapeOf"]
        if len(users) != 1:
            break
        (node,) = users
        kind = node.get_type_name()
        if kind in _SCALINGS:
            place = node.input_values().index(port)
            numbers = constant_of(node.input_value(1 - place))
            if numbers is None or numbers.size > 3:
                break
            if not scaling.apply(kind, numbers.ravel().tolist(), is_first=place == 1):
                break
        elif kind == "FakeQuantize":
            constants = [constant_of(value) for value in node.input_values()[1:5]]
            limits = [
                constant.item()
                for constant in constants
                if constant is not None and constant.size == 1
            ]
            if len(limits) != 4 or not scaling.quantize(limits):
                break
        elif kind not in _PLAIN:
            break
        elif _reverses(node):
            scaling.reverse()
        port = node.output(0)
    return scaling.stated()


def _reverses(node: Any) -> bool:
    """Return whether a node reverses the channels; nothing else of an image is."""
    kind = node.get_type_name()
    if kind == "Reverse":
        return True
    constants = [constant_of(value) for value in node.input_values()[1:]]
    found = [constant.ravel().tolist() for constant in constants if constant is not None]
    if kind == "Gather":
        return found[:1] == [[2, 1, 0]]
    # The steps of a slice.
    return kind in ("Slice", "StridedSlice") and any(-1 in steps for steps in found[2:3])


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
