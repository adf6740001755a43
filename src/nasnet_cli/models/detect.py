"""Recognition of models by their content, whatever they are called."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from nasnet_cli.errors import ModelError
from nasnet_cli.models.files import reading
from nasnet_cli.models.formats.base import HEAD_BYTES, DetectedModel, Format
from nasnet_cli.models.formats.saved_model import FILES
from nasnet_cli.models.formats.table import FORMATS
from nasnet_cli.models.refusals import check_not_pointers, named_refusal

_GZIP = b"\x1f\x8b"
_DEPTH = 3


class Archive(Format):
    """A .tar.gz, which holds a model in some other format."""

    name = "archive"
    title = "an archive"
    suffixes = (".gz", ".tgz")

    def detect(self, path: Path, head: bytes | None) -> Path | None:
        is_archive = head is not None and (head.startswith(_GZIP) or head[257:262] == b"ustar")
        return path if is_archive else None


class MissingModelError(ModelError):
    """Nothing is at a path."""


ARCHIVE = Archive()


def detect(path: Path) -> DetectedModel | None:
    """Return the model at path, None when it is in no known format.

    path may also be a checkpoint's prefix, for which there is no file of its own. Raises
    ModelError when a folder has several checkpoints, and OSError when it cannot be read.
    """
    head = None
    if path.is_file():
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
    for entry in chain((ARCHIVE,), FORMATS.values()):  # each is imported when the others don't fit
        if (place := entry.detect(path, head)) is not None:
            return DetectedModel(entry, place)
    return None


def _detect_within(folder: Path) -> DetectedModel | None:
    """Return the model in a folder: TensorFlow Serving's latest version, or the only file.

    Raises ModelError when there are several files, and OSError when it cannot be read.
    """
    entries = sorted(folder.iterdir())
    versions = [e for e in entries if re.fullmatch(r"[0-9]{1,18}", e.name) and e.is_dir()]
    for version in sorted(versions, key=lambda entry: int(entry.name), reverse=True):
        if (found := detect(version)) is not None:
            return found
    suffixes = tuple(suffix for entry in FORMATS.values() for suffix in entry.suffixes)
    files = [e for e in entries if e.name.lower().endswith(suffixes) and e.is_file()]
    models = [found for file in files if (found := detect(file)) is not None]
    if len(models) > 1:
        names = ", ".join(model.path.name for model in models[:5])
        raise ModelError(f"{folder} has {len(models)} models: {names}.", "Name one of them.")
    return models[0] if models else None


def identify(path: Path, shown: str) -> DetectedModel:
    """Return the model at path.

    Raises ModelError, which calls it shown, when there is none.
    """
    with reading(shown):
        detected = detect(path)
        if detected is None and path.is_dir():
            detected = _detect_within(path)
        if detected is not None:
            check_not_pointers(_main_files(detected), shown)
        if detected is None and not path.exists():
            raise MissingModelError(
                f"There is no model {shown!r}: no such name, file or folder.", "Check the path."
            )
        if detected is None:
            raise _unrecognized(path, shown)
    return detected


def _main_files(detected: DetectedModel) -> list[Path]:
    if detected.path.is_dir():
        return [detected.path / FILES[0], *detected.path.glob("variables/*")]
    return list(detected.format.files(detected.path).values())


def search(folder: Path, shown: str) -> DetectedModel:
    """Return the model in an unpacked archive, which errors call shown.

    It lies in the folder itself, or in one further down. Raises ModelError when there is none, or
    more than one.
    """
    models = [model for place in _subfolders(folder, _DEPTH) if (model := detect(place))]
    if not models:
        raise ModelError(f"The archive {shown} holds no model.", f"Expected one of: {_expected()}.")
    if len(models) > 1:
        names = ", ".join(str(model.path.relative_to(folder)) for model in models[:5])
        raise ModelError(
            f"There are {len(models)} models in it: {names}.", "Unpack it, and name one of them."
        )
    return models[0]


def _expected() -> str:
    texts = [entry.expected for entry in FORMATS.values()]
    # Both formats of modules look the same.
    return ", ".join([*dict.fromkeys(texts), "or a .tar.gz of one"])


def _unrecognized(path: Path, shown: str) -> ModelError:
    kind = "folder" if path.is_dir() else "file"
    unknown = ModelError(
        f"The {kind} {shown} is not a model nasnet can read.", f"Expected one of: {_expected()}."
    )
    if path.is_dir():
        return named_refusal(path, b"", shown) or unknown
    if not path.is_file():  # opening a pipe would wait for somebody to write
        return unknown
    check_not_pointers([path], shown)
    with path.open("rb") as file:
        raw = file.read(HEAD_BYTES)
    head = raw[:256].lstrip().lower()
    if refusal := named_refusal(path, raw, shown):
        return refusal
    if not path.stat().st_size:
        return ModelError(f"{shown} is empty.", "Get it again, whole.")
    if head.startswith((b"<!doctype html", b"<html")):
        return ModelError(f"{shown} is a web page, not a model.", "Get the file itself.")
    network = path.with_suffix(".xml")
    if path.suffix == ".bin" and network.is_file():
        return ModelError(
            f"{shown} is only the weights of {network.name}.", f"Name {network.name} instead."
        )
    for entry in (ARCHIVE, *FORMATS.values()):
        if path.suffix.lower() in entry.suffixes:
            problem = f"{shown} is named like {entry.title}, but is not one, or is damaged."
            return ModelError(problem, "Get it again, whole.")
    return unknown


def _subfolders(folder: Path, depth: int) -> Iterator[Path]:
    """Yield the folder and those below it, except for the inside of a module."""
    yield folder
    if depth and not any((folder / name).exists() for name in FILES):
        for path in sorted(folder.iterdir()):
            if path.is_dir() and not path.is_symlink():
                yield from _subfolders(path, depth - 1)
