"""Sources of true classes: a folder for each class, or a CSV file of paths and labels."""

# Paths stay the strings that results have: Path would turn "a/./b" into "a/b".
# ruff: noqa: PTH118

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from nasnet_cli.errors import NasnetError, describe_error
from nasnet_cli.images.formats import has_image_suffix
from nasnet_cli.images.selection import Selection
from nasnet_cli.results.text import shortened
from nasnet_cli.systems import with_slashes

_DELIMITERS = ",;\t"
_EXPECTED = "Name a CSV file whose header has the columns path and label."


@dataclass(frozen=True)
class ClassFolders:
    """A folder with a subfolder for each class, whose names are sorted by their bytes.

    loose counts the images beside the subfolders, which have no class.
    """

    folder: str
    names: tuple[str, ...]
    loose: int

    def path(self, name: str) -> str:
        """Return the path of a class's folder."""
        return os.path.join(self.folder, name)

    def name_of(self, path: str) -> str:
        """Return the name of the subfolder that an image lies in, however deep."""
        below = path.removeprefix(os.path.join(self.folder, ""))
        return with_slashes(below).partition("/")[0]


def class_folders(folder: str) -> ClassFolders:
    """Look into a folder of classes. Raises NasnetError when it has none or cannot be read."""
    selection = Selection()
    names, loose = [], 0
    try:
        for entry in os.scandir(folder):
            is_folder = entry.is_dir()
            if selection.reason(entry.name, is_folder=is_folder):
                continue
            if is_folder:
                names.append(entry.name)
            else:
                loose += has_image_suffix(entry.name)
    except OSError as error:
        reason = (error.strerror or describe_error(error)).lower()
        raise NasnetError(f"Cannot read {folder}: {reason}.", "Name another folder.") from error
    if not names:
        raise NasnetError(
            f"{folder} has no folders of classes.",
            "Make one for each class, named after its label, with its images; or name a CSV file.",
        )
    return ClassFolders(folder, tuple(sorted(names, key=os.fsencode)), loose)


def is_label_table(path: str) -> bool:
    """Return whether a file is meant as a CSV file of paths and labels, not as results.

    A pipe, which can be read once only, is not.
    """
    if not os.path.isfile(path):  # noqa: PTH113
        return False
    try:
        with open(path, "rb") as file:  # noqa: PTH123
            first = file.readline(1 << 16).decode("utf-8-sig", "replace")
    except OSError:
        return False
    header = _header(first)[1]
    is_table = {"path", "label"} & set(header) or path.lower().endswith((".csv", ".tsv"))
    return bool(is_table) and "status" not in header


def read_label_table(path: str, locate: Callable[[str], str]) -> dict[str, str]:
    """Read the label of each path from a CSV file with these columns, in its order.

    Paths are as locate returns them. Raises NasnetError when it is no such file, or gives a path
    two labels.
    """
    labels, seen = dict[str, str](), dict[str, str]()
    try:
        with open(path, encoding="utf-8-sig", newline="", errors="surrogateescape") as file:  # noqa: PTH123
            for number, line in _rows(file):
                name, label = locate(line["path"]), line["label"].strip()
                labels[name] = label
                if (other := seen.setdefault(os.path.normpath(name), label)) != label:
                    raise NasnetError(
                        f"{path} gives {line['path']} two labels, {other!r} and {label!r} in line "
                        f"{number}.",
                        "Remove one of them.",
                    )
    except OSError as error:
        reason = (error.strerror or describe_error(error)).lower()
        raise NasnetError(f"Cannot read {path}: {reason}.", _EXPECTED) from error
    except (ValueError, csv.Error) as error:
        raise NasnetError(f"{path} is not a table: {describe_error(error)}.", _EXPECTED) from error
    if not labels:
        raise NasnetError(f"{path} has no rows.", _EXPECTED)
    return labels


def _rows(file: Iterator[str]) -> Iterator[tuple[int, Mapping[str, str]]]:
    delimiter, header = _header(next(file, ""))
    for name in ("path", "label"):
        if header.count(name) != 1:
            what = "several columns" if name in header else "no column"
            raise ValueError(f"its header has {what} {name}")
    reader = csv.reader(file, delimiter=delimiter, strict=True)
    for cells in reader:
        number = reader.line_num + 1
        if not cells:
            continue
        if len(cells) != len(header):
            raise ValueError(f"line {number} has {len(cells)} columns, not {len(header)}")
        yield number, dict(zip(header, cells, strict=True))


def _header(line: str) -> tuple[str, list[str]]:
    delimiter = max(_DELIMITERS, key=line.count)
    return delimiter, [name.strip().strip('"').lower() for name in line.split(delimiter)]


def folder_name(path: str) -> str:
    """Return the name of the folder that an image lies in; "" for none."""
    return with_slashes(path).rpartition("/")[0].rpartition("/")[2]


def reasons(unmatched: Mapping[str, str], most: int = 8) -> str:
    """Return a sentence's part that names what stands for no class, and why."""
    listed = [f"{name or '(no name)'!r} {reason}" for name, reason in unmatched.items()]
    return shortened(listed, most, "; ")
