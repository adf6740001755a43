"""The table of all model formats, in the order in which they are tried."""

from __future__ import annotations

from nasnet_cli.models.formats.base import Format
from nasnet_cli.models.formats.keras import Keras
from nasnet_cli.models.formats.onnx import ONNX
from nasnet_cli.models.formats.openvino_ir import OpenVINOIR
from nasnet_cli.models.formats.saved_model import SavedModel
from nasnet_cli.models.formats.slim import Slim
from nasnet_cli.models.formats.tf1_hub import TF1Hub
from nasnet_cli.models.formats.tflite import TFLite

FORMATS: dict[str, Format] = {
    entry.name: entry
    for entry in (TF1Hub(), SavedModel(), Keras(), TFLite(), OpenVINOIR(), Slim(), ONNX())
}

WRITABLE: dict[str, Format] = {name: entry for name, entry in FORMATS.items() if entry.is_writable}


def format_for(name: str) -> Format | None:
    """Return the format that a file's name ends in; None for what may be a folder."""
    fitting = (f for f in WRITABLE.values() if f.suffix and name.endswith(f.suffix))
    return next(fitting, None)
