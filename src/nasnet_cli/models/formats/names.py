"""Names that export has for what it writes, apart from what help must not import."""

from typing import Literal

Kind = Literal["classification", "feature-vector"]
Precision = Literal["f32", "f16"]
WritableName = Literal["tf1-hub", "saved-model", "keras", "tflite", "openvino", "onnx"]
"""The formats of table.py that are writable."""
