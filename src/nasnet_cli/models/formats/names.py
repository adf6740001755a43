"""The kinds, precisions and formats that export writes: all that --help needs of the formats."""

from typing import Literal

Kind = Literal["classification", "feature-vector"]
Precision = Literal["f32", "f16"]
WritableName = Literal["tf1-hub", "saved-model", "keras", "tflite", "openvino", "onnx"]
"""The formats of table.py that are writable."""
