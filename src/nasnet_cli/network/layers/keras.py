"""NASNet-A's layers in Keras 3, on any of its backends."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import ops

from nasnet_cli.errors import ModelError
from nasnet_cli.network.builder import Window, build_network
from nasnet_cli.network.spec import NASNetA
from nasnet_cli.network.weights import Weights, check_weights

# TF-Slim's names of weights by Keras' names, for each class of layer.
_SLIM_LEAF = {
    "Conv2D": {"kernel": "weights"},
    "SeparableConv2D": {
        "depthwise_kernel": "depthwise_weights",
        "pointwise_kernel": "pointwise_weights",
    },
    "Dense": {"kernel": "weights", "bias": "biases"},
    "BatchNormalization": {},
}


@keras.saving.register_keras_serializable("nasnet")
class PathDropout(keras.layers.Layer):
    """A layer that, in training, drops the path for whole examples and divides the others by keep.

    ramp is the progress of training from scratch, from 0 to 1, along which keep goes from 1 to its
    final value. In fine-tuning it stays at 1.
    """

    def __init__(self, keep: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.keep = keep
        self.seed_generator = keras.random.SeedGenerator()
        self.ramp = self.add_weight(
            name="ramp", shape=(), initializer="ones", trainable=False, dtype="float32"
        )

    def call(self, x: Any, training: bool = False) -> Any:
        if not training:
            return x
        keep = ops.cast(1.0 - self.ramp * (1.0 - self.keep), x.dtype)
        shape = (ops.shape(x)[0], 1, 1, 1)
        draw = keras.random.uniform(shape, dtype=x.dtype, seed=self.seed_generator)
        return x * ops.floor(draw + keep) / keep

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "keep": self.keep}


class KerasLayers:
    """The set of layers in Keras.

    A repeated scope reuses its layer, so one set can build the network for several input sizes with
    the same weights. A subclass may name other classes of the same weights. Raises ModelError on
    Keras' PyTorch backend: where a window's padding is uneven, as in all reductions of an even
    side, it repeats the pixels at the edge and counts them in averages.
    """

    conv2d = keras.layers.Conv2D
    separable_conv2d = keras.layers.SeparableConv2D
    batch_normalization = keras.layers.BatchNormalization

    def __init__(self, spec: NASNetA) -> None:
        if keras.backend.backend() == "torch":
            raise ModelError(
                "Keras' PyTorch backend pools the edges of images as NASNet-A does not.",
                "Set KERAS_BACKEND to tensorflow or jax.",
            )
        self.spec = spec
        self.by_scope: dict[str, keras.layers.Layer] = {}

    def _layer(self, scope: str, layer: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        if scope not in self.by_scope:
            # Keras allows no slash in a layer's name.
            self.by_scope[scope] = layer(*arguments, name=scope.replace("/", "."), **options)
        return self.by_scope[scope]

    def _kernels(self, *parts: str) -> dict[str, Any]:
        """Return the options of a layer for the initial values and the decay of its kernels."""
        decay = self.spec.weight_decay
        options: dict[str, Any] = {}
        for part in parts:
            options[f"{part}_initializer"] = keras.initializers.VarianceScaling(
                2.0, mode="fan_out", distribution="truncated_normal"
            )
            # Keras' L2 has no factor of a half.
            options[f"{part}_regularizer"] = keras.regularizers.L2(decay / 2) if decay else None
        return options

    def size(self, x: Any) -> int:
        return int(x.shape[1])

    def channels(self, x: Any) -> int:
        return int(x.shape[3])

    def rescale(self, x: Any) -> Any:
        return keras.layers.Rescaling(2.0, -1.0)(x)

    def relu(self, x: Any) -> Any:
        return keras.layers.ReLU()(x)

    def convolution(self, x: Any, scope: str, filters: int, window: Window) -> Any:
        options = {"use_bias": False, **self._kernels("kernel")}
        return self._layer(scope, self.conv2d, filters, *window, **options)(x)

    def separable_convolution(self, x: Any, scope: str, filters: int, window: Window) -> Any:
        options = {"use_bias": False, **self._kernels("depthwise", "pointwise")}
        return self._layer(scope, self.separable_conv2d, filters, *window, **options)(x)

    def batch_norm(self, x: Any, scope: str) -> Any:
        options = {"momentum": self.spec.bn_decay, "epsilon": self.spec.bn_epsilon}
        return self._layer(scope, self.batch_normalization, **options)(x)

    def average_pool(self, x: Any, window: Window) -> Any:
        return keras.layers.AveragePooling2D(*window)(x)

    def max_pool(self, x: Any, window: Window) -> Any:
        return keras.layers.MaxPooling2D(*window)(x)

    def shift(self, x: Any) -> Any:
        x = keras.layers.ZeroPadding2D(((0, 1), (0, 1)))(x)
        return keras.layers.Cropping2D(((1, 0), (1, 0)))(x)

    def add(self, a: Any, b: Any, scope: str) -> Any:
        return self._layer(scope, keras.layers.Add)([a, b])

    def concat(self, parts: Sequence[Any], scope: str) -> Any:
        return self._layer(scope, keras.layers.Concatenate)(list(parts))

    def path_dropout(self, x: Any, keep: float, scope: str) -> Any:
        return self._layer(f"{scope}/path_dropout", PathDropout, keep)(x)

    def dropout(self, x: Any, keep: float) -> Any:
        return keras.layers.Dropout(1.0 - keep)(x) if keep < 1.0 else x

    def global_average_pool(self, x: Any, scope: str) -> Any:
        return self._layer(scope, keras.layers.GlobalAveragePooling2D)(x)

    def dense(self, x: Any, scope: str, units: int) -> Any:
        return self._layer(scope, keras.layers.Dense, units, **self._kernels("kernel"))(x)

    def softmax(self, x: Any, scope: str) -> Any:
        return keras.layers.Softmax()(x)


class PortableLayers(KerasLayers):
    """The set of layers in Keras' own classes alone: loading a saved model needs no code of ours."""

    def path_dropout(self, x: Any, keep: float, scope: str) -> Any:
        # One draw for each example: the same as dropping its whole path.
        options = {"noise_shape": (None, 1, 1, 1)}
        layer = self._layer(f"{scope}/path_dropout", keras.layers.Dropout, 1.0 - keep, **options)
        return layer(x)


