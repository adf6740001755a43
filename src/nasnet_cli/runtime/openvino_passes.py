"""Graph rewrites before OpenVINO compiles a network: the same numbers with fewer copies.

OpenVINO turns the operations of a channels-last module into channels-first ones, but keeps
transpositions around its slices, and transposes the images before it scales them. Both copy the
largest arrays of the network once more, which took a tenth of its time.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import chain, repeat
from typing import Any

import numpy as np

from nasnet_cli.quiet import openvino

VERSION = 1
"""Part of the cache key of compiled models; to be raised when a rewrite changes its result."""

_SCALINGS = ("Multiply", "Divide", "Add", "Subtract")
_UNUSUAL_SLICES = ("new_axis_mask", "shrink_axis_mask", "ellipsis_mask")


def rewrite(model: Any) -> None:
    """Rewrite an openvino.Model in place. In one of dynamic shape, slices stay as they are."""
    for parameter in model.get_parameters():
        _scale_before_transposing(parameter)
    for rewrite_slice in (_slice_before_transposing, _slice_what_is_used):
        for node in model.get_ordered_ops():
            if node.get_type_name() == "StridedSlice":
                rewrite_slice(node)
    model.validate_nodes_and_infer_types()


def _scale_before_transposing(parameter: Any) -> None:
    """Move scaling by single numbers from behind the transposition of the images to before it,
    where it merges with their conversion from bytes."""
    transpose = parameter
    while transpose is not None and transpose.get_type_name() != "Transpose":
        transpose = _only_user(transpose)
    while transpose is not None and (scaling := _only_user(transpose)) is not None:
        if scaling.get_type_name() not in _SCALINGS:
            return
        place = scaling.input_values().index(transpose.output(0))
        number = scaling.input_value(1 - place)
        if number.get_node().get_type_name() != "Constant" or math.prod(number.get_shape()) != 1:
            return
        if scaling.get_output_partial_shape(0) != transpose.get_output_partial_shape(0):
            return
        for user in scaling.output(0).get_target_inputs():
            user.replace_source_output(transpose.output(0))
        scaling.input(place).replace_source_output(transpose.input_value(0))
        transpose.input(0).replace_source_output(scaling.output(0))


def _slice_before_transposing(node: Any) -> None:
    """Slice the input of a transposition instead of its output, if others transpose it back."""
    transpose, users = node.input_value(0).get_node(), _users(node)
    order, taken = _order(transpose), _taken(node)
    if order is None or taken is None or len(order) != len(taken):
        return
    back = [order.index(axis) for axis in range(len(order))]
    if all(_order(user) == back for user in users):
        sliced = _slice(transpose.input_value(0), [taken[axis] for axis in back])
        for user in users:
            user.output(0).replace(sliced)


def _slice_what_is_used(node: Any) -> None:
    """Slice only what a 1x1 convolution with strides uses, and remove padding of which nothing is
    used."""
    convolution, taken = _only_user(node), _taken(node)
    if taken is None or convolution is None or convolution.get_type_name() != "Convolution":
        return
    if convolution.input_value(0) != node.output(0):  # its weights are what is sliced
        return
    how, weights = convolution.get_attributes(), convolution.input_value(1)
    size = _shape(weights)
    if any((*how["pads_begin"], *how["pads_end"])) or size is None or any(n != 1 for n in size[2:]):
        return
    taken[2:] = [axis[::step] for axis, step in zip(taken[2:], how["strides"], strict=True)]
    data = _without_padding(node.input_value(0), taken)
    ones, zeros = [1] * len(how["strides"]), [0] * len(how["strides"])
    single = openvino.opset13.convolution(_slice(data, taken), weights, ones, zeros, zeros, ones)
    single.set_friendly_name(convolution.get_friendly_name())
    convolution.output(0).replace(single.output(0))


def _without_padding(data: Any, taken: Sequence[range]) -> Any:
    """Return the input of a padding at the ends of which nothing is taken; else data itself."""
    pad = data.get_node()
    if pad.get_type_name() != "Pad":
        return data
    before, lengths = _constant(pad.input_value(1)), _shape(pad.input_value(0))
    if before is None or before.any() or lengths is None:
        return data
    is_within = all(axis[-1] < length for axis, length in zip(taken, lengths, strict=True))
    return pad.input_value(0) if is_within else data


def _users(node: Any) -> list[Any]:
    return [user.get_node() for user in node.output(0).get_target_inputs()]


def _only_user(node: Any) -> Any:
    """Return the only user of a node's only output, or None."""
    users = _users(node) if node.get_output_size() == 1 else []
    return users[0] if len(users) == 1 else None


def _constant(output: Any) -> np.ndarray | None:
    node = output.get_node()
    return node.get_data() if node.get_type_name() == "Constant" else None


def _shape(output: Any) -> list[int] | None:
    shape = output.get_partial_shape()
    return list(shape.to_shape()) if shape.is_static else None


def _order(node: Any) -> list[int] | None:
    """Return the permutation of a transposition; None for other nodes."""
    order = _constant(node.input_value(1)) if node.get_type_name() == "Transpose" else None
    return None if order is None else order.tolist()


def _taken(node: Any) -> list[range] | None:
    """Return the indices of each axis that a StridedSlice takes; None for unusual slices."""
    how, shape = node.get_attributes(), _shape(node.input_value(0))
    if shape is None or any(how[mask] and any(how[mask]) for mask in _UNUSUAL_SLICES):
        return None
    limits = []
    for i in (1, 2, 3):
        limit = _constant(node.input_value(i))
        if limit is None or len(limit) != len(shape):
            return None
        limits.append(limit.tolist())
    masks = (chain(how[mask], repeat(0)) for mask in ("begin_mask", "end_mask"))
    taken = []
    for length, begin, end, step, no_begin, no_end in zip(shape, *limits, *masks, strict=False):
        taken.append(range(length)[None if no_begin else begin : None if no_end else end : step])
    return taken if all(axis and axis.step > 0 for axis in taken) else None


def _slice(data: Any, taken: Sequence[range]) -> Any:
    limits = ([getattr(axis, limit) for axis in taken] for limit in ("start", "stop", "step"))
    none = [0] * len(taken)
    constants = (openvino.opset13.constant(np.array(limit, np.int64)) for limit in limits)
    return openvino.opset13.strided_slice(data, *constants, none, none).output(0)
