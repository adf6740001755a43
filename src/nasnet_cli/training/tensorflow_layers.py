"""NASNet-A's Keras layers with faster training steps for TensorFlow on a CPU.

They compute what the usual ones do. 1x1 convolutions are matrix products, whose gradients
TensorFlow computes faster than a convolution's; batch normalisation is one fused operation; and the
gradient of a depthwise kernel avoids oneDNN's slow path for maps that are small beside the kernel.

oneDNN is off by default on AMD processors: set TF_ENABLE_ONEDNN_OPTS=1 before TensorFlow's import.
"""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from nasnet_cli.network.layers.keras import KerasLayers


def matrix_product(x: Any, kernel: Any) -> Any:
    """Apply a 1x1 kernel [1, 1, c, filters] to x [n, h, w, c]."""
    _, _, channels, filters = kernel.shape
    flat = tf.matmul(tf.reshape(x, [-1, channels]), tf.reshape(kernel, [channels, filters]))
    return tf.reshape(flat, [-1, *x.shape[1:3], filters])


def depthwise(x: Any, kernel: Any, stride: int) -> Any:
    """Apply a depthwise kernel [k, k, c, 1] to x [n, h, w, c] with "same" padding."""
    strides = [1, stride, stride, 1]

    @tf.custom_gradient
    def call(x: Any, kernel: Any) -> Any:
        def gradient(dy: Any) -> tuple[Any, Any]:
            dx = tf.raw_ops.DepthwiseConv2dNativeBackpropInput(
                input_sizes=tf.shape(x),
                filter=kernel,
                out_backprop=dy,
                strides=strides,
                padding="SAME",
            )
            return dx, _kernel_gradient(x, dy, kernel.shape, stride)

        return tf.nn.depthwise_conv2d(x, kernel, strides, "SAME"), gradient

    return call(x, kernel)


def _kernel_gradient(x: Any, dy: Any, shape: Any, stride: int) -> Any:
    size, height, width = int(shape[0]), int(x.shape[1]), int(x.shape[2])
    padding = "SAME"
    reach = 2 * min(size // 2, max(height, width) - 1) + 1
    edge = 0
    if stride == 1 and reach < size:
        # The kernel's rim lies outside the map wherever its centre is: its gradient is zero.
        edge, size = (size - reach) // 2, reach
    elif stride == 1 and size > 3 and height < 2 * size:
        x = tf.pad(x, [[0, 0], [size // 2] * 2, [size // 2] * 2, [0, 0]])
        padding = "VALID"
    gradient = tf.raw_ops.DepthwiseConv2dNativeBackpropFilter(
        input=x,
        filter_sizes=[size, size, *shape[2:]],
        out_backprop=dy,
        strides=[1, stride, stride, 1],
        padding=padding,
    )
    return tf.pad(gradient, [[edge] * 2, [edge] * 2, [0, 0], [0, 0]]) if edge else gradient


def every_second(x: Any) -> Any:
    """Return every second row and column of x [n, h, w, c], from the first on."""
    height, width, channels = x.shape[1:]
    x = tf.pad(x, [[0, 0], [0, height % 2], [0, width % 2], [0, 0]])
    height, width = (height + 1) // 2, (width + 1) // 2
    x = tf.reshape(x, [-1, height, 2, width, 2, channels])
    x = tf.slice(x, [0] * 6, [-1, height, 1, width, 1, channels])
    return tf.reshape(x, [-1, height, width, channels])


def shifted(x: Any) -> Any:
    """Move x [n, h, w, c] one pixel up and left; the gradient of tf.slice is a quick one."""
    part = tf.slice(x, [0, 1, 1, 0], [-1, -1, -1, -1])
    return tf.ensure_shape(tf.pad(part, [[0, 0], [0, 1], [0, 1], [0, 0]]), x.shape)


# The classes are called as those that they stand for: TF-Slim's names of weights depend on it.
class Conv2D(keras.layers.Conv2D):
    """A convolution with its own call for kernels of 1x1."""

    def call(self, inputs: Any) -> Any:
        if self.kernel_size != (1, 1):
            return super().call(inputs)
        if self.strides == (2, 2):
            # Not a convolution, whose kernel's gradient oneDNN computes wrongly (TensorFlow 2.21).
            inputs = every_second(inputs)
        return matrix_product(inputs, tf.convert_to_tensor(self.kernel))


class SeparableConv2D(keras.layers.SeparableConv2D):
    """A separable convolution whose depthwise part is this module's own."""

    def call(self, inputs: Any) -> Any:
        kernel = tf.convert_to_tensor(self.depthwise_kernel)
        x = depthwise(inputs, kernel, self.strides[0])
        return matrix_product(x, tf.convert_to_tensor(self.pointwise_kernel))


class BatchNormalization(keras.layers.BatchNormalization):
    """Batch normalisation with its own call while training."""

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        if not training:
            return super().call(inputs, training=training)
        outputs, mean, variance = tf.compat.v1.nn.fused_batch_norm(
            inputs,
            tf.convert_to_tensor(self.gamma),
            tf.convert_to_tensor(self.beta),
            epsilon=self.epsilon,
            is_training=True,
        )
        for moving, batch in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(moving * self.momentum + batch * (1.0 - self.momentum))
        return outputs


class Shift(keras.layers.Layer):
    """The layer of shifted()."""

    def call(self, x: Any) -> Any:
        return shifted(x)


class TensorFlowLayers(KerasLayers):
    """The set of layers in Keras on TensorFlow, for training on a CPU."""

    conv2d = Conv2D
    separable_conv2d = SeparableConv2D
    batch_normalization = BatchNormalization

    def shift(self, x: Any) -> Any:
        return Shift()(x)
