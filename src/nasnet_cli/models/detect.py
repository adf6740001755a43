"""Tells what a file or folder is by its content, whatever it is called."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from nasnet_cli.errors import ModelError
from nasnet_cli.models.formats.onnx import is_onnx

Kind = Literal["saved-model", "slim", "archive", "keras", "onnx", "tflite", "openvino"]

READABLE_MODELS = (
    "a module's folder (saved_model.pb), a .tar.gz of one, a TF-Slim checkpoint (model.ckpt.index "
    "beside its data), a Keras .h5 or .keras, an .onnx, a .tflite, an OpenVINO .xml"
)
RUNTIME_FILES: tuple[Kind, ...] = ("onnx", "tflite", "openvino")
"""Files that a runtime reads as they are."""

_SAVED_MODEL = ("saved_model.pb", "saved_model.pbtxt", "saved_model.cpb")
_TABLE_END = bytes.fromhex("57fb808b247547db")
_GZIP = b"\x1f\x8b"
_HDF5 = b"\x89HDF\r\n\x1a\n"
_DATA = re.compile(r"(.+)\.data-\d{5}-of-\d{5}")
_DEPTH = 3


_CALLED = {
    ".onnx": "an ONNX file",
    ".tflite": "a TFLite file",
    ".xml": "an OpenVINO file",
    ".h5": "a Keras file",
    ".keras": "a Keras file",
    ".gz": "an archive",
    ".tgz": "an archive",
    ".index": "a checkpoint's index",
}


@dataclass(frozen=True)
class DetectedModel:
    """What was recognised. For slim path is the checkpoint's prefix, else the file or folder."""

    kind: Kind
    path: Path


def detect(path: Path) -> DetectedModel | None:
    """What path is, None when it is nothing that is known.

    path may also be a checkpoint's prefix, for which there is no file of its own. Raises
    ModelError when a folder has several checkpoints, and OSError when it can't be read.
    """
    if path.is_dir():
        return _folder(path)
    if path.is_file():
        return _file(path)
    if _is_index(index := path.with_name(path.name + ".index")):
        return DetectedModel("slim", index.with_suffix(""))
    return None


def unrecognized(path: Path, shown: str) -> ModelError:
    """What to say of a file or folder that detect knows nothing of, which is called shown."""
    what = "folder" if path.is_dir() else "file"
    unknown = ModelError(
        f"The {what} {shown} is no model that is known.", f"What was looked for: {READABLE_MODELS}."
    )
    if not path.is_file():  # nor is a pipe opened, which would wait for somebody to write
        return unknown
    with path.open("rb") as file:
        head = file.read(256).lstrip().lower()
    if not path.stat().st_size:
        return ModelError(f"{shown} is empty.", "Get it again, whole.")
    if head.startswith((b"<!doctype html", b"<html")):
        return ModelError(f"{shown} is a web page, no model.", "Get the file itself.")
    network = path.with_suffix(".xml")
    if path.suffix == ".bin" and network.is_file():
        return ModelError(
            f"{shown} is only the weights of {network.name}.", f"Name {network.name} instead."
        )
    if called := _CALLED.get(path.suffix.lower()):
        problem = f"{shown} is called like {called}, but is none, or is damaged or cut off."
        return ModelError(problem, "Get it again, whole.")
    return unknown


def search(folder: Path) -> DetectedModel | None:
    """What an unpacked archive holds: in the folder itself, or in one further down.

    Raises ModelError when there are several.
    """
    found = [thing for place in _below(folder, _DEPTH) if (thing := _folder(place))]
    if len(found) > 1:
        names = ", ".join(str(thing.path.relative_to(folder)) for thing in found[:5])
        raise ModelError(
            f"There are {len(found)} models in it: {names}.", "Unpack it, and name one of them."
        )
    return found[0] if found else None


def _folder(folder: Path) -> DetectedModel | None:
    if any((folder / name).exists() for name in _SAVED_MODEL):
        return DetectedModel("saved-model", folder)
    prefixes = [path.with_suffix("") for path in sorted(folder.glob("*.index")) if _is_index(path)]
    if len(prefixes) > 1:
        latest = _latest(folder)
        prefixes = [prefix for prefix in prefixes if prefix.name == latest] or prefixes
    if len(prefixes) > 1:
        names = ", ".join(prefix.name for prefix in prefixes[:5])
        raise ModelError(
            f"{folder} has {len(prefixes)} checkpoints: {names}.",
            f"Name one of them, as in {prefixes[-1]}.",
        )
    return DetectedModel("slim", prefixes[0]) if prefixes else None


def _latest(folder: Path) -> str | None:
    """The name of the checkpoint that TensorFlow's state file calls the latest."""
    try:
        text = (folder / "checkpoint").read_text(errors="replace")
    except OSError:
        return None
    said = re.search(r'^model_checkpoint_path: "(.*)"', text, re.MULTILINE)
    return Path(said[1]).name if said else None


def _file(path: Path) -> DetectedModel | None:
    with path.open("rb") as file:
        head = file.read(4096)
    if path.name in _SAVED_MODEL:
        return DetectedModel("saved-model", path.parent)
    if head.startswith(_GZIP) or head[257:262] == b"ustar":
        return DetectedModel("archive", path)
    if head.startswith(_HDF5) or (head.startswith(b"PK\3\4") and _is_keras(path)):
        return DetectedModel("keras", path)
    if head[4:8] == b"TFL3":
        return DetectedModel("tflite", path)
    if re.match(rb"(\xef\xbb\xbf)?\s*(<\?xml[^>]*>\s*)?<net\s", head):
        return DetectedModel("openvino", path)
    if _is_index(path):
        return DetectedModel("slim", path.with_suffix(""))
    data = _DATA.fullmatch(path.name)
    if data and _is_index(path.with_name(data[1] + ".index")):
        return DetectedModel("slim", path.with_name(data[1]))
    return DetectedModel("onnx", path) if is_onnx(path) else None


def _is_index(path: Path) -> bool:
    """Whether it ends as a checkpoint's index does (LevelDB's table)."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - len(_TABLE_END)))
            return path.suffix == ".index" and file.read() == _TABLE_END
    except OSError:
        return False


def _is_keras(path: Path) -> bool:
    import zipfile

    try:
        with zipfile.ZipFile(path) as archive:
            return "model.weights.h5" in archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError):
        return False


def _below(folder: Path, depth: int) -> Iterator[Path]:
    """The folder and those in it; what is in a module is not looked at."""
    yield folder
    if depth and not any((folder / name).exists() for name in _SAVED_MODEL):
        for path in sorted(folder.iterdir()):
            if path.is_dir() and not path.is_symlink():
                yield from _below(path, depth - 1)
