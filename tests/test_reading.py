"""Labels of a finished run, read back from every format."""

from __future__ import annotations

import io
import json
import os
from dataclasses import replace

import pytest

from nasnet_cli.errors import NasnetError
from nasnet_cli.results.reading import LabelFile
from nasnet_cli.results.records import Classified, Everyday, Prediction
from support.labels import ALL_FORMATS, DOG, GOLDEN, TABBY, failed, labelled, write_results

ODD = os.fsdecode(b"odd-\xff.png")
ROWS = [
    labelled("photos/a, b.jpg", DOG, (GOLDEN, 0.4), (TABBY, 0.3)),
    labelled("photos/a, b.jpg", DOG, (GOLDEN, 0.4), (TABBY, 0.3)),
    failed("broken\n.jpg"),
    Classified("none.jpg", ()),
    labelled("unsure.jpg", None, (TABBY, 0.25)),
    Classified("=1.jpg", (Prediction(1, 0, "", "=1, 'x'", 0.5),), sure=Everyday(DOG, "-dog", 0.5)),
    Classified("'.jpg", (Prediction(1, 0, "", "'x", 0.5),)),
]


@pytest.mark.parametrize("format_", ALL_FORMATS)
@pytest.mark.parametrize("logits", [False, True])
def test_rows_come_back(format_, logits, tmp_path):
    # The format is found by the content.
    file = write_results(tmp_path / f"a.{format_}", ROWS, logits=logits).rename(tmp_path / "labels")
    read = LabelFile(str(file))
    assert read.format == format_
    expected = ROWS
    if format_ == "csv":
        expected = [replace(r, path="./=1.jpg") if r.path == "=1.jpg" else r for r in ROWS]
    assert list(read.rows()) == expected
    assert read.has_everyday
    assert list(read.rows()) == expected  # once more


@pytest.mark.parametrize("format_", ["jsonl", "json", "parquet", "sqlite"])
def test_names_that_are_not_utf8_come_back(format_, tmp_path):
    file = write_results(tmp_path / f"a.{format_}", [labelled(ODD, DOG)])
    assert [row.path for row in LabelFile(str(file)).rows()] == [ODD]


def test_half_characters_become_visible(tmp_path):
    """JSON can spell out what no text file can hold, and what no file is called."""
    text = write_results(tmp_path / "a.jsonl", [labelled("a?.jpg", DOG, (GOLDEN, 0.4))]).read_text()
    (tmp_path / "a.jsonl").write_text(text.replace("?", "\\ud800").replace("golden", "\\udc80"))
    (row,) = LabelFile(str(tmp_path / "a.jsonl")).rows()
    assert (row.path, row.predictions[0].label) == ("a\\ud800.jpg", "\\x80 retriever")


@pytest.mark.parametrize("format_", ["jsonl", "json", "csv"])
def test_text_can_come_through_a_pipe(format_, tmp_path):
    data = write_results(tmp_path / f"a.{format_}", ROWS[:5]).read_bytes()
    assert list(LabelFile("-", io.BytesIO(data)).rows()) == ROWS[:5]


@pytest.mark.parametrize("format_", ["jsonl", "json", "csv"])
def test_a_pipe_with_a_path_is_read_once(format_, tmp_path):
    file = write_results(tmp_path / f"a.{format_}", ROWS[:5])
    first, *others = file.read_bytes().splitlines(keepends=True)
    reader, writer = os.pipe()
    os.write(writer, first)  # alone, as from a program that writes line by line
    read = LabelFile(f"/dev/fd/{reader}")
    os.write(writer, b"".join(others))
    os.close(writer)
    assert read.is_stream
    assert list(read.rows()) == ROWS[:5]
    os.close(reader)


def test_a_document_may_be_one_line(tmp_path):
    file = write_results(tmp_path / "a.json", ROWS)
    file.write_text(json.dumps(json.loads(file.read_text())))
    assert list(LabelFile(str(file)).rows()) == ROWS


def test_a_csv_that_is_cut_off_is_refused(tmp_path):
    file = write_results(tmp_path / "a.csv", ROWS[:1])
    whole = file.read_bytes()
    assert list(LabelFile(str(file)).rows()) == ROWS[:1]
    for length in range(1, len(whole)):
        if whole[length - 1 : length] == b"\n":
            continue
        file.write_bytes(whole[:length])
        with pytest.raises(NasnetError):
            list(LabelFile(str(file)).rows())


