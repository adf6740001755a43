"""The text formats of classify: readers get back what was written."""

from __future__ import annotations

import base64
import contextlib
import csv
import io
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nasnet_cli.errors import ERROR_KINDS
from nasnet_cli.results.formats import FORMATS, FormatName, format_by_ending, formats_of
from nasnet_cli.results.meta import meta_document, meta_path
from nasnet_cli.results.records import Classified, Everyday, Failure, Prediction, Summary
from nasnet_cli.results.text import decimal, readable
from nasnet_cli.results.writers import Writer, open_label_writer

CAT = Classified(
    "photos/cat.jpg",
    (
        Prediction(1, 282, "n02123159", "tiger cat", 0.61, 8.5),
        Prediction(2, 281, "n02123045", "tabby, tabby cat", 1.2e-5, -0.25),
    ),
    sure=Everyday("n02121620", "cat", 0.75),
)
BAD = Classified("photos/bad.jpg", None, Failure("truncated", 'It ends at "byte" 7.'))
NONE = Classified("photos/dark.jpg", ())
# The last four are the wide forms.
FORMULA = "[-=+@\t\r\n\uff1d\uff0b\uff0d\uff20]"
SUMMARY = Summary(inputs=3, ok=2, failed=1, passed_over=4, seconds=1.5)


def without_logits(row: Classified) -> Classified:
    found = row.predictions
    if found is not None:
        found = tuple(Prediction(p.rank, p.index, p.wnid, p.label, p.probability) for p in found)
    return Classified(row.path, found, row.error, row.sure)


def written(
    name: FormatName, rows: Sequence[Classified], summary: Summary = SUMMARY, logits: bool = False
) -> str:
    stream = io.BytesIO()
    head = {"model": {"name": "m"}, "preprocessing": {"size": 224}}
    writer = open_label_writer(name, stream, head=head, logits=logits)
    for row in rows:
        writer.write(row if logits else without_logits(row))
    writer.finish(summary.counts())
    return stream.getvalue().decode("utf-8")


def table_of(text: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(text, newline="")))


def test_json_lines_follow_the_contract() -> None:
    assert written("jsonl", [CAT, BAD, NONE]) == (
        '{"path": "photos/cat.jpg", "status": "ok", "predictions": ['
        '{"rank": 1, "index": 282, "wnid": "n02123159", "label": "tiger cat", '
        '"probability": 0.610000}, '
        '{"rank": 2, "index": 281, "wnid": "n02123045", "label": "tabby, tabby cat", '
        '"probability": 0.000012}], '
        '"sure": {"wnid": "n02121620", "label": "cat", "probability": 0.750000}}\n'
        '{"path": "photos/bad.jpg", "status": "error", '
        '"error": {"kind": "truncated", "message": "It ends at \\"byte\\" 7."}}\n'
        '{"path": "photos/dark.jpg", "status": "ok", "predictions": [], "sure": null}\n'
    )


def test_logits_are_beside_the_probabilities() -> None:
    row = json.loads(written("jsonl", [CAT], logits=True))
    assert [found["logit"] for found in row["predictions"]] == [8.5, -0.25]
    lines = table_of(written("csv", [CAT, BAD, NONE], logits=True))
    assert [line[9] for line in lines] == ["logit", "8.500000", "-0.250000", "", ""]
    assert lines[0][10:] == ["sure_wnid", "sure_label", "sure_probability"]
    assert {len(line) for line in lines} == {13}


def test_the_json_document_has_a_line_per_result() -> None:
    text = written("json", [CAT, BAD])
    document = json.loads(text)
    assert list(document) == ["model", "preprocessing", "results", "summary"]
    assert document["model"] == {"name": "m"}
    assert document["preprocessing"] == {"size": 224}
    assert document["summary"] == {"inputs": 3, "ok": 2, "failed": 1, "passed_over": 4}
    assert sum(line.startswith('    {"path": ') for line in text.splitlines()) == 2
    assert text.endswith("\n}\n")


