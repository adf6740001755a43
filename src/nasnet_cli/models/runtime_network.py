"""Reads the network out of a runtime's own file with OpenVINO: ONNX, .xml with its .bin, TFLite.

What OpenVINO would die of is looked at before, and what is wrong is said in words for people.
"""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import Any

from nasnet_cli.errors import ModelError, describe_error
from nasnet_cli.models.detect import DetectedModel, detect

_DEEPEST = 100
_NAMES = {"onnx": "an ONNX file", "openvino": "an OpenVINO file", "tflite": "a TFLite file"}
_GET_AGAIN = "Get it again, or name the model that it was made from."
# How OpenVINO says that it hasn't an operation: of TFLite, of ONNX, of its own files (twice).
_LACKING = re.compile(
    r"No translator found for (\S+) node|No conversion rule found for operations: (.+)"
    r"|Cannot create (\S+) layer|doesn't contain the operation with type: (\S+)"
)
_CONVERT = (
    "Convert it anew without custom operations and those of TensorFlow (SELECT_TF_OPS), or name the "
    "model that it was made from."
)


def read_network(found: DetectedModel) -> Any:
    """The openvino.Model of a file that was recognised as onnx, openvino or tflite.

    Raises ModelError when it, or the .bin beside an .xml, is damaged, and when it has operations
    that OpenVINO hasn't. Which other files an ONNX file names is for the caller to look at before.
    """
    if found.kind == "openvino":
        _check_xml(found.path)
    try:
        return load(found.path)
    except Exception as error:  # OpenVINO's own exceptions share no base but Exception
        raise _unreadable(found, error) from None


def load(path: Path) -> Any:
    """The openvino.Model of a file that read_network has read before; errors are OpenVINO's."""
    from nasnet_cli.quiet import openvino

    if path.suffix == ".tflite" or detect(path) != DetectedModel("tflite", path):
        return openvino.Core().read_model(path)
    # Of TFLite alone OpenVINO goes by the file's name, and takes other names for other formats.
    with tempfile.TemporaryDirectory(prefix="nasnet-") as folder:
        link = Path(folder, "model.tflite")
        link.symlink_to(path.absolute())
        return openvino.Core().read_model(link)


def _unreadable(found: DetectedModel, error: Exception) -> ModelError:
    if lacking := _LACKING.search(str(error)):
        names = next(name for name in lacking.groups() if name)
        return ModelError(
            f"{found.path} has operations that OpenVINO can't run: {names}.",
            _CONVERT if found.kind == "tflite" else "Name the model that it was made from.",
        )
    if "FlatBuffer verification failed" in str(error):
        return ModelError(f"{found.path} is damaged or cut off.", _GET_AGAIN)
    said = describe_error(error, -1).rstrip("!.")
    problem = f"{found.path} can't be read as {_NAMES[found.kind]}: {said}."
    if found.kind == "openvino":
        name = found.path.with_suffix(".bin").name
        return ModelError(problem, f"Get it again, and its own {name} beside it.")
    return ModelError(problem, _GET_AGAIN)


def _check_xml(path: Path) -> None:
    """Raises ModelError when it is no XML, when elements lie in each other deeper than a network's,
    and when the .bin beside it is missing or ends before the weights do."""
    from xml.parsers import expat

    depth = needed = 0

    def begin(name: str, attributes: dict[str, str]) -> None:
        nonlocal depth, needed
        depth += 1
        if depth > _DEEPEST:
            raise ModelError(
                f"{path} is nested over {_DEEPEST} deep, which no network is.",
                "Get it from a place that you trust.",
            )
        place = (attributes.get("offset", ""), attributes.get("size", ""))
        if name == "data" and all(re.fullmatch(r"\d{1,20}", number) for number in place):
            needed = max(needed, sum(map(int, place)))

    def end(_: str) -> None:
        nonlocal depth
        depth -= 1

    parser = expat.ParserCreate()
    parser.StartElementHandler, parser.EndElementHandler = begin, end
    try:
        with path.open("rb") as file:
            parser.ParseFile(file)
    except expat.ExpatError as error:
        raise ModelError(f"{path} is broken: {error}.", "Get it again.") from None
    except OSError as error:
        raise ModelError(f"{path} can't be read: {error.strerror}.", "Check it.") from None
    if needed:
        _check_weights(path, needed)


def _check_weights(path: Path, needed: int) -> None:
    weights = path.with_suffix(".bin")
    try:
        there = weights.stat().st_size if weights.is_file() else None
    except OSError:
        there = None
    if there is None:
        raise ModelError(
            f"{weights} is missing, which has the weights of {path.name}.",
            "Put it beside that again: an OpenVINO model is both files.",
        )
    if there < needed:
        raise ModelError(
            f"{weights} is cut off or another model's: it has {there} bytes, and {path.name} tells "
            f"of {needed}.",
            "Get both files again.",
        )
