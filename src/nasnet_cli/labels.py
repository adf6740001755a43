"""Lists of class labels, read from a file or built in.

Label files come in many forms. The content decides which form a file has, and an ambiguous file is
refused: labels that are off by one look like a bad model, not like an error.
"""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from nasnet_cli.errors import NasnetError
from nasnet_cli.kept_files import parse_json, read_kept

_MAX_BYTES = 10_000_000
_EXPECTED = (
    "Expected one label per line, a JSON list, Keras' imagenet_class_index.json, or a CSV or TSV "
    "file with a header of index, wnid and name."
)


@dataclass(frozen=True)
class Label:
    """The label of a class: its WordNet id, like n01440764 or "" if it has none, and its name."""

    wnid: str
    name: str


class _LabelFormatError(Exception):
    """A file's content is not a list of labels. The message continues after the file's name."""


def read_labels(path: str | os.PathLike[str]) -> tuple[Label, ...]:
    """Read the labels in a file, each at the index of its class in the model's output.

    Reads plain text (one label per line, optionally after its wnid or index), JSON (a list of
    names, or an object from index to name or to [wnid, name], as Keras has it), and CSV and TSV
    with a header: the column name or label, optionally index and wnid. UTF-8, with or without a
    byte-order mark, "\\n" or "\\r\\n".

    Raises NasnetError if the file cannot be read, is over 10 MB or not text, or if an index or a
    name in it is missing or occurs twice.
    """
    path = os.fspath(path)
    return parse_labels(_read_text(path), path, Path(path).suffix.lower())


def parse_labels(text: str, source: str, suffix: str = "") -> tuple[Label, ...]:
    """Parse the labels in a text, as read_labels does; errors call it source."""
    try:
        labels = _parse(text, suffix)
    except _LabelFormatError as error:
        raise NasnetError(f"{source} {error}", _EXPECTED) from None
    if not labels:
        raise NasnetError(f"{source} has no labels.", _EXPECTED)
    return tuple(labels)


def lists_folder() -> Path:
    """Return the folder of the package's lists: a wheel has it inside, a checkout beside it."""
    package = Path(__file__).parent
    inside = package / "labels_data"
    return inside if inside.is_dir() else package.parents[1] / "labels"


def builtin_labels(name: str) -> tuple[Label, ...]:
    """Return a list of labels that comes with the package, such as imagenet_1001.

    Raises NasnetError when it is missing or damaged.
    """
    path = lists_folder() / f"{name}.tsv"
    if not path.is_file():
        raise NasnetError(f"The list of labels {path} is missing.", "Install nasnet-cli again.")
    return read_labels(path)


def labels_for(count: int) -> tuple[Label, ...] | None:
    """Return ImageNet's labels for a model of 1000 classes, or 1001 with the background first.

    None for any other count.
    """
    if count not in (1000, 1001):
        return None
    return builtin_labels("imagenet_1001")[1001 - count :]


def check_count(labels: Sequence[Label], count: int, file: str | os.PathLike[str]) -> None:
    """Raise NasnetError unless there are as many labels as the model has classes, count.

    file is where the labels come from, for the message.
    """
    if len(labels) == count:
        return
    remedy = "Use the label file that belongs to the model."
    if (len(labels), count) == (1000, 1001):
        remedy = (
            "The model's first class is the background: insert a line 'background' before the "
            "others, or omit --labels to use ImageNet's own."
        )
    if (len(labels), count) == (1001, 1000):
        remedy = (
            "The model has no background class: remove the first line, which is the background, "
            "or omit --labels to use ImageNet's own."
        )
    raise NasnetError(
        f"{os.fspath(file)} has {len(labels)} labels, but the model has {count} classes.", remedy
    )


def digest(labels: Sequence[Label]) -> str:
    """Return the SHA-256 of a list of labels, in hexadecimal."""
    import hashlib

    text = "\n".join(f"{label.wnid}\t{label.name}" for label in labels)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _read_text(path: str) -> str:
    try:
        data = read_kept(Path(path), follow=True, max_bytes=_MAX_BYTES)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise NasnetError(
            f"Cannot read the labels in {path}: {reason}.", "Check the path after --labels."
        ) from error
    except ValueError:
        message = f"{path} is over 10 MB, too large for a list of labels."
        raise NasnetError(message, _EXPECTED) from None
    if b"\0" in data:
        raise NasnetError(f"{path} is not text, or not UTF-8.", "Save it as UTF-8 text.")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise NasnetError(
            f"{path} is not UTF-8 text (see line {line}).", "Save it as UTF-8 text."
        ) from None