def test_a_json_document_without_results_is_valid() -> None:
    assert json.loads(written("json", []))["results"] == []


def test_csv_has_a_line_per_rank_error_and_empty_result() -> None:
    assert written("csv", [CAT, BAD, NONE]) == (
        "path,status,rank,index,wnid,label,probability,error_kind,error,"
        "sure_wnid,sure_label,sure_probability\n"
        "photos/cat.jpg,ok,1,282,n02123159,tiger cat,0.610000,,,n02121620,cat,0.750000\n"
        'photos/cat.jpg,ok,2,281,n02123045,"tabby, tabby cat",0.000012,,,n02121620,cat,0.750000\n'
        'photos/bad.jpg,error,,,,,,truncated,"It ends at ""byte"" 7.",,,\n'
        "photos/dark.jpg,ok,,,,,,,,,,\n"
    )


def test_csv_without_results_has_a_header() -> None:
    assert written("csv", []).startswith("path,status,")
    assert written("jsonl", []) == ""


@pytest.mark.parametrize("name", ["json", "csv", "jsonl"])
def test_nothing_is_written_before_the_first_row(name: FormatName) -> None:
    stream = io.BytesIO()
    open_label_writer(name, stream, head={"model": {}}, logits=False)
    assert stream.getvalue() == b""


@pytest.mark.parametrize("name", ["json", "csv", "jsonl"])
def test_rows_are_written_as_they_come(name: FormatName) -> None:
    stream = io.BytesIO()
    writer = open_label_writer(name, stream, head={"model": {}}, logits=False)
    sizes = []
    for _ in range(3):
        writer.write(CAT)
        sizes.append(len(stream.getvalue()))
    assert sizes == sorted(set(sizes))


def test_no_file_has_the_time_of_the_run() -> None:
    slow = Summary(3, 2, 1, 4, seconds=99.0)
    for name in ("json", "csv", "jsonl"):
        assert written(name, [CAT], slow) == written(name, [CAT], SUMMARY)
    assert "seconds" not in SUMMARY.counts()


@pytest.mark.parametrize("cell", ["=1+1", "+1", "-1", "@x", "\t=1", "\r=1", "\n=1", "\uff1d1"])
def test_no_csv_cell_is_a_formula(cell: str) -> None:
    rows = [
        Classified(cell, (Prediction(1, 0, cell, cell, 0.5),)),
        Classified(f"folder/{cell}", None, Failure("archive", cell)),
    ]
    ok, error = table_of(written("csv", rows))[1:]
    assert ok[0] == f"./{cell}"
    assert ok[4:6] == [f"'{cell}"] * 2
    assert error[0] == f"folder/{cell}"
    assert error[8] == f"'{cell}"


@pytest.mark.parametrize(
    "name", ["-rf.jpg", "=a,b.jpg", '"quoted".jpg', "line\nend\r.jpg", "é.jpg"]
)
def test_a_path_from_csv_opens_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(name).write_text("an image")
    path = table_of(written("csv", [Classified(name, ())]))[1][0]
    assert Path(path).read_text() == "an image"


def test_a_name_that_is_not_utf_8_is_readable_and_keeps_its_bytes() -> None:
    name = b"caf\xe9.jpg".decode("utf-8", "surrogateescape")
    row = json.loads(written("jsonl", [Classified(name, ())]))
    assert row["path"] == r"caf\xe9.jpg"
    assert base64.b64decode(row["path_bytes"]) == b"caf\xe9.jpg"
    assert table_of(written("csv", [Classified(name, ())]))[1][0] == r"caf\xe9.jpg"
    assert "path_bytes" not in written("jsonl", [Classified("café.jpg", ())])


def test_other_line_separators_do_not_split_rows() -> None:
    name = "a\x85b\u2028c\u2029d\x1ce\x0bf\x0cg\x7f\x9b.jpg"
    text = written("jsonl", [Classified(name, ())])
    (line,) = text.splitlines()
    assert json.loads(line)["path"] == name
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f]", text)


