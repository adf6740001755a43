"""The table of all model formats, in the order in which they are tried.

A format's module is imported when it is asked for: recognizing a SavedModel imports no other.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from importlib import import_module
from typing import get_args

from nasnet_cli.models.formats.base import Format
from nasnet_cli.models.formats.names import WritableName

_CLASSES = {
    "tf1-hub": "tf1_hub.TF1Hub",
    "saved-model": "saved_model.SavedModel",
    "keras": "keras.Keras",
    "tflite": "tflite.TFLite",
    "openvino": "openvino_ir.OpenVINOIR",
    "slim": "slim.Slim",
    "onnx": "onnx.ONNX",
}


@cache
def _format(name: str) -> Format:
    module, class_name = _CLASSES[name].split(".")
    entry: Format = getattr(import_module(f"nasnet_cli.models.formats.{module}"), class_name)()
    return entry


class _Formats(Mapping[str, Format]):
    """Formats by their names, each imported when it is met."""

    def __init__(self, names: Iterable[str]) -> None:
        self._names = tuple(names)

    def __getitem__(self, name: str) -> Format:
        if name not in self._names:
            raise KeyError(name)
        return _format(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


FORMATS = _Formats(_CLASSES)

WRITABLE = _Formats(get_args(WritableName))


def format_for(name: str) -> Format | None:
    """Return the format that a file's name ends in; None for what may be a folder."""
    fitting = (f for f in WRITABLE.values() if f.suffix and name.endswith(f.suffix))
    return next(fitting, None)