def _parse(text: str, suffix: str) -> list[Label]:
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
    if repeated := {name for name in header if name and header.count(name) > 1}:
        raise _LabelFormatError(f"has two columns {min(repeated)!r}.")
    rows = csv.reader(
        io.StringIO(text, newline=""),
        delimiter=delimiter,
        quoting=csv.QUOTE_NONE if delimiter == "\t" else csv.QUOTE_MINIMAL,
    )
    name_column = header.index("name" if "name" in header else "label")
    labels: list[tuple[str, Label]] = []
    try:
        next(rows)
        for row in filter(None, rows):
            if len(row) != len(header):
                raise _LabelFormatError(
                    f"has {len(row)} columns in line {rows.line_num}, not {len(header)}."
                )
            cells = dict(zip(header, map(str.strip, row), strict=True))
            label = _label(cells.get("wnid", ""), row[name_column], f"line {rows.line_num}")
            labels.append((cells.get("index", str(len(labels))), label))
    except csv.Error as error:
        raise _LabelFormatError(f"is not a table in line {rows.line_num}: {error}.") from None
    return _in_order(labels)


def _from_json(text: str) -> list[Label]:
    try:
        # As pairs, because json silently takes the last of two equal keys.
        data = parse_json(text, _Pairs)
    except ValueError as error:
        raise _LabelFormatError(f"is not valid JSON: {str(error).lower()}.") from None
    if isinstance(data, _Pairs):
        return _in_order((key, _json_label(value, f"index {key}")) for key, value in data.pairs)
    if isinstance(data, list):
        return [_json_label(value, f"entry {index}") for index, value in enumerate(data)]
    raise _LabelFormatError("is JSON, but neither a list nor an object.")


@dataclass(frozen=True)
class _Pairs:
    """A JSON object as written, with repeated keys."""

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
    # An empty line among the others may be a class without a name or not a class at all.
    if "" in lines:
        raise _LabelFormatError(f"has an empty line between labels, line {lines.index('') + 1}.")
    numbered = _match_all(r"(\d{1,9})\s*[\s:,]\s*(.+)", lines)
    if numbered and {int(number) for number, _ in numbered} == set(range(len(lines))):
        return _in_order((number, Label("", name)) for number, name in numbered)
    # A list with wnids may begin with a background that has none.
    for bare in (0, 1):
        if pairs := _match_all(r"(n\d{8})\s*[\s:,]\s*(.+)", lines[bare:]):
            return [Label("", name) for name in lines[:bare]] + [Label(*pair) for pair in pairs]
    return [Label("", line) for line in lines]


def _match_all(pattern: str, lines: list[str]) -> list[tuple[str, str]]:
    """Return the two groups of the pattern in each line, or nothing unless all lines match."""
    matches = [match for line in lines if (match := re.fullmatch(pattern, line, re.ASCII))]
    return [(match[1], match[2]) for match in matches] if len(matches) == len(lines) else []


def _label(wnid: str, name: str, where: str) -> Label:
    if not name.strip():
        raise _LabelFormatError(f"has no name at {where}.")
    return Label(wnid.strip(), name.strip())


def _in_order(indexed: Iterable[tuple[str, Label]]) -> list[Label]:
    """Return labels in the order of their indices, which must be 0, 1, 2 and so on."""
    labels: dict[int, Label] = {}
    for index, label in indexed:
        if not re.fullmatch(r"[0-9]{1,9}", index):
            raise _LabelFormatError(f"has {index!r} in place of an index (0, 1, 2, …).")
        if int(index) in labels:
            raise _LabelFormatError(f"has index {int(index)} twice.")
        labels[int(index)] = label
    for expected in range(len(labels)):
        if expected not in labels:
            raise _LabelFormatError(f"has no index {expected}, but {len(labels)} labels.")
    return [labels[index] for index in range(len(labels))]
