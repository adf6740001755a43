"""NASNet-A's layers as TensorFlow 1 graph operations.

TensorFlow 1.15 reads the TF1 Hub format and has neither Keras 3's layers nor stateless random
operations, so every operation here is one of 1.15.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from nasnet_cli.network.builder import Window
from nasnet_cli.network.spec import NASNetA
from nasnet_cli.quiet import tf

v1 = tf.compat.v1


class GraphLayers:
    """The set of layers in the default TensorFlow 1 graph.

    In training, batch normalisation uses the statistics of the batch and adds its updates to
    update_ops, and dropout and path dropout are active. Kernels add their losses to
    regularization_losses in any case.
    """

    def __init__(self, spec: NASNetA, *, training: bool) -> None:
        self.spec = spec
        self.training = training

    def size(self, x: Any) -> int:
        return int(x.shape[1])

    def channels(self, x: Any) -> int:
        return int(x.shape[3])

    def rescale(self, x: Any) -> Any:
        return 2.0 * x - 1.0

    def relu(self, x: Any) -> Any:
        return tf.nn.relu(x)

    def convolution(self, x: Any, scope: str, filters: int, window: Window) -> Any:
        weights = self._kernel(
            f"{scope}/weights", (*[window.kernel] * 2, self.channels(x), filters)
        )
        with _scope(scope):
            return tf.nn.conv2d(x, weights, window.stride, window.padding.upper(), name="Conv2D")

    def separable_convolution(self, x: Any, scope: str, filters: int, window: Window) -> Any:
        channels = self.channels(x)
        depthwise = self._kernel(f"{scope}/depthwise_weights", (*[window.kernel] * 2, channels, 1))
        pointwise = self._kernel(f"{scope}/pointwise_weights", (1, 1, channels, filters))
        strides = [1, window.stride, window.stride, 1]
        with _scope(scope):
            x = tf.nn.depthwise_conv2d(x, depthwise, strides, "SAME", name="depthwise")
            return tf.nn.conv2d(x, pointwise, 1, "SAME", name="pointwise")

    def batch_norm(self, x: Any, scope: str) -> Any:
        shape = (self.channels(x),)
        gamma, beta = (self._variable(f"{scope}/{name}", shape) for name in ("gamma", "beta"))
        mean, variance = (
            self._variable(f"{scope}/{name}", shape, trainable=False)
            for name in ("moving_mean", "moving_variance")
        )
        with _scope(scope):
            known = {} if self.training else {"mean": _read(mean), "variance": _read(variance)}
            y, batch_mean, batch_variance = v1.nn.fused_batch_norm(
                x,
                _read(gamma),
                _read(beta),
                epsilon=self.spec.bn_epsilon,
                is_training=self.training,
                name="FusedBatchNormV3",
                **known,
            )
            if self.training:
                for variable, batch in ((mean, batch_mean), (variance, batch_variance)):
                    change = (_read(variable) - batch) * (1.0 - self.spec.bn_decay)
                    update = variable.assign_sub(change, read_value=False)
                    v1.add_to_collection(v1.GraphKeys.UPDATE_OPS, update)
            return y

    def average_pool(self, x: Any, window: Window) -> Any:
        return tf.nn.avg_pool2d(x, window.kernel, window.stride, window.padding.upper())

    def max_pool(self, x: Any, window: Window) -> Any:
        return tf.nn.max_pool2d(x, window.kernel, window.stride, "SAME")

    def shift(self, x: Any) -> Any:
        return tf.pad(x, [[0, 0], [0, 1], [0, 1], [0, 0]])[:, 1:, 1:, :]

    def add(self, a: Any, b: Any, scope: str) -> Any:
        with _scope(scope):
            return tf.add(a, b, name="add")

    def concat(self, parts: Sequence[Any], scope: str) -> Any:
        return tf.concat(parts, 3, name=scope)

    def path_dropout(self, x: Any, keep: float, scope: str) -> Any:
        return self._drop(x, keep, [tf.shape(x)[0], 1, 1, 1])

    def dropout(self, x: Any, keep: float) -> Any:
        return self._drop(x, keep, tf.shape(x)) if keep < 1.0 else x

    def global_average_pool(self, x: Any, scope: str) -> Any:
        return tf.reduce_mean(x, [1, 2], name=scope)

    def dense(self, x: Any, scope: str, units: int) -> Any:
        weights = self._kernel(f"{scope}/weights", (int(x.shape[1]), units))
        biases = self._variable(f"{scope}/biases", (units,))
        with _scope(scope):
            product = tf.matmul(x, weights, name="MatMul")
            return tf.nn.bias_add(product, _read(biases), name="BiasAdd")

    def softmax(self, x: Any, scope: str) -> Any:
        return tf.nn.softmax(x, name=scope)

    def _drop(self, x: Any, keep: float, shape: Any) -> Any:
        if not self.training:
            return x
        draw = tf.raw_ops.RandomUniform(shape=shape, dtype=tf.float32)
        return x * tf.floor(draw + keep) / keep

    def _kernel(self, name: str, shape: tuple[int, ...]) -> Any:
        value = _read(self._variable(name, shape))
        if self.spec.weight_decay:
            with _scope(name):
                loss = tf.multiply(
                    np.float32(self.spec.weight_decay), tf.nn.l2_loss(value), name="regularizer"
                )
            v1.add_to_collection(v1.GraphKeys.REGULARIZATION_LOSSES, loss)
        return value

    def _variable(self, name: str, shape: tuple[int, ...], trainable: bool = True) -> Any:
        variable = v1.get_variable(
            name,
            shape,
            tf.float32,
            # The values come from a checkpoint; zeros keep the graph small.
            initializer=v1.zeros_initializer(),
            trainable=trainable,
            use_resource=True,
        )
        v1.add_to_collection(v1.GraphKeys.MODEL_VARIABLES, variable)
        return variable


def _scope(scope: str) -> Any:
    # A slash at the end re-enters the scope; without it TensorFlow would append a number.
    return v1.name_scope(f"{scope}/")


def _read(variable: Any) -> Any:
    return variable.read_value()
