"""Results as text for programs: JSON lines, a JSON document, CSV.

A Writer takes a binary stream and writes UTF-8 with "\\n" line ends whatever the locale, record by
record, so that memory stays flat. The same records give the same bytes on every machine.
"""

from __future__ import annotations

import base64
import codecs
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Generic, TextIO, TypeVar, cast

from nasnet_cli.results.meta import section
from nasnet_cli.results.records import Classified, Everyday, Failure, Prediction
from nasnet_cli.results.text import decimal, json_text, readable, undecodable

if TYPE_CHECKING:
    from nasnet_cli.results.formats import FormatName
    from nasnet_cli.results.table import TableWriter

Record = TypeVar("Record")
Section = Mapping[str, object]


@dataclass(frozen=True)
class Layout(Generic[Record]):
    """The text of a kind of record: a JSON object, rows of CSV cells, lines for people.

    name is the name of the list of records in a JSON document.
    """

    name: str
    columns: tuple[str, ...]
    json: Callable[[Record], str]
    cells: Callable[[Record], Iterator[list[str]]]
    lines: Callable[[Record], Iterator[str]] = lambda record: iter(())


class Writer(Generic[Record]):
    """A writer of the records of a run in their order, then, once, of its summary.

    Nothing is written before the first call, so a job that fails early leaves its stream empty.
    """

    def __init__(
        self,
        stream: BinaryIO,
        encode: Callable[[Record], str],
        *,
        start: str = "",
        separator: str = "",
        end: Callable[[Section, bool], str] = lambda summary, is_empty: "",
        encoding: str = "utf-8",
    ) -> None:
        self._stream, self._encode, self._encoding = stream, encode, encoding
        self._before, self._separator = start, separator
        self._end = end
        self._is_empty = True

    def write(self, record: Record) -> None:
        """Append a record. Errors are the stream's."""
        self._put(self._before + self._encode(record))
        self._before, self._is_empty = self._separator, False

    def finish(self, summary: Section) -> None:
        """End the text; summary (Summary.counts()) is for a JSON document. The stream stays open."""
        start = self._before if self._is_empty else ""
        self._put(start + self._end(summary, self._is_empty))

    def _put(self, text: str) -> None:
        # A terminal that cannot show a character shows it escaped; UTF-8 has them all.
        self._stream.write(text.encode(self._encoding, "backslashreplace"))


def open_writer(
    format_: FormatName,
    layout: Layout[Record],
    stream: BinaryIO,
    *,
    head: Mapping[str, Section],
    encoding: str = "utf-8",
) -> Writer[Record]:
    """Return a writer of records in a format. head is what a JSON document has before them."""
    if format_ == "jsonl":
        return Writer(stream, lambda record: layout.json(record) + "\n")
    if format_ == "csv":
        header = csv_lines([layout.columns])
        return Writer(stream, lambda record: csv_lines(layout.cells(record)), start=header)
    if format_ == "table":
        return Writer(
            stream,
            lambda record: "".join(f"{line}\n" for line in layout.lines(record)),
            encoding=encoding,
        )

    def end(summary: Section, is_empty: bool) -> str:
        return f"{']' if is_empty else chr(10) + '  ]'},\n{section('summary', summary)}\n}}\n"

    sections = "".join(f"{section(*member)},\n" for member in head.items())
    return Writer(
        stream,
        lambda record: f"\n    {layout.json(record)}",
        start=f'{{\n{sections}  "{layout.name}": [',
        separator=",",
        end=end,
    )


def open_label_writer(
    format_: FormatName,
    stream: BinaryIO,
    *,
    head: Mapping[str, Section],
    logits: bool,
    everyday: bool = True,
) -> Writer[Classified] | TableWriter:
    """Return a writer of labels in a format of text. logits says whether rows have them.

    everyday says whether the model has everyday labels: without them, a table has no such column.
    """
    if format_ != "table":
        return open_writer(format_, labels_layout(logits=logits), stream, head=head)
    from nasnet_cli.results.table import TableWriter

    if stream is sys.stdout.buffer:  # rich looks whether it is a terminal, and how wide
        text: TextIO = sys.stdout
    else:
        text = cast(TextIO, codecs.getwriter("utf-8")(stream))
    return TableWriter(text, logits=logits, everyday=everyday)


def json_row(row: Classified) -> str:
    r"""Return one input's labels as a JSON object on one line, without a line end.

    A path that is not UTF-8 is written with \xNN for its undecodable bytes, and path_bytes holds
    the whole name in base64. Numbers are formatted here, because json writes 1.2e-05.
    """
    predictions = ", ".join(map(_json_prediction, row.predictions or ()))
    result = f'"predictions": [{predictions}], "sure": {json_everyday(row.sure)}'
    return json_object(row.path, row.error, result)


