"""The results of similar and duplicates: records, and their layout as JSON, CSV and plain lines."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from nasnet_cli.results.records import Failure
from nasnet_cli.results.text import decimal, printable
from nasnet_cli.results.writers import Layout, json_object, json_path, no_formula


@dataclass(frozen=True, slots=True)
class Match:
    """An image of the index that is similar to the query.

    rank counts from 1, row from 0; similarity is the cosine of the two vectors, in [-1, 1].
    """

    rank: int
    row: int
    path: str
    similarity: float


@dataclass(frozen=True, slots=True)
class Matched:
    """The matches of one query, best first; exactly one of matches and error is set."""

    path: str
    matches: tuple[Match, ...] | None
    error: Failure | None = None


@dataclass(frozen=True, slots=True)
class Member:
    """An image in a group. similarity is its cosine with the group's first, in [-1, 1]."""

    row: int
    path: str
    similarity: float


@dataclass(frozen=True, slots=True)
class Group:
    """Near-duplicates, in the order of their rows. number counts from 1."""

    number: int
    members: tuple[Member, ...]


def _matched_json(row: Matched) -> str:
    matches = ", ".join(
        f'{{"rank": {match.rank}, "row": {match.row}, {json_path(match.path)}, '
        f'"similarity": {decimal(match.similarity, missing="null")}}}'
        for match in row.matches or ()
    )
    return json_object(row.path, row.error, f'"matches": [{matches}]')


def _matched_cells(row: Matched) -> Iterator[list[str]]:
    path = no_formula(row.path, mark="./")
    if row.error is not None:
        message = no_formula(row.error.message, mark="'")
        yield [path, "error", "", "", "", "", row.error.kind, message]
    elif not row.matches:
        yield [path, "ok", "", "", "", "", "", ""]
    for match in row.matches or ():
        match_path = no_formula(match.path, mark="./")
        similarity = decimal(match.similarity, missing="")
        yield [path, "ok", str(match.rank), str(match.row), match_path, similarity, "", ""]


def _matched_lines(row: Matched) -> Iterator[str]:
    yield printable(row.path)
    if row.error is not None:
        yield f"      {row.error.kind}: {printable(row.error.message)}"
    elif not row.matches:
        yield "      nothing to compare it with"
    for match in row.matches or ():
        yield f"{match.rank:>4}  {match.similarity:7.4f}  {printable(match.path)}"


def _group_json(group: Group) -> str:
    members = ", ".join(
        f'{{"row": {member.row}, {json_path(member.path)}, '
        f'"similarity": {decimal(member.similarity, missing="null")}}}'
        for member in group.members
    )
    return f'{{"group": {group.number}, "members": [{members}]}}'


def _group_cells(group: Group) -> Iterator[list[str]]:
    for member in group.members:
        path = no_formula(member.path, mark="./")
        similarity = decimal(member.similarity, missing="")
        yield [str(group.number), str(member.row), path, similarity]


def _group_lines(group: Group) -> Iterator[str]:
    yield f"Group {group.number}, {len(group.members):,} images"
    for member in group.members:
        yield f"  {member.similarity:7.4f}  {printable(member.path)}"


MATCHED = Layout(
    "results",
    ("path", "status", "rank", "row", "match", "similarity", "error_kind", "error"),
    _matched_json,
    _matched_cells,
    _matched_lines,
)
GROUPS = Layout(
    "groups", ("group", "row", "path", "similarity"), _group_json, _group_cells, _group_lines
)
