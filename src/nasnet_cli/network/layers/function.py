"""NASNet-A's layers in TensorFlow 2 functions, over existing variables.

The operations are those of a TF1 graph, so both formats compute the same numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from nasnet_cli.network.builder import build_network
from nasnet_cli.network.layers.graph import GraphLayers
from nasnet_cli.network.spec import NASNetA
from nasnet_cli.network.weights import Weights
from nasnet_cli.quiet import tf

Function = Callable[..., Any]

_STATISTICS = ("/moving_mean", "/moving_variance")
_KERNELS = ("weights", "depthwise_weights", "pointwise_weights")


class FunctionLayers(GraphLayers):
    """The set of layers in a tf.function.

    It adds no regularisation losses. Batch normalisation's updates run with the function.
    """

    def __init__(self, spec: NASNetA, variables: Mapping[str, Any], *, training: bool) -> None:
        super().__init__(spec, training=training)
        self.variables = variables

    def _kernel(self, name: str, shape: tuple[int, ...]) -> Any:
        return self.variables[name].read_value()

    def _variable(self, name: str, shape: tuple[int, ...], trainable: bool = True) -> Any:
        return self.variables[name]


def make_variables(weights: Weights) -> dict[str, Any]:
    """Return TensorFlow 2 variables by their TF-Slim names; moving statistics do not train."""
    return {
        name: tf.Variable(value, name=name, trainable=not name.endswith(_STATISTICS))
        for name, value in weights.items()
    }


def is_kernel(name: str) -> bool:
    """Return whether weight decay applies to a variable: to kernels, not to biases or BN."""
    return name.rpartition("/")[2] in _KERNELS


def network_function(
    spec: NASNetA, variables: dict[str, Any], *, classification: bool, training: bool = False
) -> Function:
    """Return the network as a tf.function from images to a dict of features and, with
    classification, logits."""

    @tf.function(input_signature=[images_spec(spec)], autograph=False)
    def outputs(images: Any) -> dict[str, Any]:
        layers = FunctionLayers(spec, variables, training=training)
        endpoints = build_network(spec, layers, images, classification=classification)
        named = {"features": tf.identity(endpoints["global_pool"])}
        if classification:
            named["logits"] = tf.identity(endpoints["Logits"])
        return named

    function: Function = outputs
    return function


def images_spec(spec: NASNetA) -> Any:
    """Return the network's input: images [batch, size, size, 3], any batch."""
    return tf.TensorSpec((None, spec.image_size, spec.image_size, 3), tf.float32, name="images")


def run_network(
    spec: NASNetA, weights: Weights, images: np.ndarray, *, classification: bool
) -> dict[str, np.ndarray]:
    """Run the network on images [n, size, size, 3] in [0, 1]: features and logits [n, length]."""
    function = network_function(spec, make_variables(weights), classification=classification)
    return {name: tensor.numpy() for name, tensor in function(tf.constant(images)).items()}
