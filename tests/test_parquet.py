"""Parquet and .npz files as their readers see them."""

from __future__ import annotations

import json
import os
import sys

import numpy as np
import pytest
from PIL import Image

from support.killing import run

pa = pytest.importorskip("pyarrow")
import pyarrow.parquet as pq  # noqa: E402  (only after it is known to be there)

ODD = os.fsdecode(b"odd-\xff.png")
NAMES = ["0.png", "1.png", "2-broken.png", "3.png", ODD]
HIDDEN_PYARROW = (
    "import sys; sys.modules['pyarrow'] = None\nfrom nasnet_cli.cli.main import run\nrun()\n"
)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Five inputs: the third is damaged, the last one's name is not UTF-8."""
    folder = tmp_path_factory.mktemp("photos")
    random = np.random.default_rng(4)
    for name in NAMES:
        pixels = random.integers(0, 256, (40, 50, 3), np.uint8)
        Image.fromarray(pixels).save(folder / name)
    (folder / "2-broken.png").write_bytes(b"broken")
    return folder


@pytest.fixture(scope="module")
def outputs(nasnet, photos, tiny_module, label_file, tmp_path_factory):
    """The outputs of the commands for them, in each format that is tested here."""
    folder = tmp_path_factory.mktemp("outputs")
    for labels, vectors, more in (
        ("labels.jsonl", "vectors.npy", ()),
        ("labels.parquet", "vectors.parquet", ()),
        ("logits.parquet", "vectors.npz", ("--logits", "--top", 2)),
        ("none.parquet", "half.parquet", ("--threshold", 1, "--dtype", "float16")),
    ):
        outs = ("-o", folder / labels, "--embed", folder / vectors)
        labelled = ("--labels", label_file, "--sure", 0.3)
        nasnet("classify", photos, "-m", tiny_module, *labelled, *outs, *more, expect=3)
    return folder


def test_labels_are_typed_and_nested(outputs):
    schema = pq.read_schema(outputs / "labels.parquet")
    assert schema.names == ["path", "path_bytes", "status", "error", "predictions", "sure"]
    assert schema.field("sure").type == pa.struct(
        [("wnid", pa.string()), ("label", pa.string()), ("probability", pa.float64())]
    )
    assert schema.field("path_bytes").type == pa.binary()
    prediction = schema.field("predictions").type.value_type
    types = {field.name: field.type for field in prediction}
    assert types == {
        "rank": pa.int32(),
        "index": pa.int32(),
        "wnid": pa.string(),
        "label": pa.string(),
        "probability": pa.float64(),
    }
    logits = pq.read_schema(outputs / "logits.parquet").field("predictions").type.value_type
    assert logits.field("logit").type == pa.float64()


def test_labels_are_those_of_the_json_lines(outputs):
    rows = pq.read_table(outputs / "labels.parquet").to_pylist()
    lines = [json.loads(line) for line in (outputs / "labels.jsonl").read_text().splitlines()]
    assert [row["path"] for row in rows] == [line["path"] for line in lines]
    assert [row["status"] for row in rows] == ["ok", "ok", "error", "ok", "ok"]
    for row, line in zip(rows, lines, strict=True):
        assert row["predictions"] == line.get("predictions")
        assert row["sure"] == line.get("sure")
        assert row["error"] == line.get("error")
    assert rows[2]["error"]["kind"] == "not_an_image"
    assert rows[2]["sure"] is None
    assert any(row["sure"] for row in rows)


@pytest.mark.parametrize("name", ["labels.parquet", "vectors.parquet"])
def test_a_name_that_is_not_utf_8_keeps_its_bytes(name, outputs, photos):
    *rest, odd = pq.read_table(outputs / name).to_pylist()
    assert odd["path_bytes"] == os.fsencode(photos / ODD)
    assert odd["path"].isprintable()
    assert [row["path_bytes"] for row in rest] == [None] * 4


def test_no_labels_are_an_empty_list_and_an_error_is_null(outputs):
    rows = pq.read_table(outputs / "none.parquet").to_pylist()
    assert [row["predictions"] for row in rows] == [[], [], None, [], []]


