"""What the classes of a model are called.

Label files come in many forms. Which one a file has is told from its content, and a file that
leaves any doubt is refused: labels that are off by one look like a bad model, not like an error.
"""

from __future__ import annotations

import csv
import io
import json
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from nasnet_cli.errors import NasnetError

_MAX_BYTES = 10_000_000
_FORMS = (
    "Give one label per line, a JSON list, Keras' imagenet_class_index.json, "
    "or a CSV or TSV with a header that names index, wnid and name."
)


@dataclass(frozen=True)
class Label:
    """A class: its WordNet id ("" where the list has none, else like n01440764) and its name."""

    wnid: str
    name: str


class _LabelFormatError(Exception):
    """Why a file's content is no list of labels; the words that follow its name."""


def read_labels(path: str | os.PathLike[str]) -> tuple[Label, ...]:
    """The labels in a file, each at the index of its class in the model's output.

    Reads plain text (a label a line, with or without its wnid or its index before it), JSON (a
    list of names; an object from index to name, or to [wnid, name] as Keras has it), CSV and TSV
    with a header that names the columns name or label, and maybe index and wnid. UTF-8, with or
    without a byte-order mark, "\\n" or "\\r\\n".

    Raises NasnetError if the file cannot be read, is over 10 MB, is no text, or if an index or a
    name in it is missing or there twice.
    """
    shown = os.fspath(path)
    text = _text_of(shown)
    try:
        labels = _parsed(text, Path(shown).suffix.lower())
    except _LabelFormatError as reason:
        raise NasnetError(f"{shown} {reason}", _FORMS) from None
    if not labels:
        raise NasnetError(f"{shown} holds no labels.", _FORMS)
    return tuple(labels)


def builtin_labels(name: str) -> tuple[Label, ...]:
    """The labels of a list that comes with the package, by its name: imagenet_1001.

    Raises NasnetError if there is no such list.
    """
    from importlib import resources  # takes a while, and `nasnet --help` needs no labels

    # A wheel has the lists inside of the package; a checkout has them where they are kept.
    folders = [resources.files("nasnet_cli") / "labels_data", Path(__file__).parents[2] / "labels"]
    folder = next((place for place in folders if place.is_dir()), None)
    lists = {entry.name: entry for entry in folder.iterdir()} if folder else {}
    if f"{name}.tsv" not in lists:
        known = sorted(entry.removesuffix(".tsv") for entry in lists if entry.endswith(".tsv"))
        there = f"There are: {', '.join(known)}." if known else "Install nasnet-cli again."
        raise NasnetError(f"There is no built-in list of labels {name!r}.", there)
    with resources.as_file(lists[f"{name}.tsv"]) as file:
        return read_labels(file)


def labels_for(count: int) -> tuple[Label, ...] | None:
    """ImageNet's labels for a model of 1001 classes, the first of them the background, or 1000
    without it; None for any other count."""
    if count not in (1000, 1001):
        return None
    return builtin_labels("imagenet_1001")[1001 - count :]


def check_count(labels: Sequence[Label], count: int, file: str | os.PathLike[str]) -> None:
    """Raises NasnetError unless there are as many labels as the model has classes (count).

    file is where the labels are from, for the message.
    """
    if len(labels) == count:
        return
    remedy = "Give the label file that belongs to the model."
    if (len(labels), count) == (1000, 1001):
        remedy = (
            "The model's first class is the background: put a line 'background' before the "
            "others, or leave --labels out for ImageNet's own."
        )
    if (len(labels), count) == (1001, 1000):
        remedy = (
            "The model has no background class: take the line of the background, the first, out, "
            "or leave --labels out for ImageNet's own."
        )
    raise NasnetError(
        f"{os.fspath(file)} has {len(labels)} labels, but the model has {count} classes.", remedy
    )


def _text_of(shown: str) -> str:
    try:
        with Path(shown).open("rb") as file:
            raw = file.read(_MAX_BYTES + 1)
    except OSError as error:
        reason = (error.strerror or "it cannot be read").lower()
        raise NasnetError(
            f"Cannot read the labels in {shown}: {reason}.", "Check the name after --labels."
        ) from error
    if len(raw) > _MAX_BYTES:
        raise NasnetError(f"{shown} is over 10 MB, too large for a list of labels.", _FORMS)
    if b"\0" in raw:
        raise NasnetError(f"{shown} is not text, or not in UTF-8.", "Save it as UTF-8 text.")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise NasnetError(
            f"{shown} is not UTF-8 text (see line {line}).", "Save it as UTF-8 text."
        ) from None


