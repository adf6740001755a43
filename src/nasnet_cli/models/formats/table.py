"""The forms that export writes, as data; nothing here imports what writes them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

FormatName = Literal["tf1-hub", "saved-model", "keras", "tflite", "onnx", "openvino"]
Kind = Literal["classification", "feature-vector"]
Precision = Literal["f32", "f16"]

TOLERANCE = 1e-4
"""How far an output may be from the source's, in float32."""

AGREEMENT = 0.9
"""Share of pictures whose largest output must be the source's, where weights are rounded."""


@dataclass(frozen=True)
class Format:
    """One form. suffix is what its file's name ends in, "" for a folder; companions are the
    further files that belong to it, with STEM and NAME for the parts of the file's name."""

    name: FormatName
    suffix: str = ""
    companions: tuple[str, ...] = ()
    precisions: tuple[Precision, ...] = ("f32",)

    def files(self, name: str) -> list[str]:
        """The names of all that it consists of, the one that makes it complete last."""
        stem = name.removesuffix(self.suffix) if self.suffix else name
        return [c.replace("STEM", stem).replace("NAME", name) for c in self.companions] + [name]


FORMATS: dict[str, Format] = {
    form.name: form
    for form in (
        Format("tf1-hub"),
        Format("saved-model"),
        Format("keras", ".keras"),
        # TFLite's own tools for metadata are not kept up, so that it stands beside the file.
        Format("tflite", ".tflite", ("NAME.labels.tsv", "NAME.nasnet.json"), ("f32", "f16")),
        Format("onnx", ".onnx"),
        Format("openvino", ".xml", ("STEM.bin",)),
    )
}


def format_of(name: str) -> FormatName | None:
    """The form that a file's name ends in, None for what may be a folder."""
    for form in FORMATS.values():
        if form.suffix and name.endswith(form.suffix):
            return form.name
    return None