@pytest.mark.parametrize("name", ["labels.parquet", "vectors.parquet"])
def test_files_hold_their_own_description(name, outputs):
    meta = json.loads(pq.read_metadata(outputs / name).metadata[b"nasnet"])
    beside = json.loads((outputs / "labels.jsonl.meta.json").read_text())
    assert {**meta, "summary": None} == {**beside, "summary": None}
    assert (meta["summary"]["ok"], meta["summary"]["failed"]) == (4, 1)
    assert not (outputs / f"{name}.meta.json").exists()


def test_arrow_reads_vectors_of_fixed_size(outputs):
    column = pq.read_table(outputs / "vectors.parquet")["vector"].combine_chunks()
    assert column.type == pa.list_(pa.float32(), 192)
    assert column.is_null().to_pylist() == [False, False, True, False, False]
    numbers = column.drop_null().flatten().to_numpy().reshape(-1, 192)
    np.testing.assert_array_equal(numbers, np.load(outputs / "vectors.npy"))


def test_half_precision_vectors(outputs):
    column = pq.read_table(outputs / "half.parquet")["vector"].combine_chunks()
    assert column.type == pa.list_(pa.float16(), 192)
    numbers = column.drop_null().flatten().to_numpy().reshape(-1, 192)
    whole = np.load(outputs / "vectors.npy")
    np.testing.assert_array_equal(numbers, whole.astype(np.float16))


def test_duckdb_computes_with_the_vectors(outputs):
    duckdb = pytest.importorskip("duckdb")
    vectors = outputs / "vectors.parquet"
    failed = duckdb.sql(f"SELECT status FROM '{vectors}' WHERE vector IS NULL").fetchall()
    assert failed == [("error",)]
    found = duckdb.sql(
        "SELECT array_cosine_similarity(vector::FLOAT[192], vector::FLOAT[192]) "
        f"FROM '{vectors}' WHERE status = 'ok'"
    ).fetchall()
    np.testing.assert_allclose(found, np.ones((4, 1)), rtol=1e-5)
    labels = duckdb.sql(
        f"SELECT path, predictions[1].label FROM '{outputs / 'labels.parquet'}' WHERE status = 'ok'"
    ).fetchall()
    assert len(labels) == 4


def test_polars_reads_vectors_as_arrays(outputs):
    polars = pytest.importorskip("polars")
    table = polars.read_parquet(outputs / "vectors.parquet")
    assert table.schema["vector"] == polars.Array(polars.Float32, 192)
    numbers = table["vector"].drop_nulls().to_numpy()
    np.testing.assert_array_equal(numbers, np.load(outputs / "vectors.npy"))
    assert table["vector"].null_count() == 1


def test_an_npz_holds_vectors_paths_and_its_description(outputs, photos):
    with np.load(outputs / "vectors.npz") as arrays:  # without pickle
        np.testing.assert_array_equal(arrays["vectors"], np.load(outputs / "vectors.npy"))
        paths = arrays["paths"].tolist()
        assert paths[:3] == [str(photos / name) for name in ("0.png", "1.png", "3.png")]
        assert len(paths) == 4
        lines = arrays["rows.jsonl"]
        meta = json.loads(arrays["meta.json"])
    assert lines == (outputs / "vectors.jsonl").read_bytes()
    assert meta["summary"]["failed"] == 1
    assert not (outputs / "vectors.npz.meta.json").exists()


@pytest.mark.parametrize(("command", "out"), [("classify", "a.parquet"), ("embed", "b.parquet")])
def test_without_pyarrow_one_sentence_says_what_to_install(
    command, out, photos, tiny_module, tmp_path, cache_folder
):
    hidden = [sys.executable, "-c", HIDDEN_PYARROW]
    done = run(hidden, command, photos, "-m", tiny_module, "-o", tmp_path / out)
    assert done.returncode == 1
    assert "need the package pyarrow" in done.stderr and "nasnet-cli[parquet]" in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.glob("*.parquet")) == list(tmp_path.glob(".*")) == []
