"""The rewrites before compiling: the same numbers out, fewer transpositions."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from nasnet_cli.quiet import openvino
from nasnet_cli.runtime.openvino_passes import rewrite

ops = openvino.opset13
SHAPE = [2, 9, 8, 3]
TO_FIRST, TO_LAST = [0, 3, 1, 2], [0, 2, 3, 1]


def images(shape=SHAPE):
    return np.random.default_rng(5).integers(0, 256, shape).astype(np.float32)


def run(model, data):
    compiled = openvino.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return [result.copy() for result in compiled([data]).values()]


def check(model, *, shape=SHAPE, within=0.0):
    """Rewrites the model, which must give the same as before, and counts its operations."""
    data = images(shape)
    before = run(model, data)
    rewrite(model)
    after = run(model, data)
    for new, old in zip(after, before, strict=True):
        np.testing.assert_allclose(new, old, rtol=0, atol=within * abs(old).max(), strict=True)
    assert any(b.any() for b in before)
    return Counter(node.get_type_name() for node in model.get_ordered_ops())


def turned(node, order):
    return ops.transpose(node, ops.constant(np.array(order, np.int64)))


def number(value, shape=()):
    return ops.constant(np.full(shape, value, np.float32))


def weights(out, into, side=1):
    return ops.constant(
        np.random.default_rng(2).normal(size=(out, into, side, side)).astype(np.float32)
    )


def strided(node, begin, end, steps, begin_mask, end_mask, **masks):
    limits = (ops.constant(np.array(limit, np.int64)) for limit in (begin, end, steps))
    return ops.strided_slice(node, *limits, begin_mask, end_mask, **masks)


def shifted(node):
    """All but the first row and column of a channels-last array."""
    return strided(node, [0, 1, 1, 0], [0, 0, 0, 0], [1, 1, 1, 1], [1, 0, 0, 1], [1, 1, 1, 1])


def channels_last(parameter):
    """A layer as a module has it, which OpenVINO computes channels-first."""
    return turned(ops.relu(turned(parameter, TO_FIRST)), TO_LAST)


def convolved(node, filters, stride, pads=0):
    return ops.convolution(node, filters, [stride] * 2, [pads] * 2, [pads] * 2, [1, 1])


def model_of(build, shape=SHAPE):
    parameter = ops.parameter(shape, openvino.Type.f32)
    results = build(parameter)
    return openvino.Model(results if isinstance(results, list) else [results], [parameter])


def shift_and_stride(parameter, side=1, stride=2, pads=0, before=0):
    """Build what TensorFlow's factorized reduction becomes: pad, leave out the first, take each second."""
    inner = turned(parameter, TO_FIRST)
    begin, end = (ops.constant(np.array([0, 0, n, n], np.int64)) for n in (before, 1))
    padded = ops.pad(inner, begin, end, "constant", number(0))
    back = turned(shifted(turned(padded, TO_LAST)), TO_FIRST)
    return convolved(back, weights(4, 3, side), stride, pads)


@pytest.mark.parametrize("height", [8, 9])
@pytest.mark.parametrize("width", [8, 9])
def test_shifted_reduction_is_a_slice_and_a_convolution(height, width):
    shape = [2, height, width, 3]
    left = check(model_of(shift_and_stride, shape), shape=shape)
    assert left["Transpose"] == 1 and left["StridedSlice"] == 1
    assert left["Pad"] == (height % 2 or width % 2)  # else nothing is taken from the padding


@pytest.mark.parametrize(
    ("side", "stride", "pads"), [(3, 2, 0), (3, 1, 0), (1, 1, 0), (1, 3, 0), (1, 2, 1)]
)
def test_other_convolutions_keep_their_input(side, stride, pads):
    left = check(model_of(lambda parameter: shift_and_stride(parameter, side, stride, pads)))
    assert left["Transpose"] == 1 and left["Convolution"] == 1


@pytest.mark.parametrize(
    ("begin", "end", "steps", "begin_mask", "end_mask"),
    [
        ([0, 1, 2, 0], [2, 8, 7, 2], [1, 1, 1, 1], [0] * 4, [0] * 4),
        ([1, -5, -7, 1], [9, -1, -2, 9], [1, 2, 3, 1], [0] * 4, [0] * 4),
        ([0, 3, 0, 2], [0, 0, 0, 3], [1, 2, 2, 1], [1, 0, 1, 0], [1, 1, 1, 0]),
        ([0, 3, 1, 0], [9, 8, 7, 9], [1, 2, 3, 1], [1], [1]),  # the rest of a mask is 0
        ([0, 8, 0, 0], [0, 1, 0, 0], [1, -2, 1, 1], [1, 0, 1, 1], [1, 0, 1, 1]),  # backwards
    ],
)
def test_slice_between_transpositions_stays_the_same_slice(begin, end, steps, begin_mask, end_mask):
    def build(parameter):
        last = channels_last(parameter)
        part = strided(last, begin, end, steps, begin_mask, end_mask)
        return ops.relu(turned(part, TO_FIRST))

    left = check(model_of(build))
    assert left["Transpose"] == (3 if min(steps) < 0 else 1)


