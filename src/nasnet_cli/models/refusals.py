"""Files that are no models nasnet reads, but that can be named for what they are."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from nasnet_cli.errors import ModelError

_LFS = b"version https://git-lfs.github.com/spec/"
_LFS_LARGEST = 1024
_TFJS = (b'"modeltopology"', b'"weightsmanifest"')
_TFJS_WEIGHTS = re.compile(r"group\d+-shard\d+of\d+(\.bin)?")
# The first node of a GraphDef: its name and its operation.
_FROZEN = re.compile(rb"\n[\x01-\xff]{1,5}?\n.[\w./-]+\x12.(Placeholder|Const|[A-Z]\w+)", re.DOTALL)
_TO_ONNX = "Export it to ONNX where it was made, and name that file."
_BY_SUFFIX = {
    ".pt": "a PyTorch file",
    ".pth": "a PyTorch file",
    ".ckpt": "a PyTorch file",
    ".safetensors": "a safetensors file, which has weights and no network",
    ".mlmodel": "a Core ML file",
    ".mlpackage": "a Core ML model",
    ".caffemodel": "a Caffe file",
    ".pdmodel": "a PaddlePaddle file",
    ".engine": "a TensorRT file",
}


def check_not_pointers(files: Iterable[Path], shown: str) -> None:
    """Raise ModelError when one of a model's files is Git LFS' pointer to it."""
    for file in files:
        if file.is_file() and file.stat().st_size <= _LFS_LARGEST:
            with file.open("rb") as opened:
                if opened.read(len(_LFS)) == _LFS:
                    name = shown if shown.endswith(file.name) else f"{file.name} of {shown}"
                    raise ModelError(
                        f"{name} is only a Git LFS pointer to the file.",
                        "Fetch it: git lfs pull.",
                    )


def named_refusal(path: Path, head: bytes, shown: str) -> ModelError | None:
    """Return the error for a file, or a folder (whose head is empty), of a kind that is known."""
    if path.is_dir():
        model = path / "model.json"
        if model.is_file() and model.stat().st_size:
            with model.open("rb") as file:
                head = file.read(4096)
    start = head.lower()
    if any(key in start for key in _TFJS) or _TFJS_WEIGHTS.fullmatch(path.name):
        return ModelError(
            f"{shown} is a TensorFlow.js model, which nasnet does not read.",
            "Name the SavedModel or Keras file that it was made from.",
        )
    if path.suffix == ".pb" and _FROZEN.match(head):
        return ModelError(
            f"{shown} is a frozen TensorFlow graph, which has no signatures.",
            "Name the SavedModel that it was made from, or convert it to ONNX with tf2onnx.",
        )
    if kind := _BY_SUFFIX.get(path.suffix.lower()):
        return ModelError(f"{shown} is {kind}, which nasnet does not read.", _TO_ONNX)
    return None
