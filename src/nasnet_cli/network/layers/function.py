"""NASNet-A's layers inside TensorFlow 2 functions, over variables that exist already.

The same operations as in a TF1 graph, so that both formats compute the same numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nasnet_cli.network.layers.graph import GraphLayers
from nasnet_cli.network.spec import NASNetA
from nasnet_cli.network.weights import Weights
from nasnet_cli.quiet import tf

_STATISTICS = ("/moving_mean", "/moving_variance")
_KERNELS = ("weights", "depthwise_weights", "pointwise_weights")


class FunctionLayers(GraphLayers):
    """The set of layers in a tf.function. Regularisation losses are not its business, and batch
    normalisation's updates run with the function itself, as TensorFlow 2 has it."""

    def __init__(self, spec: NASNetA, variables: Mapping[str, Any], *, training: bool) -> None:
        super().__init__(spec, training=training)
        self.variables = variables

    def _kernel(self, name: str, shape: tuple[int, ...]) -> Any:
        return self.variables[name].read_value()

    def _variable(self, name: str, shape: tuple[int, ...], trainable: bool = True) -> Any:
        return self.variables[name]


def make_variables(weights: Weights) -> dict[str, Any]:
    """TensorFlow 2 variables by their TF-Slim names, the moving statistics not trainable."""
    return {
        name: tf.Variable(value, name=name, trainable=not name.endswith(_STATISTICS))
        for name, value in weights.items()
    }


def is_kernel(name: str) -> bool:
    """Whether weight decay is for the variable of that name: kernels, never biases or BN's."""
    return name.rpartition("/")[2] in _KERNELS
