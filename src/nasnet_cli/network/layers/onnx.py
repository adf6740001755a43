"""NASNet-A's layers as ONNX operations, with static pads, so that all runtimes pad alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from nasnet_cli.network.builder import Padding, pooled_size
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

    def convolution(
        self,
        x: Value,
        scope: str,
        filters: int,
        kernel: int,
        stride: int = 1,
        padding: Padding = "same",
    ) -> Value:
        weights = self._weight(f"{scope}/weights", (3, 2, 0, 1))
        return self._conv(x, weights, filters, kernel, stride, padding)

    def separable_convolution(
        self, x: Value, scope: str, filters: int, kernel: int, stride: int
    ) -> Value:
        depthwise = self._weight(f"{scope}/depthwise_weights", (2, 3, 0, 1))
        x = self._conv(x, depthwise, x.channels, kernel, stride, "same", group=x.channels)
        return self._conv(
            x, self._weight(f"{scope}/pointwise_weights", (3, 2, 0, 1)), filters, 1, 1, "same"
        )

    def batch_norm(self, x: Value, scope: str) -> Value:
        leaves = ("gamma", "beta", "moving_mean", "moving_variance")
        inputs = [x.name, *(self._weight(f"{scope}/{leaf}") for leaf in leaves)]
        return self._like(x, "BatchNormalization", inputs, epsilon=self.spec.bn_epsilon)

    def average_pool(self, x: Value, size: int, stride: int, padding: Padding = "same") -> Value:
        return self._pool("AveragePool", x, size, stride, padding, count_include_pad=0)

    def max_pool(self, x: Value, size: int, stride: int) -> Value:
        return self._pool("MaxPool", x, size, stride, "same")

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

    def _conv(
        self,
        x: Value,
        weights: str,
        filters: int,
        kernel: int,
        stride: int,
        padding: Padding,
        group: int = 1,
    ) -> Value:
        window = _window(x.size, kernel, stride, padding)
        name = self._node("Conv", [x.name, weights], group=group, **window)
        return Value(name, pooled_size(x.size, kernel, stride, padding), filters)

    def _pool(
        self, kind: str, x: Value, size: int, stride: int, padding: Padding, **options: Any
    ) -> Value:
        window = _window(x.size, size, stride, padding)
        name = self._node(kind, [x.name], **window, **options)
        return Value(name, pooled_size(x.size, size, stride, padding), x.channels)

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


def _window(size: int, kernel: int, stride: int, padding: Padding) -> dict[str, list[int]]:
    missing = 0
    if padding == "same":
        missing = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    before = missing // 2
    return {
        "kernel_shape": [kernel, kernel],
        "strides": [stride, stride],
        "pads": [before, before, missing - before, missing - before],
    }


def tensor_info(name: str, *shape: int | str) -> Any:
    """Describe a float32 input or output; an unknown size has a name."""
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
