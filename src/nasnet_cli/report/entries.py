"""Entries of a report, one an image, from labels or from groups of near-duplicates."""

from __future__ import annotations

import base64
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from nasnet_cli.kept_files import parse_json
from nasnet_cli.results.reading import LabelFile
from nasnet_cli.results.records import Classified


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
    """An image of the report: a row with labels or an error, or a member of a group."""

    row: Classified
    grouped: Grouped | None = None


def has_groups(file: LabelFile) -> bool:
    """Return whether a file holds the JSON lines of nasnet duplicates."""
    if file.format != "jsonl":
        return False
    try:
        first = parse_json(file.first_line)
    except ValueError:
        return False  # rows() says what is wrong with it
    return "group" in first and "members" in first


def read_entries(file: LabelFile) -> Iterator[Entry]:
    """Yield the entries of a file of labels or groups, in order. Raises NasnetError."""
    if not has_groups(file):
        for row in file.rows():
            yield Entry(row)
        return
    with file.errors():
        for line in file.lines():
            if line.strip():
                group = parse_json(line)
                for member in group["members"]:
                    yield _entry(int(group["group"]), member)


def _entry(group: int, member: Mapping[str, Any]) -> Entry:
    raw = member.get("path_bytes")
    path = member["path"] if raw is None else os.fsdecode(base64.b64decode(raw, validate=True))
    if not isinstance(path, str):
        raise TypeError("a path is not text")
    grouped = Grouped(group, float(member["similarity"]), str(member.get("role", "")))
    return Entry(Classified(path, ()), grouped)
