"""Writes and runs .keras files that plain Keras 3 loads, without this package."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from nasnet_cli.network.builder import build_network
from nasnet_cli.network.spec import NASNetA
from nasnet_cli.network.weights import Weights, assign_weights
from nasnet_cli.quiet import keras, silence

# After the quiet import: Keras' own import of TensorFlow would print its log lines.
from nasnet_cli.network.layers.keras import KerasLayers  # isort: skip


class PortableLayers(KerasLayers):
    """The set of layers in Keras' own classes alone, so that no code of ours is needed to load
    what is saved."""

    def shift(self, x: Any) -> Any:
        x = keras.layers.ZeroPadding2D(((0, 1), (0, 1)))(x)
        return keras.layers.Cropping2D(((1, 0), (1, 0)))(x)

    def path_dropout(self, x: Any, keep: float, scope: str) -> Any:
        # One draw for each example: the same as dropping its whole path.
        shape = (None, 1, 1, 1)
        make = keras.layers.Dropout
        return self._layer(
            f"{scope}/path_dropout", lambda name: make(1.0 - keep, noise_shape=shape, name=name)
        )(x)

    def global_average_pool(self, x: Any, scope: str) -> Any:
        return self._layer(scope, keras.layers.GlobalAveragePooling2D)(x)


def write(path: Path, spec: NASNetA, weights: Weights, *, classification: bool) -> None:
    """Writes a model from images [batch, size, size, 3] in [0, 1] to logits [batch, classes], or
    to features [batch, depth] without classification. The layer final_layer.global_pool gives the
    features of either."""
    with silence():
        build_portable_model(spec, weights, classification=classification).save(path)


def build_portable_model(spec: NASNetA, weights: Weights, *, classification: bool) -> Any:
    """The network in Keras' own layers alone, so that no code of ours is needed to load it."""
    images = keras.Input((spec.image_size, spec.image_size, 3), name="images")
    layers = PortableLayers(spec)
    endpoints = build_network(spec, layers, images, classification=classification)
    output = endpoints["Logits" if classification else "global_pool"]
    model = keras.Model(images, output, name="nasnet_a")
    assign_weights(model, weights)
    return model


def run(path: Path, pictures: np.ndarray, *, classification: bool) -> dict[str, np.ndarray]:
    """The outputs of a file, loaded by Keras in its safe mode."""
    with silence():
        model = keras.saving.load_model(path, compile=False, safe_mode=True)
        pooled = model.get_layer("final_layer.global_pool").output
        outputs = {"features": pooled}
        if classification:
            outputs["logits"] = model.output
        found = keras.Model(model.input, outputs)(pictures, training=False)
        return {name: np.asarray(value) for name, value in found.items()}
