"""Runs what TensorFlow reads, and writes TFLite files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from nasnet_cli.models.formats.saved_model import network_function
from nasnet_cli.models.info import OpenedSavedModel, open_saved_model
from nasnet_cli.network.layers.function import make_variables
from nasnet_cli.network.spec import NASNetA
from nasnet_cli.network.weights import Weights
from nasnet_cli.quiet import silence, tf

v1 = tf.compat.v1
Outputs = dict[str, np.ndarray]


def run_network(
    spec: NASNetA, weights: Weights, pictures: np.ndarray, *, classification: bool
) -> Outputs:
    """What the network itself gives for pictures [n, size, size, 3] in [0, 1]."""
    function = network_function(spec, make_variables(weights), classification=classification)
    return _arrays(function(tf.constant(pictures)))


def run_module(module: OpenedSavedModel, pictures: np.ndarray) -> Outputs:
    """What a module gives by its own signatures. Its operations must be known to be safe."""
    chosen = {"logits": module.classification, "features": module.features}
    found = {name: choice for name, choice in chosen.items() if choice is not None}
    # A session reads both formats, and several times as fast as tf.saved_model.load.
    with silence(), v1.Session(graph=tf.Graph()) as session:
        tags = list(module.model.inference.tags)
        v1.saved_model.loader.load(session, tags, str(module.folder))
        return {
            name: session.run(choice.output.tensor, {choice.input.tensor: pictures})
            for name, choice in found.items()
        }


def run_tf1_hub(folder: Path, pictures: np.ndarray, *, classification: bool) -> Outputs:
    """A TF1 Hub module's outputs, in a session as TensorFlow 1 runs it."""
    return run_module(open_saved_model(folder), pictures)


def run_saved_model(folder: Path, pictures: np.ndarray, *, classification: bool) -> Outputs:
    """A TF2 SavedModel's outputs by the signature that servers use."""
    with silence():
        loaded = tf.saved_model.load(str(folder))
        return _arrays(loaded.signatures["serving_default"](images=tf.constant(pictures)))


def write_tflite(
    path: Path, spec: NASNetA, weights: Weights, *, classification: bool, half: bool
) -> None:
    """Writes a TFLite file with the signature serving_default: images [batch, size, size, 3] to
    logits [batch, classes] and features [batch, depth]. half keeps the weights as float16."""
    variables = make_variables(weights)
    module = tf.Module()
    module.kept = list(variables.values())
    function: Any = network_function(spec, variables, classification=classification)
    with silence():
        converter = tf.lite.TFLiteConverter.from_concrete_functions(
            [function.get_concrete_function()], module
        )
        if half:
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.target_spec.supported_types = [tf.float16]
        content: bytes = converter.convert()
    path.write_bytes(content)


def run_tflite(path: Path, pictures: np.ndarray, *, classification: bool) -> Outputs:
    """A TFLite file's outputs, by TensorFlow's interpreter."""
    with silence():
        run: Any = tf.lite.Interpreter(model_path=str(path)).get_signature_runner("serving_default")
        return {name: np.array(value) for name, value in run(images=pictures).items()}


def _arrays(tensors: dict[str, Any]) -> Outputs:
    return {name: tensor.numpy() for name, tensor in tensors.items()}
