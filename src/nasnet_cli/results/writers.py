"""The files of classify for programs: JSON lines, a JSON document, CSV.

Each writer takes a binary stream and writes UTF-8 with "\\n" line ends whatever the locale, row by
row, so that memory stays flat. The same rows give the same bytes on every machine.
"""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePath
from typing import BinaryIO, Literal, Protocol, get_args

from nasnet_cli.results.meta import section
from nasnet_cli.results.records import Classified, Failure, Prediction, Summary
from nasnet_cli.results.text import decimal, json_text, readable

Format = Literal["jsonl", "json", "csv"]
FORMATS: tuple[Format, ...] = get_args(Format)


class Writer(Protocol):
    """Takes the rows of a run in their order, then, once, its summary.

    Nothing is written before the first call, so a job that fails early leaves its stream empty.
    """

    def write(self, row: Classified) -> None:
        """Appends one input's row. Errors are those of the stream."""

    def finish(self, summary: Summary) -> None:
        """Ends the file. The stream stays open."""


def format_of(path: str | os.PathLike[str], formats: Sequence[str] = FORMATS) -> str | None:
    """Which of the formats a file's ending names, in any case (OUT.JSONL, .ndjson too), or None."""
    ending = PurePath(path).suffix.lower().lstrip(".")
    if ending == "ndjson":
        ending = "jsonl"
    return ending if ending in formats else None


def open_writer(
    name: Format,
    stream: BinaryIO,
    *,
    model: Mapping[str, object],
    preprocessing: Mapping[str, object],
    logits: bool = False,
) -> Writer:
    """A writer of the format name onto stream.

    model and preprocessing (JSON values) stand at the head of the JSON document; logits says
    whether the rows have them, and so whether CSV has the column.
    """
    if name == "jsonl":
        return JsonLinesWriter(stream)
    if name == "json":
        return JsonWriter(stream, model=model, preprocessing=preprocessing)
    return CsvWriter(stream, logits=logits)


class JsonLinesWriter:
    """A JSON object per input and line."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def write(self, row: Classified) -> None:
        self._stream.write(f"{json_row(row)}\n".encode())

    def finish(self, summary: Summary) -> None:
        """Nothing: the last row is the end."""


class JsonWriter:
    """One document, {"model", "preprocessing", "results", "summary"}, with a result per line."""

    def __init__(
        self,
        stream: BinaryIO,
        *,
        model: Mapping[str, object],
        preprocessing: Mapping[str, object],
    ) -> None:
        self._stream = stream
        sections = [section("model", model), section("preprocessing", preprocessing)]
        self._head = ",\n".join(["{\n" + sections[0], sections[1], '  "results": ['])
        self._has_rows = False

    def write(self, row: Classified) -> None:
        before = "," if self._has_rows else self._head
        self._stream.write(f"{before}\n    {json_row(row)}".encode())
        self._has_rows = True

    def finish(self, summary: Summary) -> None:
        end_of_rows = "\n  ]" if self._has_rows else self._head + "]"
        tail = f"{end_of_rows},\n{section('summary', summary.counts())}\n}}\n"
        self._stream.write(tail.encode())


def json_row(row: Classified) -> str:
    r"""One input's result as a JSON object on one line, without the line's end.

    A path that is not UTF-8 is written with \xNN for its odd bytes, and path_bytes holds the
    whole name in base64. The numbers are put in by hand, because json writes 1.2e-05.
    """
    found = ", ".join(map(_json_prediction, row.predictions or ()))
    return json_object(row.path, row.error, f'"predictions": [{found}]')


def json_vector_row(path: str, error: Failure | None, number: int) -> str:
    """What one input's vector is, in the form of json_row; number is the vector's row."""
    return json_object(path, error, f'"row": {number}')


def json_object(path: str, error: Failure | None, result: str) -> str:
    """One input's JSON object: its path and status, then the member result, or its error."""
    members = [json_path(path)]
    if error is not None:
        kind, message = json_text(error.kind), json_text(error.message)
        members += ['"status": "error"', f'"error": {{"kind": {kind}, "message": {message}}}']
    else:
        members += ['"status": "ok"', result]
    return "{" + ", ".join(members) + "}"


def json_path(path: str) -> str:
    """The member "path" and, for a path that is not UTF-8, path_bytes."""
    member = f'"path": {json_text(path)}'
    if (raw := odd_bytes(path)) is not None:
        member += f', "path_bytes": "{base64.b64encode(raw).decode()}"'
    return member


def odd_bytes(path: str) -> bytes | None:
    """The bytes of a name that is not UTF-8; None for one that is."""
    if readable(path) == path:
        return None
    try:
        return path.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # no name on a disk: half of a character, from another source
        return path.encode("utf-8", "surrogatepass")


def _json_prediction(found: Prediction) -> str:
    logit = "" if found.logit is None else f', "logit": {decimal(found.logit, missing="null")}'
    return (
        f'{{"rank": {found.rank}, "index": {found.index}, "wnid": {json_text(found.wnid)}, '
        f'"label": {json_text(found.label)}, '
        f'"probability": {decimal(found.probability, missing="null")}{logit}}}'
    )


_COLUMNS = "path,status,rank,index,wnid,label,probability,error_kind,error"
_NEEDS_QUOTES = re.compile('[,"\r\n]')
# What makes a spreadsheet take a cell for a formula. The last four are the wide forms of the
# first four, which Excel in Japan takes as well.
_FORMULA_STARTS = tuple("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20")


class CsvWriter:
    r"""A line per input and rank, quoted as RFC 4180 says.

    Lines end in "\n": the RFC's readers and spreadsheets take it, and with "\r\n" the last column
    of every line would end in "\r" for grep, cut and awk. A path that is not UTF-8 has \xNN for
    its odd bytes and does not open the file; the JSON formats hold its bytes.
    """

    def __init__(self, stream: BinaryIO, *, logits: bool = False) -> None:
        self._stream = stream
        self._logits = logits
        self._before = _COLUMNS + (",logit\n" if logits else "\n")

    def write(self, row: Classified) -> None:
        lines = "".join(",".join(map(quoted, cells)) + "\n" for cells in self._cells(row))
        self._stream.write((self._before + lines).encode())
        self._before = ""

    def finish(self, summary: Summary) -> None:
        self._stream.write(self._before.encode())

    def _cells(self, row: Classified) -> Iterator[list[str]]:
        path = no_formula(row.path, mark="./")
        logit = [""] * self._logits
        if row.error is not None:
            message = no_formula(row.error.message, mark="'")
            yield [path, "error", "", "", "", "", "", row.error.kind, message, *logit]
        elif not row.predictions:
            yield [path, "ok", "", "", "", "", "", "", "", *logit]
        for found in row.predictions or ():
            if self._logits and found.logit is not None:
                logit = [decimal(found.logit, missing="")]
            yield [
                path,
                "ok",
                str(found.rank),
                str(found.index),
                no_formula(found.wnid, mark="'"),
                no_formula(found.label, mark="'"),
                decimal(found.probability, missing=""),
                "",
                "",
                *logit,
            ]


def no_formula(cell: str, *, mark: str) -> str:
    """A cell that no spreadsheet runs: mark before what it would take for a formula."""
    cell = readable(cell)
    return mark + cell if cell.startswith(_FORMULA_STARTS) else cell


def quoted(cell: str) -> str:
    """A cell as RFC 4180 quotes it."""
    # By hand: Python before 3.13 leaves a lone "\r" bare, where readers end the line.
    if _NEEDS_QUOTES.search(cell):
        return '"' + cell.replace('"', '""') + '"'
    return cell