def test_numbers_have_six_digits_and_no_exponent() -> None:
    numbers = [1.0, 0.0, 1e-9, -1e-9, 1.2e-5, 0.1234566, 123456789.5]
    assert [decimal(number, missing="") for number in numbers] == [
        "1.000000",
        "0.000000",
        "0.000000",
        "0.000000",
        "0.000012",
        "0.123457",
        "123456789.500000",
    ]


def test_nan_and_infinity_keep_the_file_valid() -> None:
    row = Classified("a", (Prediction(1, 0, "", "x", float("nan"), float("inf")),))
    assert json.loads(written("jsonl", [row], logits=True))["predictions"][0]["logit"] is None
    assert table_of(written("csv", [row], logits=True))[1][6:] == [""] * 7


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("a.jsonl", "jsonl"),
        ("A.JSON", "json"),
        ("a.b.csv", "csv"),
        ("a.ndjson", "jsonl"),
        ("a", None),
        (".csv", None),
        ("a.txt", None),
        ("a.table", None),
        ("a.npy", None),
        ("a.parquet", "parquet"),
        ("a.db", "sqlite"),
        ("a.SQLITE", "sqlite"),
    ],
)
def test_the_ending_names_the_format(path: str, name: str | None) -> None:
    assert format_by_ending(path, formats_of("labels")) == name


def test_the_table_of_formats_is_consistent() -> None:
    assert all(name == format_.name for name, format_ in FORMATS.items())
    endings = [ending for format_ in FORMATS.values() for ending in format_.endings]
    assert len(endings) == len(set(endings))
    assert formats_of("labels") == ("table", "json", "jsonl", "csv", "parquet", "sqlite")
    assert formats_of("vectors") == ("npy", "npz", "parquet")
    assert formats_of("neighbours") == formats_of("groups") == ("table", "json", "jsonl", "csv")
    with_companions = FORMATS["npy"].files(Path("a/v.npy"))
    assert [path.name for path in with_companions] == ["v.npy", "v.jsonl", "v.npy.meta.json"]
    assert FORMATS["npz"].files(Path("v.npz")) == (Path("v.npz"),)


# Any name that a disk, an archive or a list of paths may hold, and a few that mean harm.
names = st.one_of(
    st.binary(max_size=12).map(lambda raw: raw.decode("utf-8", "surrogateescape")),
    st.text(st.characters(), max_size=12),
    st.text('=+-@\t\r\n",;\\/\u2028\x85\x00é\udcff', max_size=6),
)
predictions = st.builds(
    Prediction,
    rank=st.integers(1, 5),
    index=st.integers(0, 1000),
    wnid=names,
    label=names,
    probability=st.floats(0, 1),
    logit=st.floats(-1e6, 1e6),
)
everyday = st.builds(
    Everyday,
    wnid=st.from_regex("n[0-9]{8}", fullmatch=True),
    label=names,
    probability=st.floats(0, 1),
)
failures = st.builds(Failure, kind=st.sampled_from(ERROR_KINDS), message=names)
rows = st.lists(
    st.one_of(
        st.builds(
            Classified,
            names,
            st.lists(predictions, max_size=3).map(tuple),
            sure=st.none() | everyday,
        ),
        st.builds(Classified, names, st.none(), failures),
    ),
    max_size=4,
)


def expected(row: Classified) -> dict[str, Any]:
    if row.error:
        error = {"kind": row.error.kind, "message": readable(row.error.message)}
        return {"path": readable(row.path), "status": "error", "error": error}
    found = [
        {
            "rank": p.rank,
            "index": p.index,
            "wnid": readable(p.wnid),
            "label": readable(p.label),
            "probability": pytest.approx(p.probability, abs=5.1e-7),
            "logit": pytest.approx(p.logit, abs=5.1e-7),
        }
        for p in row.predictions or ()
    ]
    sure = row.sure and {
        "wnid": row.sure.wnid,
        "label": readable(row.sure.label),
        "probability": pytest.approx(row.sure.probability, abs=5.1e-7),
    }
    return {"path": readable(row.path), "status": "ok", "predictions": found, "sure": sure}


