"""NASNet-A's layers as ONNX operations, with static pads, so that all runtimes pad alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from nasnet_cli.network.builder import Window
from nasnet_cli.network.spec import NASNetA
from nasnet_cli.network.weights import Weights


@dataclass(frozen=True)
class Value:
    """A named tensor: [batch, channels, size, size], or [batch, channels] after pooling."""

    name: str
    size: int
    channels: int


class OnnxLayers:
    """The set of layers that creates ONNX nodes, for inference. ONNX puts channels first.

    Weights are initializers of the graph, under their TF-Slim names.
    """

    def __init__(self, spec: NASNetA, weights: Weights) -> None:
        self.spec = spec
        self.weights = weights
        self.nodes: list[Any] = []
        self.initializers: dict[str, Any] = {}

    def size(self, x: Value) -> int:
        return x.size

    def channels(self, x: Value) -> int:
        return x.channels

    def rescale(self, x: Value) -> Value:
        first = self._node("Transpose", [x.name], perm=[0, 3, 1, 2])
        two, one = (
            self._constant(n, np.array(n[-1], np.float32)) for n in ("rescale/2", "rescale/1")
        )
        doubled = self._node("Mul", [first, two])
        return self._like(x, "Sub", [doubled, one])

    def relu(self, x: Value) -> Value:
        return self._like(x, "Relu", [x.name])

    def convolution(self, x: Value, scope: str, filters: int, window: Window) -> Value:
        return self._conv(x, self._weight(f"{scope}/weights", (3, 2, 0, 1)), filters, window)

    def separable_convolution(self, x: Value, scope: str, filters: int, window: Window) -> Value:
        depthwise = self._weight(f"{scope}/depthwise_weights", (2, 3, 0, 1))
        pointwise = self._weight(f"{scope}/pointwise_weights", (3, 2, 0, 1))
        x = self._conv(x, depthwise, x.channels, window, group=x.channels)
        return self._conv(x, pointwise, filters, Window(1))

    def batch_norm(self, x: Value, scope: str) -> Value:
        leaves = ("gamma", "beta", "moving_mean", "moving_variance")
        inputs = [x.name, *(self._weight(f"{scope}/{leaf}") for leaf in leaves)]
        return self._like(x, "BatchNormalization", inputs, epsilon=self.spec.bn_epsilon)

    def average_pool(self, x: Value, window: Window) -> Value:
        return self._pool("AveragePool", x, window, count_include_pad=0)

    def max_pool(self, x: Value, window: Window) -> Value:
        return self._pool("MaxPool", x, window)

    def shift(self, x: Value) -> Value:
        numbers = {
            "shift/starts": [1, 1],
            "shift/ends": [x.size, x.size],
            "shift/axes": [2, 3],
            "shift/pads": [0, 0, 0, 0, 0, 0, 1, 1],
        }
        starts, ends, axes, pads = (
            self._constant(f"{name}_{x.size}", np.array(value, np.int64))
            for name, value in numbers.items()
        )
        return self._like(x, "Pad", [self._node("Slice", [x.name, starts, ends, axes]), pads])

    def add(self, a: Value, b: Value, scope: str) -> Value:
        return self._like(a, "Add", [a.name, b.name])

    def concat(self, parts: Sequence[Value], scope: str) -> Value:
        name = self._node("Concat", [part.name for part in parts], axis=1)
        return Value(name, parts[0].size, sum(part.channels for part in parts))

    def path_dropout(self, x: Value, keep: float, scope: str) -> Value:
        return x

    def dropout(self, x: Value, keep: float) -> Value:
        return x

    def global_average_pool(self, x: Value, scope: str) -> Value:
        pooled = self._node("GlobalAveragePool", [x.name])
        return Value(self._node("Flatten", [pooled]), 1, x.channels)

    def dense(self, x: Value, scope: str, units: int) -> Value:
        inputs = [x.name, self._weight(f"{scope}/weights"), self._weight(f"{scope}/biases")]
        return Value(self._node("Gemm", inputs), 1, units)

    def softmax(self, x: Value, scope: str) -> Value:
        return x  # the outputs are logits

    def output(self, x: Value, name: str) -> None:
        """Name a value as an output."""
        self.nodes.append(helper.make_node("Identity", [x.name], [name]))

    def _conv(self, x: Value, weights: str, filters: int, window: Window, group: int = 1) -> Value:
        attributes = _attributes(window, x.size)
        name = self._node("Conv", [x.name, weights], group=group, **attributes)
        return Value(name, window.output_size(x.size), filters)

    def _pool(self, kind: str, x: Value, window: Window, **options: Any) -> Value:
        name = self._node(kind, [x.name], **_attributes(window, x.size), **options)
        return Value(name, window.output_size(x.size), x.channels)

    def _like(self, x: Value, kind: str, inputs: Sequence[str], **attributes: Any) -> Value:
        return Value(self._node(kind, inputs, **attributes), x.size, x.channels)

    def _node(self, kind: str, inputs: Sequence[str], **attributes: Any) -> str:
        name = f"{kind}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [name], name=name, **attributes))
        return name

    def _weight(self, name: str, order: tuple[int, ...] | None = None) -> str:
        value = self.weights[name]
        return self._constant(name, value if order is None else value.transpose(order))

    def _constant(self, name: str, value: np.ndarray) -> str:
        if name not in self.initializers:
            array = np.ascontiguousarray(value).reshape(value.shape)
            self.initializers[name] = numpy_helper.from_array(array, name)
        return name


def _attributes(window: Window, size: int) -> dict[str, list[int]]:
    missing = 0
    if window.padding == "same":
        missing = max((window.output_size(size) - 1) * window.stride + window.kernel - size, 0)
    before = missing // 2
    return {
        "kernel_shape": [window.kernel] * 2,
        "strides": [window.stride] * 2,
        "pads": [before, before, missing - before, missing - before],
    }


def tensor_info(name: str, *shape: int | str) -> Any:
    """Describe a float32 input or output; an unknown size has a name."""
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
