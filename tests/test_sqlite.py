"""SQLite files as the programs that open them see them."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
from contextlib import closing

import pytest
from PIL import Image

from nasnet_cli.errors import OutputError
from nasnet_cli.results.atomic import open_outputs
from nasnet_cli.results.formats import FORMATS, Results
from nasnet_cli.results.records import Classified, Everyday, Prediction, Summary
from support.labels import DOG, GOLDEN, LABRADOR, TABBY, failed, labelled, write_results

ODD = os.fsdecode(b"odd-\xff.png")
ROWS = [
    labelled("a.jpg", DOG, (GOLDEN, 0.4), (LABRADOR, 0.3)),
    labelled(ODD, None, (TABBY, 0.25)),
    failed("broken.jpg"),
    Classified("none.jpg", ()),
]


def select(file, query):
    with closing(sqlite3.connect(file)) as database:
        return database.execute(query).fetchall()


def test_tables_are_typed(tmp_path):
    file = write_results(tmp_path / "labels.db", ROWS)
    assert select(file, "SELECT * FROM images") == [
        (1, "a.jpg", None, "ok", None, None, DOG, "dog", 0.9),
        (2, "odd-\\xff.png", b"odd-\xff.png", "ok", None, None, None, None, None),
        (3, "broken.jpg", None, "error", "truncated", "It is cut short, = 1.", None, None, None),
        (4, "none.jpg", None, "ok", None, None, None, None, None),
    ]
    assert select(file, "SELECT * FROM predictions") == [
        (1, 1, 7, GOLDEN, "golden retriever", 0.4),
        (1, 2, 14, LABRADOR, "Labrador retriever", 0.3),
        (2, 1, 7, TABBY, "tabby", 0.25),
    ]
    ((version, summary),) = select(file, "SELECT sqlite_version, summary FROM run")
    assert version == sqlite3.sqlite_version
    assert json.loads(summary)["inputs"] == 4
    indexes = select(file, "SELECT tbl_name FROM sqlite_master WHERE type = 'index' AND sql > ''")
    assert {table for (table,) in indexes} == {"images", "predictions"}
    assert select(file, "PRAGMA page_size") == [(4096,)]
    assert select(file, "PRAGMA foreign_key_check") == []


def test_logits_and_numbers_that_are_none(tmp_path):
    nan, infinity = float("nan"), float("inf")
    row = Classified(
        "a", (Prediction(1, 0, "", "x", nan, -0.0), Prediction(2, 1, "", "y", 0.1234567, infinity))
    )
    file = write_results(tmp_path / "a.db", [row], logits=True)
    assert select(file, "SELECT probability, logit FROM predictions") == [
        (None, 0.0),
        (0.123457, None),
    ]


def test_the_sqlite3_program_opens_it_and_nothing_is_left_beside(tmp_path):
    file = write_results(tmp_path / "labels.sqlite", ROWS)
    command = [
        "sqlite3",
        "-readonly",
        str(file),
        "PRAGMA integrity_check; SELECT path FROM images ORDER BY id;",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["ok", "a.jpg", "odd-\\xff.png", "broken.jpg", "none.jpg"]
    assert [path.name for path in tmp_path.iterdir()] == ["labels.sqlite"]


def test_the_same_rows_give_the_same_bytes(tmp_path):
    rows = [labelled(f"{n}.jpg", DOG, (GOLDEN, n / 5000)) for n in range(2000)]
    first = write_results(tmp_path / "1.db", rows).read_bytes()
    assert write_results(tmp_path / "2.db", iter(rows)).read_bytes() == first


def test_an_error_leaves_no_file(tmp_path):
    def rows():
        yield ROWS[0]
        raise OSError("the disk with the rows has gone")

    results = Results(
        "labels",
        rows,
        Summary(),
        b"{" + b'"tool":{},"runtime":{},"model":{},"preprocessing":{},"options":{},"summary":{}}',
    )
    with (
        pytest.raises(OSError, match="has gone"),
        open_outputs(tmp_path / "a.db", overwrite=False) as streams,
    ):
        FORMATS["sqlite"].write(results, streams)
    assert [path.name for path in tmp_path.iterdir()] == []


def test_classify_writes_it_and_resume_reads_it(nasnet, tiny_module, label_file, tmp_path):
    from support.killing import make_images

    make_images(tmp_path / "photos", 3)
    arguments = ("classify", "photos", "-m", tiny_module, "--labels", label_file)
    nasnet(*arguments, "-o", "labels.db", cwd=tmp_path, expect=0)
    lines = nasnet(*arguments, cwd=tmp_path, expect=0).rows
    assert select(tmp_path / "labels.db", "SELECT path, sure_wnid FROM images") == [
        (row["path"], row["sure"] and row["sure"]["wnid"]) for row in lines
    ]
    assert not (tmp_path / "labels.db.meta.json").exists()
    again = nasnet(*arguments, "-o", "labels.db", "--resume", cwd=tmp_path, expect=0)
    assert "already complete" in again.stderr
    other = nasnet(*arguments, "-o", "labels.db", "--resume", "--top", 2, cwd=tmp_path, expect=1)
    assert "--top 5" in other.stderr
    piped = nasnet(*arguments, "--format", "sqlite", cwd=tmp_path, expect=2)
    assert "--format sqlite needs --out" in piped.stderr


def test_a_name_that_sqlite_would_read_as_a_uri(nasnet, tmp_path):
    file = write_results(tmp_path / "file:a?b %20#.db", [labelled(tmp_path, DOG)])
    assert nasnet("find", "dog", file, expect=0).stdout == f"{tmp_path}\n"


def test_everyday_probabilities_that_are_nan(tmp_path):
    row = Classified("a", (), sure=Everyday(DOG, "dog", float("nan")))
    file = write_results(tmp_path / "a.db", [row])
    assert select(file, "SELECT sure_label, sure_probability FROM images") == [("dog", None)]


def test_a_full_disk_is_an_error_in_words(tmp_path, monkeypatch):
    from nasnet_cli.results import sqlite

    # A file limit of SQLite's own, which it reports as a full disk.
    monkeypatch.setattr(sqlite, "_TABLES", "PRAGMA max_page_count = 4;" + sqlite._TABLES)
    rows = [labelled(f"{n}.jpg", DOG) for n in range(2000)]
    with pytest.raises(OutputError, match=r"a\.db: there is no space left on the disk"):
        write_results(tmp_path / "a.db", rows)
    assert [path.name for path in tmp_path.iterdir()] == []


VIEW = """
DROP TABLE images;
CREATE VIEW images AS WITH RECURSIVE n (id) AS (SELECT 1 UNION ALL SELECT id + 1 FROM n)
SELECT id, 'a' AS path, NULL AS path_bytes, 'ok' AS status, NULL AS error_kind, NULL AS error,
    NULL AS sure_wnid, NULL AS sure_label, NULL AS sure_probability FROM n;
"""


@pytest.mark.parametrize(
    "change",
    [
        VIEW,
        "UPDATE images SET path = x'ff'",
        "UPDATE images SET sure_wnid = 'n02084071'",
        "UPDATE images SET error_kind = x'00', error = 'a'",
        "UPDATE predictions SET label = x'00'",
        "UPDATE predictions SET rank = 'a' WHERE rank = 1",
        "UPDATE predictions SET probability = 'a'",
    ],
)
def test_a_forged_file_is_refused(change, nasnet, tiny_module, tmp_path):
    Image.new("RGB", (9, 9)).save(tmp_path / "a.png")
    classify = ("classify", "a.png", "-m", tiny_module, "-o", "a.db")
    nasnet(*classify, expect=0, cwd=tmp_path)
    with closing(sqlite3.connect(tmp_path / "a.db")) as database:
        database.executescript(change)
    refused = nasnet("sort", "a.db", "--into", "b", "--dry-run", expect=1, cwd=tmp_path)
    assert "a.db does not hold the labels of images: " in refused.stderr
