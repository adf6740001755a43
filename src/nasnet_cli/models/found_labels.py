"""Labels of other makers' models: in a text that a file holds, or in a file beside it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from nasnet_cli.errors import NasnetError
from nasnet_cli.labels import Label, parse_labels, read_labels
from nasnet_cli.models.card import Labels

_LITERAL_LIMIT = 2**20


def labels_beside(path: Path, count: int | None) -> tuple[Labels, str] | None:
    """Return the labels in a file beside a model, and the file's name; None if none fits.

    It is called labels.txt or labels.tsv, or ends in _labels.txt, and has a label for each of count
    classes. A name that begins with the model's has precedence. For a folder, the files in it come
    before those beside it.
    """
    if not count:
        return None
    for file in files_beside(path):
        try:
            labels = read_labels(file)
        except NasnetError:  # somebody else's
            continue
        if len(labels) == count:
            return labels, file.name
    return None


def labels_in(text: str, count: int | None) -> Labels | None:
    """Return the labels in a model's metadata: lines, JSON or Python's dict; None if none fits."""
    for parsed in _parsed(text):
        if count is None or len(parsed) == count:
            return parsed
    return None


def files_beside(path: Path) -> Iterator[Path]:
    """Yield the files that may hold the labels of a model, the most likely first."""
    stem = path.stem
    folders = [path, path.parent] if path.is_dir() else [path.parent]
    names = [f"{stem}_labels.txt", f"{stem}.labels.tsv", f"{path.name}.labels.tsv"]
    names += ["labels.txt", "labels.tsv"]
    for folder in folders:
        yield from (folder / name for name in names if (folder / name).is_file())
        others = sorted(folder.glob("*_labels.txt"))
        # Of several, none is known to be this model's.
        yield from others if len(others) == 1 else ()


def _parsed(text: str) -> Iterator[Labels]:
    readings: Iterable[str] = [text]
    if "\n" not in text.strip() and "," in text and text.strip()[:1] not in "[{":
        readings = ["\n".join(part.strip() for part in text.split(","))]
    for reading in readings:
        with suppress(NasnetError):
            yield parse_labels(reading, "metadata")
    if text.lstrip()[:1] in ("{", "[") and len(text) < _LITERAL_LIMIT:
        try:  # as str() writes it
            value = ast.literal_eval(text.strip())
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            return
        if isinstance(value, dict) and set(value) == set(range(len(value))):
            value = [value[i] for i in range(len(value))]
        if isinstance(value, list) and value and all(isinstance(name, str) for name in value):
            yield tuple(Label("", re.sub(r"\s+", " ", name).strip()) for name in value)
