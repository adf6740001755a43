"""Writes and runs ONNX files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from nasnet_cli.errors import ModelError
from nasnet_cli.models.formats.onnx import METADATA_PREFIX
from nasnet_cli.network.builder import build_network
from nasnet_cli.network.spec import NASNetA
from nasnet_cli.network.weights import Weights

# Both are old enough for every runtime that is in use, and have all that is needed.
OPERATIONS_VERSION = 17
FORMAT_VERSION = 8


def require() -> None:
    """Raises ModelError, with what to install, when ONNX can't be written or run here."""
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
    except ImportError as error:
        raise ModelError(
            f"ONNX files need the package {error.name}, which is not installed.",
            "Install it with: pip install 'nasnet-cli[onnx]'.",
        ) from error


def write(
    path: Path,
    spec: NASNetA,
    weights: Weights,
    texts: Mapping[str, str],
    *,
    classification: bool,
) -> None:
    """Writes a model from images [batch, size, size, 3] in [0, 1] to logits [batch, classes] and
    features [batch, depth], any batch. texts go into its metadata."""
    import onnx
    from onnx import helper

    from nasnet_cli.network.layers.onnx import OnnxLayers, Value, tensor_info

    layers = OnnxLayers(spec, weights)
    images = Value("images", spec.image_size, 3)
    endpoints = build_network(spec, layers, images, classification=classification)
    outputs = []
    if classification:
        layers.output(endpoints["Logits"], "logits")
        outputs.append(tensor_info("logits", "batch", spec.classes))
    layers.output(endpoints["global_pool"], "features")
    outputs.append(tensor_info("features", "batch", spec.feature_depth))
    graph = helper.make_graph(
        layers.nodes,
        "nasnet_a",
        [tensor_info("images", "batch", spec.image_size, spec.image_size, 3)],
        outputs,
        list(layers.initializers.values()),
    )
    model = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", OPERATIONS_VERSION)],
        ir_version=FORMAT_VERSION,
        producer_name="nasnet-cli",
    )
    helper.set_model_props(model, {METADATA_PREFIX + name: text for name, text in texts.items()})
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


def run(path: Path, pictures: np.ndarray, *, classification: bool) -> dict[str, np.ndarray]:
    """A file's outputs, by ONNX Runtime on the CPU."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, {"images": pictures}), strict=True))