def _parsed(text: str, suffix: str) -> list[Label]:
    ends = text.strip()[:1] + text.strip()[-1:]
    if suffix == ".json" or ends in ("[]", "{}"):
        return _from_json(text)
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    for delimiter in "\t,;":
        header = [name.strip().strip('"').lower() for name in lines[0].split(delimiter)]
        if _is_header(header, suffix):
            return _from_table(text, header, delimiter)
    if suffix in (".csv", ".tsv"):
        raise _LabelFormatError("has no header line with a column 'name' or 'label'.")
    return _from_lines(lines)


def _is_header(header: list[str], suffix: str) -> bool:
    if not {"name", "label"} & set(header):
        return False
    return bool({"index", "wnid"} & set(header)) or suffix in (".csv", ".tsv")


def _from_table(text: str, header: list[str], delimiter: str) -> list[Label]:
    if twice := {name for name in header if name and header.count(name) > 1}:
        raise _LabelFormatError(f"has two columns {min(twice)!r}.")
    rows = csv.reader(
        io.StringIO(text, newline=""),
        delimiter=delimiter,
        quoting=csv.QUOTE_NONE if delimiter == "\t" else csv.QUOTE_MINIMAL,
    )
    name_column = header.index("name" if "name" in header else "label")
    found: list[tuple[str, Label]] = []
    try:
        next(rows)
        for row in filter(None, rows):
            if len(row) != len(header):
                raise _LabelFormatError(
                    f"has {len(row)} columns in line {rows.line_num}, not {len(header)}."
                )
            cells = dict(zip(header, map(str.strip, row), strict=True))
            label = _label(cells.get("wnid", ""), row[name_column], f"line {rows.line_num}")
            found.append((cells.get("index", str(len(found))), label))
    except csv.Error as error:
        raise _LabelFormatError(f"is not a table in line {rows.line_num}: {error}.") from None
    return _by_index(found)


def _from_json(text: str) -> list[Label]:
    try:
        # Pairs, because json would silently take the last of two equal keys.
        data = json.loads(text, object_pairs_hook=_Pairs)
    except (ValueError, RecursionError) as error:
        raise _LabelFormatError(f"is not valid JSON: {str(error).lower()}.") from None
    if isinstance(data, _Pairs):
        return _by_index((key, _json_label(value, f"index {key}")) for key, value in data.pairs)
    if isinstance(data, list):
        return [_json_label(value, f"entry {index}") for index, value in enumerate(data)]
    raise _LabelFormatError("is JSON, but neither a list nor an object.")


@dataclass(frozen=True)
class _Pairs:
    """A JSON object as it is written."""

    pairs: list[tuple[str, object]]


def _json_label(value: object, where: str) -> Label:
    match value:
        case str(name):
            return _label("", name, where)
        case [str(wnid), str(name)]:
            return _label(wnid, name, where)
    raise _LabelFormatError(f"has neither a name nor [wnid, name] at {where}.")


def _from_lines(lines: list[str]) -> list[Label]:
    lines = [line.strip() for line in lines]
    while lines and not lines[-1]:
        lines.pop()
    # An empty line among the others may be a class without a name or no class at all.
    if "" in lines:
        raise _LabelFormatError(f"is empty in line {lines.index('') + 1}, between labels.")
    numbered = _matches(r"(\d{1,9})\s*[\s:,]\s*(.+)", lines)
    if numbered and {int(number) for number, _ in numbered} == set(range(len(lines))):
        return _by_index((number, Label("", name)) for number, name in numbered)
    # A list with wnids may begin with a background that has none.
    for bare in (0, 1):
        if pairs := _matches(r"(n\d{8})\s*[\s:,]\s*(.+)", lines[bare:]):
            return [Label("", name) for name in lines[:bare]] + [Label(*pair) for pair in pairs]
    return [Label("", line) for line in lines]


def _matches(pattern: str, lines: list[str]) -> list[tuple[str, str]]:
    """The two groups of the pattern in each line, or nothing unless all lines match."""
    found = [match for line in lines if (match := re.fullmatch(pattern, line, re.ASCII))]
    return [(match[1], match[2]) for match in found] if len(found) == len(lines) else []


def _label(wnid: str, name: str, where: str) -> Label:
    if not name.strip():
        raise _LabelFormatError(f"has no name at {where}.")
    return Label(wnid.strip(), name.strip())


def _by_index(found: Iterable[tuple[str, Label]]) -> list[Label]:
    labels: dict[int, Label] = {}
    for written, label in found:
        if not re.fullmatch(r"[0-9]{1,9}", written):
            raise _LabelFormatError(f"has {written!r} where an index (0, 1, 2, …) belongs.")
        if int(written) in labels:
            raise _LabelFormatError(f"has index {int(written)} twice.")
        labels[int(written)] = label
    for index in range(len(labels)):
        if index not in labels:
            raise _LabelFormatError(f"has no index {index}, but {len(labels)} labels.")
    return [labels[index] for index in range(len(labels))]
