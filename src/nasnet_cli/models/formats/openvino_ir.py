"""OpenVINO's own files: an .xml and the .bin beside it."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nasnet_cli.errors import ModelError
from nasnet_cli.models.card import CARD, LABELS, Card, Labels, read_texts
from nasnet_cli.models.files import reading
from nasnet_cli.models.formats.base import Format, Network, Outputs
from nasnet_cli.models.formats.names import Precision
from nasnet_cli.models.formats.openvino_file import Facts, OpenedGraph, open_file, read_graph
from nasnet_cli.models.values import InputValues, range_in_metadata

if TYPE_CHECKING:
    import numpy as np

_RT_INFO = "nasnet"
"""The entry of an .xml file's rt_info that holds the card and the labels."""

_MODEL_INFO = "model_info"
"""The entry in which OpenVINO's Model API, and what trains for it, keeps the preprocessing."""

_DEEPEST = 100
_OLDEST = 10
_HEAD = re.compile(rb"(\xef\xbb\xbf)?\s*(<\?xml[^>]*>\s*)?<net\s")
# The attributes of a constant's data; no number in it is longer than one of 64 bits.
_CONSTANT = ("offset", "size", "element_type", "shape")
_NUMBER = re.compile(r"\d{1,20}", re.ASCII)
_SHAPE = re.compile(r"(\d{1,20}( ?, ?\d{1,20})*)?", re.ASCII)
_TENSORS = {"logits": "final_layer/FC/BiasAdd:0", "features": "final_layer/global_pool:0"}


class OpenVINOIR(Format):
    """The format of OpenVINO's .xml files."""

    name = "openvino"
    title = "an OpenVINO file"
    expected = "an OpenVINO .xml"
    suffixes = (".xml",)
    is_runnable = True
    is_writable = True
    suffix = ".xml"
    companions = ("STEM.bin",)

    def detect(self, path: Path, head: bytes | None) -> Path | None:
        return path if head is not None and _HEAD.match(head) else None

    def files(self, path: Path) -> dict[str, Path]:
        return {"": path, ".bin": path.with_suffix(".bin")}

    def open(self, path: Path) -> OpenedGraph:
        _check_xml(path)  # OpenVINO would crash
        name = path.with_suffix(".bin").name
        if_damaged = f"Get it again, and its own {name} beside it."
        graph = read_graph(self, path, path, if_damaged=if_damaged)
        texts = {
            place.as_posix(): graph.get_rt_info([_RT_INFO, place.name]).astype(str)
            for place in (CARD, LABELS)
            if graph.has_rt_info([_RT_INFO, place.name])
        }
        card, labels = read_texts(texts, path)
        return open_file(self, path, graph, _facts(graph, card, labels))

    def write(
        self, path: Path, network: Network, texts: Mapping[str, str], precision: Precision
    ) -> None:
        """Write an .xml and its .bin: images [batch, size, size, 3] in [0, 1] to logits
        [batch, classes] and features [batch, depth], any batch, in float32."""
        from nasnet_cli.models.formats.tf1_hub import TF1Hub, write_tf1_hub
        from nasnet_cli.quiet import openvino

        classification = network.classification
        names = ["logits", "features"] if classification else ["features"]
        with tempfile.TemporaryDirectory(dir=path.parent) as place:
            module = Path(place, "module")
            write_tf1_hub(
                module,
                network.spec,
                network.weights,
                classification=classification,
                training=False,
            )
            tensors = [_TENSORS[name] for name in names]
            with TF1Hub().open(module).openvino_model(tensors) as graph:
                graph.inputs[0].get_tensor().set_names({"images"})
                for output, name in zip(graph.outputs, names, strict=True):
                    output.get_tensor().set_names({name})
                for name, text in texts.items():
                    graph.set_rt_info(text, [_RT_INFO, Path(name).name])
                openvino.save_model(graph, path, compress_to_fp16=False)

    def run(self, path: Path, images: np.ndarray, *, classification: bool) -> Outputs:
        """Run a file by OpenVINO on the CPU in float32."""
        import numpy as np

        from nasnet_cli.quiet import openvino

        core = openvino.Core()
        settings = {"INFERENCE_PRECISION_HINT": "f32"}
        compiled = core.compile_model(core.read_model(path), "CPU", settings)
        values = compiled(images)
        return {output.get_any_name(): np.array(values[output]) for output in compiled.outputs}


