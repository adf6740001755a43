"""Begin a network with another's weights and a new classification layer.

The new layer is fitted to the features that the old network gives of augmented training images, so
that training doesn't begin by destroying them.
"""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
from keras import ops

from nasnet_cli.models.formats.tf1_hub import TF1Hub
from nasnet_cli.network.layers.keras import (
    assign_weights,
    build_keras_model,
    slim_variables,
)
from nasnet_cli.network.spec import NASNetA
from nasnet_cli.training.batches import Batches, prefetch
from nasnet_cli.training.schedule import Phase

HEAD = "final_layer/FC/"


def warm_start(
    module: Path, network: NASNetA, batches: Batches, phase: Phase, steps: int, rounds: int
) -> dict[str, np.ndarray]:
    """Return a network's weights by their TF-Slim names: a module's, with a new last layer.

    The features are those of the first steps batches of a phase; the layer sees them rounds times.
    A module that has the network's classes already keeps its last layer.
    """
    begun = TF1Hub().read_network(module)
    weights = begun.weights
    if begun.spec.classes == network.classes:
        return weights
    weights = {name: value for name, value in weights.items() if not name.startswith(HEAD)}
    body = build_keras_model(replace(network, image_size=phase.size))
    head = {name: np.zeros(v.shape) for name, v in slim_variables(body).items() if HEAD in name}
    assign_weights(body, {**weights, **head})
    features, targets = [], []
    began = time.monotonic()

    def make(step: int) -> tuple[np.ndarray, np.ndarray]:
        return batches.make(step, phase.parts, phase.size, phase.augmentation)

    for images, wanted in prefetch(make, 0, steps):
        outputs = body.predict_on_batch(images)
        features.append(ops.convert_to_numpy(outputs["global_pool"]))
        targets.append(wanted.astype(np.float16))
        if len(features) % 200 == 0:
            seconds = time.monotonic() - began
            print(f"features: {len(features)} of {steps} batches, {seconds:.0f} s", flush=True)
    kernel, bias = fit_layer(np.concatenate(features), np.concatenate(targets), rounds)
    return {**weights, f"{HEAD}weights": kernel, f"{HEAD}biases": bias}


def fit_layer(
    features: np.ndarray, targets: np.ndarray, rounds: int
) -> tuple[np.ndarray, np.ndarray]:
    """Fit a softmax layer to targets [n, classes] and return its kernel and bias."""
    inputs = keras.Input((features.shape[1],))
    layer = keras.layers.Dense(targets.shape[1])
    model = keras.Model(inputs, layer(inputs))
    steps = rounds * (len(features) // 512)
    rate = keras.optimizers.schedules.CosineDecay(2e-3, steps)
    loss = keras.losses.CategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(rate), loss)
    model.fit(features, targets, batch_size=512, epochs=rounds, verbose=2)
    kernel, bias = (ops.convert_to_numpy(weight) for weight in layer.weights)
    return kernel, bias
