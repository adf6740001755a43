"""The results of similar and duplicates: records, and their layout as JSON, CSV and plain lines."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from nasnet_cli.results.records import Failure
from nasnet_cli.results.text import decimal, printable
from nasnet_cli.results.writers import Layout, json_object, json_path, no_formula


@dataclass(frozen=True, slots=True)
class Neighbour:
    """An image of the index that is similar to a query.

    row counts from 0; similarity is the cosine of the two vectors, in [-1, 1].
    """

    row: int
    path: str
    similarity: float


@dataclass(frozen=True, slots=True)
class Matched:
    """The matches of one query, best first; exactly one of matches and error is set."""

    path: str
    matches: tuple[Neighbour, ...] | None
    error: Failure | None = None


Role = Literal["keep", "reference", "duplicate", "link", "archived", "remote", "changed", "missing"]
"""The part that an image has in a group (docs/duplicates.md)."""


@dataclass(frozen=True, slots=True)
class Member:
    """An image of a group.

    similarity, in [-1, 1], is its cosine with the image of row of, which it is a duplicate of or a
    link to; where of is None, with the first of the group that stays.
    """

    row: int
    path: str
    similarity: float
    role: Role
    of: int | None = None


@dataclass(frozen=True, slots=True)
class Group:
    """Near-duplicates, in the order of their rows. number counts from 1."""

    number: int
    members: tuple[Member, ...]


def _json(neighbour: Neighbour | Member) -> str:
    """Return the members of a neighbour's JSON object, without its braces."""
    similarity = decimal(neighbour.similarity, missing="null")
    return f'"row": {neighbour.row}, {json_path(neighbour.path)}, "similarity": {similarity}'


def _cells(neighbour: Neighbour | Member) -> list[str]:
    path = no_formula(neighbour.path, mark="./")
    return [str(neighbour.row), path, decimal(neighbour.similarity, missing="")]


def _matched_json(row: Matched) -> str:
    ranked = enumerate(row.matches or (), start=1)
    matches = ", ".join(f'{{"rank": {rank}, {_json(match)}}}' for rank, match in ranked)
    return json_object(row.path, row.error, f'"matches": [{matches}]')


def _matched_cells(row: Matched) -> Iterator[list[str]]:
    path = no_formula(row.path, mark="./")
    if row.error is not None:
        message = no_formula(row.error.message, mark="'")
        yield [path, "error", "", "", "", "", row.error.kind, message]
    elif not row.matches:
        yield [path, "ok", "", "", "", "", "", ""]
    for rank, match in enumerate(row.matches or (), start=1):
        yield [path, "ok", str(rank), *_cells(match), "", ""]


def _matched_lines(row: Matched) -> Iterator[str]:
    yield printable(row.path)
    if row.error is not None:
        yield f"      {row.error.kind}: {printable(row.error.message)}"
    elif not row.matches:
        yield "      nothing to compare it with"
    for rank, match in enumerate(row.matches or (), start=1):
        yield f"{rank:>4}  {match.similarity:7.4f}  {printable(match.path)}"


def _group_json(group: Group) -> str:
    members = ", ".join(f"{{{_json(member)}, {_role(member)}}}" for member in group.members)
    return f'{{"group": {group.number}, "members": [{members}]}}'


def _role(member: Member) -> str:
    of = "null" if member.of is None else member.of
    return f'"role": "{member.role}", "of": {of}'


def _group_cells(group: Group) -> Iterator[list[str]]:
    for member in group.members:
        of = "" if member.of is None else str(member.of)
        yield [str(group.number), *_cells(member), member.role, of]


def _group_lines(group: Group) -> Iterator[str]:
    yield f"Group {group.number}, {len(group.members):,} images"
    for member in group.members:
        yield f"  {member.role:<9} {member.similarity:7.4f}  {printable(member.path)}"


MATCHED = Layout(
    "results",
    ("path", "status", "rank", "row", "match", "similarity", "error_kind", "error"),
    _matched_json,
    _matched_cells,
    _matched_lines,
)
GROUPS = Layout(
    "groups",
    ("group", "row", "path", "similarity", "role", "of"),
    _group_json,
    _group_cells,
    _group_lines,
)