def _facts(graph: Any, card: Card | None, labels: Labels | None) -> Facts:
    """Return what a file says: export's card, and what OpenVINO's Model API keeps in it."""
    texts = {
        key: str(graph.get_rt_info([_MODEL_INFO, key]).astype(str))
        for key in ("labels", "mean_values", "scale_values")
        if graph.has_rt_info([_MODEL_INFO, key])
    }
    try:
        mean = [float(number) for number in texts.get("mean_values", "").split()]
        std = [float(number) for number in texts.get("scale_values", "").split()]
    except ValueError:
        mean = std = []
    found = range_in_metadata(mean or [0.0], std or [1.0]) if mean or std else None
    values = InputValues(found, None, "its metadata") if found else InputValues()
    # Spaces part the labels.
    label_texts = (("labels", "\n".join(texts.get("labels", "").split())),)
    return Facts(card, labels, values=values, label_texts=label_texts)


def _check_xml(path: Path) -> None:
    """Raise ModelError when a file is not XML or is nested deeper than a network, when a constant
    is not whole, and when the .bin beside it is missing or ends before the weights do."""
    from xml.parsers import expat

    from nasnet_cli.models.safety.constants import OPENVINO_BITS, check_bytes, refuse

    depth = needed = 0
    layer: dict[str, str] = {}

    def begin(name: str, attributes: dict[str, str]) -> None:
        nonlocal depth, layer, needed
        depth += 1
        if depth > _DEEPEST:
            raise ModelError(
                f"{path} is nested over {_DEEPEST} deep, which no network is.",
                "Get it from a place that you trust.",
            )
        version = attributes.get("version", "")
        if depth == 1 and version.isdecimal() and int(version) < _OLDEST:
            raise ModelError(
                f"{path} is of OpenVINO's file version {version}; those before {_OLDEST} are no "
                "longer read.",
                "Convert the model that it was made from with a current OpenVINO.",
            )
        if name == "layer":
            layer = attributes
        elif name == "data" and _is_constant(layer, attributes):
            called = layer.get("name", "")
            offset, size, kind, shape = (attributes.get(key, "") for key in _CONSTANT)
            if not (_NUMBER.fullmatch(offset) and _NUMBER.fullmatch(size)):
                raise refuse(path, called, "has no place in the .bin")
            if not _SHAPE.fullmatch(shape):
                raise refuse(path, called, "has no shape")
            if kind in OPENVINO_BITS:
                sizes = [int(number) for number in shape.split(",") if number]
                check_bytes(path, called, sizes, OPENVINO_BITS[kind], int(size))
            elif kind != "string":  # OpenVINO checks the lengths of strings
                raise refuse(path, called, f"is of the unknown type {kind[:20]!r}")
            needed = max(needed, int(offset) + int(size))

    def end(_: str) -> None:
        nonlocal depth
        depth -= 1

    def refuse_doctype(*_: object) -> None:
        # It can give attributes that OpenVINO would not see.
        raise ModelError(f"{path} has a DOCTYPE, which no network has.", "Get it again.")

    parser = expat.ParserCreate()
    parser.StartElementHandler, parser.EndElementHandler = begin, end
    parser.StartDoctypeDeclHandler = refuse_doctype
    try:
        with reading(path, "Check it."), path.open("rb") as file:
            parser.ParseFile(file)
    except expat.ExpatError as error:
        raise ModelError(f"{path} is broken: {error}.", "Get it again.") from None
    if needed:
        _check_weights(path, needed)


def _is_constant(layer: dict[str, str], data: dict[str, str]) -> bool:
    """Return whether OpenVINO reads a layer's data from the .bin; it ignores the case of types."""
    return layer.get("type", "").lower() in ("const", "constant") or data.keys() >= set(_CONSTANT)


def _check_weights(path: Path, needed: int) -> None:
    weights = path.with_suffix(".bin")
    try:
        there = weights.stat().st_size if weights.is_file() else None
    except OSError:
        there = None
    if there is None:
        raise ModelError(
            f"{weights} is missing, and with it the weights of {path.name}.",
            "Put it next to that file again: an OpenVINO model consists of both.",
        )
    if there < needed:
        raise ModelError(
            f"{weights} is cut off or belongs to another model: it has {there} bytes, and "
            f"{path.name} needs {needed}.",
            "Get both files again.",
        )