IMPROBABLE = (
    b'{"path": "a", "status": "ok", "predictions": '
    b'[{"rank": 1, "index": 3, "wnid": "", "label": "x", "probability": %s}]}\n'
)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"path,status,rank,index,wnid,label,probability,error_kind\na,ok\n", "line 2 has 2 cells"),
        (b"path,status,rank,index,wnid,label,probability,error_kind\n\xff\n", "is not UTF-8"),
        (b'{"status": "ok"}\n', "line 1, there is no path"),
        (b'{"path": "a", "status": "error", "error": 1}\n', "line 1, a value is of a wrong kind"),
        (b'{"model": {}}\n', "line 1, there is no path"),
        (IMPROBABLE % b"NaN", "line 1, a probability is nan, not from 0 to 1"),
        (IMPROBABLE % b"1e308", "line 1, a probability is 1e"),
        (IMPROBABLE % b"-5", "line 1, a probability is -5"),
        (IMPROBABLE.replace(b"1,", b"1e999,") % b"1", "line 1, cannot convert float infinity"),
    ],
)
def test_what_is_wrong_is_said_in_words(data, reason, tmp_path):
    file = tmp_path / "labels"
    file.write_bytes(data)
    with pytest.raises(NasnetError, match=reason):
        list(LabelFile(str(file)).rows())


@pytest.mark.parametrize("format_", ["parquet", "sqlite"])
def test_what_cannot_come_through_a_pipe_is_refused(format_, tmp_path):
    data = write_results(tmp_path / f"a.{format_}", ROWS).read_bytes()
    with pytest.raises(NasnetError, match=f"Standard input is {format_}"):
        LabelFile("-", io.BytesIO(data))


def test_many_rows_of_parquet(tmp_path):
    rows = [labelled(f"{n}.jpg", DOG) for n in range(5000)]
    assert list(LabelFile(str(write_results(tmp_path / "a.parquet", rows))).rows()) == rows


def test_files_of_earlier_versions_have_no_everyday_labels(tmp_path):
    lines = tmp_path / "a.jsonl"
    lines.write_text('{"path": "a", "status": "ok", "predictions": []}\n')
    cells = tmp_path / "a.csv"
    cells.write_text(
        "path,status,rank,index,wnid,label,probability,error_kind,error\na,ok,,,,,,,\n"
    )
    for file in (lines, cells):
        read = LabelFile(str(file))
        assert list(read.rows()) == [Classified("a", ())]
        assert not read.has_everyday


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n",
        "hello\n",
        "path,status,rank\na,ok,1\n",
        "path,status,rank,index,wnid,label,probability,error_kind,error\na,ok,1,x,,,,,\n",
        "path,status,rank,index,wnid,label,probability,error_kind,error\na,ok,1\n",
        '{"path": "a", "status": "ok", "row": 0}\n',  # of nasnet embed
        '{"path": "a", "status": "ok", "predictions": [{"rank": 1}]}\n',
        '{"path": "a", "status": "ok", "predictions": []}\n{"path": "b", "sta',
        '{"path": 1, "status": "ok", "predictions": []}\n',
        '{"path": "a", "path_bytes": "?", "status": "ok", "predictions": []}\n',
        '{"path": "a", "status": "error", "error": 1}\n',
        "[1]\n",
        '{\n  "results": 1\n}\n',
        '{\n  "model": {}\n}\n',
        "SQLite format 3\0 and no more",
        "PAR1 and no more",
    ],
)
def test_other_files_are_refused(text, tmp_path):
    file = tmp_path / "labels"
    file.write_text(text)
    with pytest.raises(NasnetError) as found:
        list(LabelFile(str(file)).rows())
    assert str(file) in found.value.problem
    assert "nasnet classify" in found.value.remedy


def test_other_databases_are_refused(tmp_path, nasnet):
    import sqlite3

    file = tmp_path / "other.db"
    database = sqlite3.connect(file)
    database.execute("CREATE TABLE images (name)")
    database.close()
    with pytest.raises(NasnetError, match="does not hold the labels"):
        list(LabelFile(str(file)).rows())
    assert "does not hold the labels" in nasnet("find", "dog", file, expect=1).stderr
    assert [path.name for path in tmp_path.iterdir()] == ["other.db"]


def test_what_is_no_file_is_refused(tmp_path):
    for path in (tmp_path, tmp_path / "missing"):
        with pytest.raises(NasnetError, match=f"Cannot read {path}: "):
            LabelFile(str(path))
