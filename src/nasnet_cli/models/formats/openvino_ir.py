"""Writes and runs OpenVINO's own files (.xml and .bin)."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from nasnet_cli.models.formats.tf1_hub import write_tf1_hub
from nasnet_cli.models.runtime_file import INFO
from nasnet_cli.network.spec import NASNetA
from nasnet_cli.network.weights import Weights
from nasnet_cli.quiet import openvino

_TENSORS = {"logits": "final_layer/FC/BiasAdd:0", "features": "final_layer/global_pool:0"}


def write(
    path: Path,
    spec: NASNetA,
    weights: Weights,
    texts: Mapping[str, str],
    *,
    classification: bool,
) -> None:
    """Writes path (.xml) and its .bin: images [batch, size, size, 3] in [0, 1] to logits
    [batch, classes] and features [batch, depth], any batch, in float32."""
    wanted = {k: v for k, v in _TENSORS.items() if classification or k == "features"}
    with tempfile.TemporaryDirectory(dir=path.parent) as place:
        module = Path(place, "module")
        write_tf1_hub(module, spec, weights, classification=classification, training=False)
        model = _convert(module, list(wanted.values()))
        model.inputs[0].get_tensor().set_names({"images"})
        for output, name in zip(model.outputs, wanted, strict=True):
            output.get_tensor().set_names({name})
        for name, text in texts.items():
            model.set_rt_info(text, [INFO, Path(name).name])
        openvino.save_model(model, path, compress_to_fp16=False)


def _convert(module: Path, tensors: list[str]) -> Any:
    from openvino.frontend import FrontEndManager

    frontend = FrontEndManager().load_by_framework("tf")
    loaded = frontend.load(str(module))
    # By tensor name: signatures share output names.
    loaded.override_all_outputs([loaded.get_place_by_tensor_name(name) for name in tensors])
    return frontend.convert(loaded)


def run(path: Path, pictures: np.ndarray, *, classification: bool) -> dict[str, np.ndarray]:
    """A file's outputs, by OpenVINO on the CPU in float32."""
    core = openvino.Core()
    settings = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = core.compile_model(core.read_model(path), "CPU", settings)
    found = compiled(pictures)
    return {output.get_any_name(): np.array(found[output]) for output in compiled.outputs}