def test_slice_with_another_user_stays():
    def build(parameter):
        part = shifted(channels_last(parameter))
        return [ops.relu(turned(part, TO_FIRST)), ops.tanh(part)]

    assert check(model_of(build))["Transpose"] == 3


def test_slice_that_removes_an_axis_stays():
    def build(parameter):
        last = channels_last(parameter)
        masks = {"new_axis_mask": [0] * 4, "shrink_axis_mask": [0, 1, 0, 0]}
        part = strided(last, [0, 2, 0, 0], [0, 3, 0, 0], [1] * 4, [1, 0, 1, 1], [1] * 4, **masks)
        return ops.relu(turned(part, [0, 2, 1]))

    assert check(model_of(build))["StridedSlice"] == 1


def test_slice_with_two_transposing_users_is_moved():
    def build(parameter):
        part = shifted(channels_last(parameter))
        uses = [turned(part, TO_FIRST), turned(part, TO_FIRST)]
        return [convolved(use, weights(4, 3), 2) for use in uses]

    assert check(model_of(build))["Transpose"] == 1


def test_padding_before_the_images_stays():
    left = check(model_of(lambda parameter: shift_and_stride(parameter, before=1)))
    assert left["Pad"] == 1 and left["Transpose"] == 1


@pytest.mark.parametrize("shape", [(), (1,), (1, 1, 1, 1)])
def test_images_are_scaled_before_the_transposition(shape):
    def build(parameter):
        first = turned(ops.multiply(parameter, number(1 / 255)), TO_FIRST)
        scaled = ops.subtract(number(1, shape), ops.multiply(first, number(2, shape)))
        return convolved(ops.add(scaled, number(0.25, shape)), weights(4, 3, 3), 2)

    model = model_of(build)
    check(model, within=1e-6)  # OpenVINO may round once less where it joins two steps
    operations = [node.get_type_name() for node in model.get_ordered_ops()]
    turning = operations.index("Transpose")
    assert not {"Multiply", "Subtract", "Add"} & set(operations[turning:])


def test_scaling_by_channel_and_squares_stay():
    def build(parameter):
        first = turned(parameter, TO_FIRST)
        channels = ops.constant(np.array([1, 2, 3], np.float32).reshape(1, 3, 1, 1))
        return ops.multiply(first, channels)

    def squared(parameter):
        first = turned(parameter, TO_FIRST)
        return ops.multiply(first, first)

    for model in (model_of(build), model_of(squared)):
        check(model)
        operations = [node.get_type_name() for node in model.get_ordered_ops()]
        assert operations.index("Transpose") < operations.index("Multiply")


def test_factor_that_adds_an_axis_stays():
    def build(parameter):
        return ops.multiply(turned(parameter, TO_FIRST), number(2, (1, 1, 1, 1, 1)))

    check(model_of(build))


def test_scaled_images_may_be_a_result():
    def build(parameter):
        scaled = ops.multiply(turned(parameter, TO_FIRST), number(2))
        return [ops.result(scaled), ops.relu(scaled)]

    check(model_of(build))


def test_slice_of_dynamic_shape_stays():
    def build(parameter):
        first = turned(parameter, TO_FIRST)
        sums = ops.reduce_sum(parameter, ops.constant([0, 1, 2]))
        places = ops.squeeze(ops.non_zero(sums), ops.constant([0]))
        channels = ops.gather(turned(first, TO_LAST), places, ops.constant(3))
        return ops.relu(turned(shifted(channels), TO_FIRST))

    assert check(model_of(build))["StridedSlice"] == 1


def test_transposed_slice_may_be_a_result():
    def build(parameter):
        return turned(shifted(channels_last(parameter)), TO_FIRST)

    assert check(model_of(build))["Transpose"] == 1


def test_sliced_weights_stay():
    def build(parameter):
        some = strided(weights(4, 6), [0, 3, 0, 0], [4, 6, 1, 1], [1] * 4, [0] * 4, [0] * 4)
        return convolved(turned(parameter, TO_FIRST), some, 2)

    check(model_of(build))
