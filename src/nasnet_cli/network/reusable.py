"""The network as a reusable TF2 SavedModel, which hub.load and hub.KerasLayer can train.

Source of the interface: tensorflow-hub's "Reusable SavedModels" and "Common Signatures for Images".
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nasnet_cli.network.layers.function import (
    Function,
    images_spec,
    is_kernel,
    make_variables,
    network_function,
)
from nasnet_cli.network.spec import NASNetA
from nasnet_cli.network.weights import Weights, check_weights, weight_shapes
from nasnet_cli.quiet import silence, tf


def write_saved_model(
    folder: Path, spec: NASNetA, weights: Weights, *, classification: bool = True
) -> None:
    """Write a TF2 SavedModel into folder, which must be empty or absent.

    weights are the network's arrays by their TF-Slim names. images are float32
    [batch, image_size, image_size, 3] in [0, 1]. `__call__(images, training=False)` gives logits
    [batch, classes], or features [batch, feature_depth] without classification, and in training
    updates the moving statistics; dropout and path dropout are live then, at their final values.
    The signatures are default, image_classification, image_feature_vector (output "default" each)
    and serving_default (outputs "logits" and "features"); without classification there is neither
    image_classification nor "logits", and the layer isn't held at all. Raises ModelError when the
    weights are not this network's.
    """
    check_weights(weights, weight_shapes(spec, classification=classification), "the weights")
    variables = make_variables(weights)
    module = _reusable(spec, variables, classification)
    with silence():
        tf.saved_model.save(
            module, str(folder), signatures=_signatures(module, spec, classification)
        )


def _reusable(spec: NASNetA, variables: dict[str, Any], classification: bool) -> Any:
    main = "logits" if classification else "features"

    # Traced once each: a tf.function is traced anew by each of its callers, and by the saver.
    def traced(training: bool) -> Function:
        function: Any = network_function(
            spec, variables, classification=classification, training=training
        )
        concrete: Function = function.get_concrete_function()
        return concrete

    infer, train = traced(False), traced(True)

    @tf.function(autograph=False)
    def call(images: Any, training: bool = False) -> Any:
        return (train if training else infer)(images)[main]

    for training in (False, True):
        call.get_concrete_function(images_spec(spec), training=training)
    module = tf.train.Checkpoint()
    # Attributes of a Checkpoint are what gets saved; its own methods are not.
    module.__call__ = call
    module.infer = infer
    module.variables = list(variables.values())
    module.trainable_variables = [v for v in variables.values() if v.trainable]
    module.regularization_losses = [
        _loss(variable, spec.weight_decay)
        for name, variable in variables.items()
        if spec.weight_decay and is_kernel(name)
    ]
    return module


def _loss(variable: Any, decay: float) -> Function:
    @tf.function(input_signature=[], autograph=False)
    def loss() -> Any:
        return decay * tf.nn.l2_loss(variable)

    function: Function = loss.get_concrete_function()
    return function


def _signatures(module: Any, spec: NASNetA, classification: bool) -> dict[str, Any]:
    def signature(outputs: dict[str, str]) -> Any:
        @tf.function(input_signature=[images_spec(spec)], autograph=False)
        def run(images: Any) -> dict[str, Any]:
            named = module.infer(images)
            return {key: named[name] for key, name in outputs.items()}

        return run

    names = ["logits", "features"] if classification else ["features"]
    default = signature({"default": names[0]})
    return {
        "default": default,
        **({"image_classification": default} if classification else {}),
        "image_feature_vector": signature({"default": "features"}) if classification else default,
        "serving_default": signature({name: name for name in names}),
    }
