"""Entries of a report, one an image: from labels, groups of near-duplicates or an evaluation."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from nasnet_cli.errors import NasnetError
from nasnet_cli.kept_files import parse_json
from nasnet_cli.results.reading import GROUPS_HEAD, LabelFile
from nasnet_cli.results.records import (
    Classified,
    recorded_path,
    recorded_prediction,
    recorded_text,
)


@dataclass(frozen=True, slots=True)
class Grouped:
    """The place of an image in a group of near-duplicates, as nasnet duplicates wrote it.

    group counts from 1; similarity is a cosine; role is keep, duplicate and so on, empty in groups
    of earlier versions.
    """

    group: int
    similarity: float
    role: str = ""


@dataclass(frozen=True, slots=True)
class Entry:
    """An image of the report: a row with labels or an error, or a member of a group.

    true_class is what the image shows where its label is a mistake, else empty.
    """

    row: Classified
    grouped: Grouped | None = None
    true_class: str = ""


def has_groups(file: LabelFile) -> bool:
    """Return whether a file holds the groups of nasnet duplicates."""
    if file.format == "csv":
        return file.first_line.startswith(GROUPS_HEAD)
    try:
        if file.format == "jsonl":
            first = parse_json(file.first_line)
            return "group" in first and "members" in first
        return file.format == "json" and "groups" in file.document
    except ValueError:
        return False  # rows() says what is wrong with it


def read_entries(file: LabelFile) -> Iterator[Entry]:
    """Yield the entries of labels, groups or an evaluation's mistakes, in order.

    Raises NasnetError.
    """
    with file.errors():
        if has_groups(file):
            yield from _members(file)
        elif file.format == "json" and "mistakes" in file.document:
            yield from _mistakes(file)
        else:
            yield from map(Entry, file.rows())


def _members(file: LabelFile) -> Iterator[Entry]:
    for number, member in _grouped(file):
        grouped = Grouped(number, float(member["similarity"]), str(member.get("role", "")))
        yield Entry(Classified(recorded_path(member), ()), grouped)


def _grouped(file: LabelFile) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Yield the members of groups, each with the number of its group."""
    if file.format == "csv":
        for row in csv.DictReader(file.text_lines(), strict=True):
            yield int(row["group"]), row
        return
    lines = (parse_json(line) for line in file.lines() if line.strip())
    for group in file.document["groups"] if file.format == "json" else lines:
        for member in group["members"]:
            yield int(group["group"]), member


def _mistakes(file: LabelFile) -> Iterator[Entry]:
    if not file.document["mistakes"]:
        raise NasnetError(
            f"{file.name} lists no mistakes.", "Evaluate again, with --mistakes and their number."
        )
    for found in file.document["mistakes"]:
        label = recorded_prediction(1, -1, found["wnid"], found["label"], found["probability"])
        true_class = recorded_text(found["title"])
        yield Entry(Classified(recorded_path(found), (label,)), true_class=true_class)