def json_vector_row(path: str, error: Failure | None, number: int) -> str:
    """Return which vector one input has, in the form of json_row; number is the vector's row."""
    return json_object(path, error, f'"row": {number}')


def json_object(path: str, error: Failure | None, result: str) -> str:
    """Return one input's JSON object: its path and status, then the member result, or its error."""
    members = [json_path(path)]
    if error is not None:
        kind, message = json_text(error.kind), json_text(error.message)
        members += ['"status": "error"', f'"error": {{"kind": {kind}, "message": {message}}}']
    else:
        members += ['"status": "ok"', result]
    return "{" + ", ".join(members) + "}"


def json_path(path: str) -> str:
    """Return the member "path" and, for a path that is not UTF-8, path_bytes."""
    member = f'"path": {json_text(path)}'
    if (raw := undecodable(path)) is not None:
        member += f', "path_bytes": "{base64.b64encode(raw).decode()}"'
    return member


def _json_prediction(prediction: Prediction) -> str:
    logit = ""
    if prediction.logit is not None:
        logit = f', "logit": {decimal(prediction.logit, missing="null")}'
    return (
        f'{{"rank": {prediction.rank}, "index": {prediction.index}, '
        f'"wnid": {json_text(prediction.wnid)}, "label": {json_text(prediction.label)}, '
        f'"probability": {decimal(prediction.probability, missing="null")}{logit}}}'
    )


def json_everyday(sure: Everyday | None) -> str:
    """Return an everyday label as a JSON object; null without one."""
    if sure is None:
        return "null"
    return (
        f'{{"wnid": {json_text(sure.wnid)}, "label": {json_text(sure.label)}, '
        f'"probability": {decimal(sure.probability, missing="null")}}}'
    )


_NEEDS_QUOTES = re.compile('[,"\r\n]')
# Starts of a cell that spreadsheets take for a formula. The last four are the wide forms of the
# first four, which Excel in Japan takes as well.
_FORMULA_STARTS = tuple("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20")


def labels_layout(*, logits: bool) -> Layout[Classified]:
    r"""Return the layout of labels; with logits, CSV has their column.

    CSV has a line for each input and rank, with the everyday label in the last columns, quoted as
    in RFC 4180. Lines end in "\n": the RFC's readers and spreadsheets take it, and with "\r\n" the
    last column of every line would end in "\r" for grep, cut and awk. A path that is not UTF-8 has
    \xNN for its undecodable bytes and does not open the file; the JSON formats hold its bytes.
    """
    columns = ["path", "status", "rank", "index", "wnid", "label", "probability"]
    columns += ["error_kind", "error", *(["logit"] if logits else [])]
    columns += ["sure_wnid", "sure_label", "sure_probability"]

    def cells(row: Classified) -> Iterator[list[str]]:
        path = no_formula(row.path, mark="./")
        sure = _everyday_cells(row.sure)
        logit = [""] * logits
        if row.error is not None:
            message = no_formula(row.error.message, mark="'")
            yield [path, "error", "", "", "", "", "", row.error.kind, message, *logit, *sure]
        elif not row.predictions:
            yield [path, "ok", "", "", "", "", "", "", "", *logit, *sure]
        for prediction in row.predictions or ():
            if logits and prediction.logit is not None:
                logit = [decimal(prediction.logit, missing="")]
            yield [
                path,
                "ok",
                str(prediction.rank),
                str(prediction.index),
                no_formula(prediction.wnid, mark="'"),
                no_formula(prediction.label, mark="'"),
                decimal(prediction.probability, missing=""),
                "",
                "",
                *logit,
                *sure,
            ]

    return Layout("results", tuple(columns), json_row, cells)


def _everyday_cells(sure: Everyday | None) -> list[str]:
    if sure is None:
        return ["", "", ""]
    label = no_formula(sure.label, mark="'")
    return [sure.wnid, label, decimal(sure.probability, missing="")]


def no_formula(cell: str, *, mark: str) -> str:
    """Return a cell that no spreadsheet evaluates: mark is put before the start of a formula."""
    cell = readable(cell)
    return mark + cell if cell.startswith(_FORMULA_STARTS) else cell


def strip_formula_mark(cell: str) -> str:
    """Return a label's cell without the mark that no_formula has put before it."""
    return cell[1:] if cell.startswith("'") and cell[1:].startswith(_FORMULA_STARTS) else cell


def csv_lines(rows: Iterable[Sequence[str]]) -> str:
    """Return rows of cells as CSV, with "\\n" at the end of each line."""
    return "".join(",".join(map(_quoted, cells)) + "\n" for cells in rows)


def _quoted(cell: str) -> str:
    # By hand: csv in Python before 3.13 leaves a lone "\r" unquoted, where readers end the line.
    if _NEEDS_QUOTES.search(cell):
        return '"' + cell.replace('"', '""') + '"'
    return cell