def as_bytes(name: str) -> Iterator[bytes]:
    """The bytes of a name on a disk, or of one that no disk can have."""
    for errors in ("surrogateescape", "surrogatepass"):
        with contextlib.suppress(UnicodeEncodeError):
            yield name.encode("utf-8", errors)


@given(rows)
def test_json_reads_back_what_was_written(rows: list[Classified]) -> None:
    lines = written("jsonl", rows, logits=True).split("\n")
    results = [json.loads(line) for line in lines[:-1]]
    assert lines[-1] == ""
    assert json.loads(written("json", rows, logits=True))["results"] == results
    for row, result in zip(rows, results, strict=True):
        raw = result.pop("path_bytes", None)
        assert result == expected(row)
        if raw is None:
            assert result["path"] == row.path
        else:
            assert base64.b64decode(raw) in as_bytes(row.path)


@given(rows)
def test_csv_reads_back_what_was_written(rows: list[Classified]) -> None:
    def guarded(cell: str, mark: str) -> str:
        starts = re.match(FORMULA, cell)
        return readable(mark + cell if starts else cell)

    lines = iter(table_of(written("csv", rows, logits=True))[1:])
    for row in rows:
        path = guarded(row.path, "./")
        sure = ["", "", ""]
        if row.sure:
            probability = decimal(row.sure.probability, missing="")
            sure = [row.sure.wnid, guarded(row.sure.label, "'"), probability]
        if row.error:
            message = guarded(row.error.message, "'")
            cells = [path, "error", "", "", "", "", "", row.error.kind, message, "", *sure]
            assert next(lines) == cells
        elif not row.predictions:
            assert next(lines) == [path, "ok", *[""] * 8, *sure]
        for p in row.predictions or ():
            label, wnid = guarded(p.label, "'"), guarded(p.wnid, "'")
            numbers = [decimal(p.probability, missing=""), decimal(p.logit or 0.0, missing="")]
            cells = [str(p.rank), str(p.index), wnid, label, numbers[0], "", "", numbers[1]]
            assert next(lines) == [path, "ok", *cells, *sure]
    assert next(lines, None) is None


@given(rows)
def test_no_csv_cell_is_a_formula_for_any_names(rows: list[Classified]) -> None:
    for line in table_of(written("csv", rows)):
        assert not any(re.match(FORMULA, cell) for cell in line)


def test_meta_is_the_same_bytes_for_the_same_run() -> None:
    def meta(**model: object) -> bytes:
        return meta_document(
            tool={"name": "nasnet-cli", "version": "0.1.0"},
            runtime={"name": "openvino", "version": "2025.2"},
            model=model,
            preprocessing={"size": 224, "digest": "sha256:12"},
            options={"labels": "caf\udce9.txt", "top": 5},
            summary=SUMMARY.counts(),
        )

    one = meta(name="m", digest="sha256:34")
    assert one == meta(digest="sha256:34", name="m")
    document = json.loads(one)
    assert list(document) == ["tool", "runtime", "model", "preprocessing", "options", "summary"]
    assert document["model"] == {"name": "m", "digest": "sha256:34"}
    assert document["options"]["labels"] == r"caf\xe9.txt"
    assert document["summary"]["failed"] == 1
    assert one.endswith(b"}\n")
    with pytest.raises(ValueError, match="JSON"):
        meta(accuracy=float("nan"))


def test_the_meta_file_is_beside_its_result() -> None:
    assert meta_path("a/out.csv") == Path("a/out.csv.meta.json")


@pytest.mark.parametrize("name", ["json", "csv", "jsonl"])
def test_each_text_format_has_a_writer(name: FormatName) -> None:
    assert isinstance(open_label_writer(name, io.BytesIO(), head={}, logits=False), Writer)