def build_keras_model(
    spec: NASNetA, *, auxiliary: bool = False, layers: KerasLayers | None = None
) -> keras.Model:
    """Return a Keras model from images [batch, size, size, 3] in [0, 1] to all endpoints."""
    images = keras.Input((spec.image_size, spec.image_size, 3), name="images")
    endpoints = build_network(spec, layers or KerasLayers(spec), images, auxiliary=auxiliary)
    return keras.Model(images, endpoints, name="nasnet_a")


def build_portable_model(spec: NASNetA, weights: Weights, *, classification: bool) -> keras.Model:
    """Return the network from images to logits, or to features without classification, in Keras'
    own layers alone."""
    images = keras.Input((spec.image_size, spec.image_size, 3), name="images")
    endpoints = build_network(spec, PortableLayers(spec), images, classification=classification)
    output = endpoints["Logits" if classification else "global_pool"]
    model = keras.Model(images, output, name="nasnet_a")
    assign_weights(model, weights)
    return model


def slim_variables(model: keras.Model) -> dict[str, keras.Variable]:
    """Return the model's weights by their TF-Slim names, such as "cell_0/1x1/weights"."""
    variables = {}
    for layer in model.layers:
        leaves = _SLIM_LEAF.get(type(layer).__name__)
        if leaves is None:
            continue
        for weight in layer.weights:
            leaf = leaves.get(weight.name, weight.name)
            variables[f"{layer.name.replace('.', '/')}/{leaf}"] = weight
    return variables


def assign_weights(model: Any, weights: Weights) -> None:
    """Set a Keras model's weights, which must be exactly the model's own."""
    variables = slim_variables(model)
    check_weights(weights, {name: tuple(v.shape) for name, v in variables.items()}, "the weights")
    for name, variable in variables.items():
        variable.assign(weights[name])
