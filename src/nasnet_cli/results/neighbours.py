"""What similar and duplicates found, as records, and as text: JSON, CSV, and for people."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar, get_args

from nasnet_cli.results.meta import section
from nasnet_cli.results.records import Failure
from nasnet_cli.results.text import decimal, printable
from nasnet_cli.results.writers import json_object, json_path, no_formula, quoted

LikenessFormat = Literal["table", "json", "jsonl", "csv"]
FORMATS: tuple[LikenessFormat, ...] = get_args(LikenessFormat)


@dataclass(frozen=True, slots=True)
class Match:
    """A picture of the index that is like the query. rank counts from 1, row from 0; similarity is
    the cosine of the two vectors, in [-1, 1]."""

    rank: int
    row: int
    path: str
    similarity: float


@dataclass(frozen=True, slots=True)
class Matched:
    """What is most like one query, best first; exactly one of matches and error is set."""

    path: str
    matches: tuple[Match, ...] | None
    error: Failure | None = None


@dataclass(frozen=True, slots=True)
class Member:
    """A picture in a group. similarity is its cosine with the group's first, in [-1, 1]."""

    row: int
    path: str
    similarity: float


@dataclass(frozen=True, slots=True)
class Group:
    """Pictures that are nearly the same, in the order of their rows. number counts from 1."""

    number: int
    members: tuple[Member, ...]


Record = TypeVar("Record")


@dataclass(frozen=True)
class Form(Generic[Record]):
    """How a kind of record is written: as a JSON object, as rows of cells, as lines for people.

    name is what the list of records is called in a JSON document.
    """

    name: str
    columns: tuple[str, ...]
    json: Callable[[Record], str]
    cells: Callable[[Record], Iterator[list[str]]]
    lines: Callable[[Record], Iterator[str]]


Section = Mapping[str, object]


def written(
    format_: LikenessFormat,
    form: Form[Record],
    records: Iterable[Record],
    head: Mapping[str, Section],
    tail: Callable[[], Mapping[str, Section]],
) -> Iterator[str]:
    """The text of a result, a piece for each record, as they come.

    head is what stands before the records in a JSON document, tail gives what comes after.
    """
    if format_ == "json":
        yield from _document(form, records, head, tail)
    elif format_ == "jsonl":
        for record in records:
            yield form.json(record) + "\n"
    elif format_ == "csv":
        yield _csv([form.columns])
        for record in records:
            yield _csv(form.cells(record))
    else:
        for record in records:
            yield "".join(f"{line}\n" for line in form.lines(record))


def _document(
    form: Form[Record],
    records: Iterable[Record],
    head: Mapping[str, Section],
    tail: Callable[[], Mapping[str, Section]],
) -> Iterator[str]:
    yield "{\n" + "".join(f"{section(*one)},\n" for one in head.items()) + f'  "{form.name}": ['
    before = "\n"
    for record in records:
        yield f"{before}    {form.json(record)}"
        before = ",\n"
    yield "\n  ]" if before != "\n" else "]"
    yield "".join(f",\n{section(*one)}" for one in tail().items()) + "\n}\n"


def _csv(rows: Iterable[Sequence[str]]) -> str:
    return "".join(",".join(map(quoted, cells)) + "\n" for cells in rows)


def _matched_json(row: Matched) -> str:
    found = ", ".join(
        f'{{"rank": {match.rank}, "row": {match.row}, {json_path(match.path)}, '
        f'"similarity": {decimal(match.similarity, missing="null")}}}'
        for match in row.matches or ()
    )
    return json_object(row.path, row.error, f'"matches": [{found}]')


def _matched_cells(row: Matched) -> Iterator[list[str]]:
    path = no_formula(row.path, mark="./")
    if row.error is not None:
        message = no_formula(row.error.message, mark="'")
        yield [path, "error", "", "", "", "", row.error.kind, message]
    elif not row.matches:
        yield [path, "ok", "", "", "", "", "", ""]
    for match in row.matches or ():
        found = no_formula(match.path, mark="./")
        similarity = decimal(match.similarity, missing="")
        yield [path, "ok", str(match.rank), str(match.row), found, similarity, "", ""]


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
    yield f"Group {group.number}, {len(group.members):,} pictures"
    for member in group.members:
        yield f"  {member.similarity:7.4f}  {printable(member.path)}"


MATCHED = Form(
    "results",
    ("path", "status", "rank", "row", "match", "similarity", "error_kind", "error"),
    _matched_json,
    _matched_cells,
    _matched_lines,
)
GROUPS = Form(
    "groups", ("group", "row", "path", "similarity"), _group_json, _group_cells, _group_lines
)
