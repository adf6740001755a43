"""nasnet similar and nasnet duplicates as a user runs them."""

from __future__ import annotations

import csv
import io
import json

import numpy as np
import pytest
from PIL import Image

# The tiny module's weights are random, so that all images are much alike to it.
NEAR = ("--threshold", 0.999)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Eight images: 6 is 1 at another quality, 7 is 2 made smaller; 3 is not an image."""
    folder = tmp_path_factory.mktemp("similar")
    (folder / "photos").mkdir()
    random = np.random.default_rng(5)
    for i in range(6):
        coarse = random.integers(0, 256, (4, 4, 3), np.uint8)
        image = Image.fromarray(coarse).resize((120, 90), Image.Resampling.BICUBIC)
        image.save(folder / "photos" / f"{i}.png")
    photos = folder / "photos"
    Image.open(photos / "1.png").save(photos / "6.jpg", quality=60)
    Image.open(photos / "2.png").resize((80, 60)).save(photos / "7.png")
    (photos / "3.png").write_bytes(b"broken")
    return folder


@pytest.fixture(scope="module")
def index(nasnet, folder, tiny_module):
    done = nasnet("embed", "photos", "-m", tiny_module, "-o", "v.npy", cwd=folder)
    assert done.exit_code == 3
    return folder / "v.npy"


def test_image_finds_itself_and_its_copy(nasnet, folder, index, tiny_module):
    done = nasnet("similar", "photos/6.jpg", "--index", index, "-m", tiny_module, cwd=folder)
    assert done.exit_code == 0, done.stderr
    (found,) = map(json.loads, done.stdout.splitlines())
    assert (found["path"], found["status"]) == ("photos/6.jpg", "ok")
    assert [match["rank"] for match in found["matches"]] == list(range(1, 8))
    first, second = found["matches"][:2]
    assert first == {"rank": 1, "row": 5, "path": "photos/6.jpg", "similarity": 1.0}
    assert (second["row"], second["path"]) == (1, "photos/1.png")
    assert 0.97 < second["similarity"] < 1


def test_queries_are_preprocessed_like_the_index(nasnet, folder, index, tiny_module):
    nasnet("embed", "photos", "-m", tiny_module, "-o", "pad.npy", "--resize", "pad", cwd=folder)
    for name in ("v.npy", "pad.npy"):
        done = nasnet("similar", "photos/0.png", "--index", name, "-m", tiny_module, cwd=folder)
        assert json.loads(done.stdout)["matches"][0]["similarity"] == 1


@pytest.mark.parametrize("options", [("--normalize",), ("--dtype", "float16")])
def test_normalized_and_half_precision_indexes(
    nasnet, folder, index, tiny_module, tmp_path, options
):
    out = tmp_path / "other.npy"
    nasnet("embed", "photos", "-m", tiny_module, "-o", out, *options, cwd=folder)
    arguments = ("similar", "photos/7.png", "-m", tiny_module, "--top", 3, "--index")
    first, second = (
        json.loads(nasnet(*arguments, path, cwd=folder).stdout)["matches"] for path in (index, out)
    )
    assert [match["path"] for match in first] == [match["path"] for match in second]
    for one, other in zip(first, second, strict=True):
        assert one["similarity"] == pytest.approx(other["similarity"], abs=1e-3)


def test_failing_query_has_an_error_row(nasnet, folder, index, tiny_module):
    done = nasnet(
        *("similar", "photos", "nope.jpg", "--index", index, "-m", tiny_module, "--top", 1),
        cwd=folder,
    )
    assert done.exit_code == 3
    rows = done.rows
    assert [row["path"] for row in rows[:3]] == ["photos/0.png", "photos/1.png", "photos/2.png"]
    assert [row["status"] for row in rows].count("error") == 2
    assert rows[3]["error"]["kind"] == "not_an_image" and rows[8]["error"]["kind"] == "not_found"
    assert "9 images: 7 looked up; 2 errors: " in done.stderr


def test_similar_in_every_format(nasnet, folder, index, tiny_module, tmp_path):
    arguments = ("similar", "photos/6.jpg", "nope.jpg", "--index", "v.npy", "-m", tiny_module)
    for name in ("o.json", "o.jsonl", "o.csv"):
        nasnet(*arguments, "--top", 2, "-o", tmp_path / name, cwd=folder)
    document = json.loads((tmp_path / "o.json").read_text())
    lines = [json.loads(line) for line in (tmp_path / "o.jsonl").read_text().splitlines()]
    assert document["results"] == lines
    assert document["index"] == {"location": "v.npy", "rows": 7, "depth": 192}
    assert (document["summary"]["ok"], document["model"]["classes"]) == (1, 7)
    rows = list(csv.DictReader(io.StringIO((tmp_path / "o.csv").read_text())))
    assert [(row["rank"], row["match"]) for row in rows] == [
        ("1", "photos/6.jpg"),
        ("2", "photos/1.png"),
        ("", ""),
    ]
    assert rows[2]["error_kind"] == "not_found"
    meta = json.loads((tmp_path / "o.csv.meta.json").read_text())
    assert meta["options"] == {"index": "v.npy", "max_pixels": 200_000_000, "min": -1, "top": 2}
    table = nasnet(*arguments, "--top", 2, "--format", "table", cwd=folder).stdout.splitlines()
    assert table[0] == "photos/6.jpg" and table[1] == "   1   1.0000  photos/6.jpg"
    assert table[3:] == ["nope.jpg", "      not_found: There is no such file."]


def test_index_of_another_model_is_refused(nasnet, folder, index):
    done = nasnet("similar", "photos/0.png", "--index", index, cwd=folder)
    assert (done.exit_code, done.stdout) == (1, "")
    assert "v.npy was made with another model: " in done.stderr and "--model" in done.stderr


def test_index_of_another_preprocessing_is_refused(nasnet, folder, index, tiny_module, tmp_path):
    meta = json.loads((folder / "v.npy.meta.json").read_text())
    for name in ("v.npy", "v.jsonl"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    for change in ({"size": [224, 224]}, {"resize": "fold"}, {"digest": "0" * 64}):
        changed = {**meta, "preprocessing": {**meta["preprocessing"], **change}}
        if "digest" not in change:
            changed["preprocessing"]["digest"] = "1" * 64
        (tmp_path / "v.npy.meta.json").write_text(json.dumps(changed))
        done = nasnet(
            *("similar", folder / "photos/0.png", "--index", tmp_path / "v.npy"),
            *("-m", tiny_module),
        )
        assert done.exit_code == 1 and "preprocessing" in done.stderr


@pytest.mark.parametrize("content", [None, "", "{}", "[1]", '{"model": 3, "preprocessing": {}}'])
def test_index_without_meta_is_refused(nasnet, folder, index, tmp_path, content):
    for name in ("v.npy", "v.jsonl"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    if content is not None:
        (tmp_path / "v.npy.meta.json").write_text(content)
    done = nasnet("similar", folder / "photos/0.png", "--index", tmp_path / "v.npy")
    assert done.exit_code == 1
    assert "v.npy.meta.json" in done.stderr and "which model" in done.stderr
    # Groups need no model.
    assert nasnet("duplicates", tmp_path / "v.npy").exit_code == 0


def test_matches_below_the_minimum_are_left_out(nasnet, folder, index, tiny_module):
    arguments = ("similar", "photos/6.jpg", "--index", index, "-m", tiny_module, "--min")
    (found,) = nasnet(*arguments, 0.97, cwd=folder, expect=0).rows
    everything = nasnet(*arguments, -1, cwd=folder, expect=0).rows[0]["matches"]
    assert found["matches"] == [one for one in everything if one["similarity"] >= 0.97]
    assert [match["row"] for match in found["matches"][:2]] == [5, 1]
    assert nasnet(*arguments, 2, cwd=folder).exit_code == 2


def test_an_image_of_the_index_needs_no_file_and_no_model(nasnet, folder, index, tmp_path):
    for name in ("v.npy", "v.jsonl"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    arguments = ("similar", "photos/6.jpg", "photos/0.png", "--index", "v.npy", "--top", 1)
    done = nasnet(*arguments, cwd=tmp_path, expect=0)
    assert [row["path"] for row in done.rows] == ["photos/6.jpg", "photos/0.png"]
    assert [row["matches"][0]["row"] for row in done.rows] == [5, 0]
    assert all(row["matches"][0]["similarity"] == 1 for row in done.rows)
    refused = nasnet(*arguments, "-m", "builtin", cwd=tmp_path, expect=2)
    assert "photos/6.jpg is an image of v.npy" in refused.stderr
    # A path that is in neither has its row, once the model is known.
    assert nasnet(*arguments, "nope.jpg", cwd=tmp_path).exit_code == 1


def test_queries_can_be_vectors(nasnet, folder, index, tiny_module, tmp_path):
    nasnet("embed", "photos/2.png", "-m", tiny_module, "-o", tmp_path / "q.npy", cwd=folder)
    arguments = ("similar", tmp_path / "q.npy", "--index", index)
    done = nasnet(*arguments, "-o", tmp_path / "o.json", expect=0)
    document = json.loads((tmp_path / "o.json").read_text())
    (found,) = document["results"]
    assert found["path"] == "photos/2.png" and found["matches"][0]["row"] == 2
    assert document["summary"] == {"inputs": 1, "ok": 1, "failed": 0}
    assert "1 vector looked up" in done.stderr and "is missing" not in done.stderr
    assert nasnet(*arguments, "--exclude", "x").exit_code == 2
    # Without lines beside it, it can be any array, whose model nothing tells.
    for array, names in (
        (np.load(index)[4].astype(np.float64), ["one.npy"]),
        (np.load(index)[:2] * 3, ["one.npy#0", "one.npy#1"]),
    ):
        np.save(tmp_path / "one.npy", array)
        done = nasnet("similar", "one.npy", "--index", index, "--top", 1, cwd=tmp_path, expect=0)
        assert [row["path"] for row in done.rows] == names
        assert all(row["matches"][0]["similarity"] > 0.999999 for row in done.rows)
        assert "one.npy.meta.json is missing" in done.stderr


@pytest.mark.parametrize("array", [np.ones((2, 5), np.float32), np.ones(3), np.ones((192,), int)])
def test_vectors_of_another_kind_are_refused(nasnet, index, tmp_path, array):
    np.save(tmp_path / "q.npy", array)
    done = nasnet("similar", tmp_path / "q.npy", "--index", index, expect=1)
    assert ("q.npy" in done.stderr and "values" in done.stderr) or "holds int64" in done.stderr


@pytest.mark.parametrize("section", ["model", "preprocessing"])
def test_vectors_of_another_model_are_refused(nasnet, index, folder, tmp_path, section):
    for name in ("v.npy", "v.jsonl"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    meta = json.loads((folder / "v.npy.meta.json").read_text())
    meta[section]["digest"] = "0" * 64
    (tmp_path / "v.npy.meta.json").write_text(json.dumps(meta))
    done = nasnet("similar", tmp_path / "v.npy", "--index", index, expect=1)
    assert f"was made with another {section} than" in done.stderr


def test_queries_have_the_range_and_channels_of_the_index(nasnet, folder, tiny_module, tmp_path):
    more = ("--input-range", "-1..1", "--channels", "bgr")
    nasnet("embed", "photos/0.png", "-m", tiny_module, "-o", tmp_path / "v.npy", *more, cwd=folder)
    query = ("similar", "photos/0.png", "--index", tmp_path / "v.npy", "-m", tiny_module)
    (found,) = nasnet(*query, cwd=folder, expect=0).rows
    assert found["matches"][0]["similarity"] == 1


def test_near_duplicates_are_found(nasnet, folder, index):
    done = nasnet("duplicates", index, *NEAR, cwd=folder)
    groups = done.rows
    found = [[member["path"] for member in group["members"]] for group in groups]
    assert ["photos/1.png", "photos/6.jpg"] in found
    assert ["photos/2.png", "photos/7.png"] in found
    assert [member["role"] for member in groups[0]["members"]] == ["keep", "duplicate"]
    assert "7 vectors: 2 groups with 4 images" in done.stderr


def test_duplicates_in_every_format(nasnet, folder, index, tmp_path):
    base = ("--base", folder)
    for name in ("o.json", "o.jsonl", "o.csv"):
        done = nasnet("duplicates", index, *NEAR, *base, "-o", tmp_path / name)
        assert (done.exit_code, done.stdout) == (0, "")
    document = json.loads((tmp_path / "o.json").read_text())
    lines = [json.loads(line) for line in (tmp_path / "o.jsonl").read_text().splitlines()]
    assert document["groups"] == lines
    assert document["summary"] == {
        "vectors": 7,
        "without_direction": 0,
        "groups": 2,
        "grouped": 4,
        "duplicates": 2,
    }
    rows = list(csv.DictReader(io.StringIO((tmp_path / "o.csv").read_text())))
    assert [(row["group"], row["row"], row["role"], row["of"]) for row in rows] == [
        ("1", "1", "keep", ""),
        ("1", "5", "duplicate", "1"),
        ("2", "2", "keep", ""),
        ("2", "6", "duplicate", "2"),
    ]
    meta = json.loads((tmp_path / "o.csv.meta.json").read_text())
    assert meta["options"] == {
        "threshold": 0.999,
        "keep": "largest",
        "references": [],
        "across_folders": False,
    }
    assert meta["tool"]["name"] == "nasnet"
    table = nasnet("duplicates", index, *NEAR, *base, "--format", "table").stdout.splitlines()
    assert table[:2] == ["Group 1, 2 images", "  keep       1.0000  photos/1.png"]
    assert nasnet("duplicates", index, "-o", tmp_path / "o.csv").exit_code == 1
    assert nasnet("duplicates", index, "-o", tmp_path / "o.txt").exit_code == 2


def test_names_are_escaped(nasnet, folder, index, tmp_path):
    (tmp_path / "v.npy").write_bytes(index.read_bytes())
    names = ["=cmd().png", "\x1b[31m.png", "a\nb.png", "café.png", "b\\xff.png", "x,y.png", "z.png"]
    lines = [{"path": name, "status": "ok", "row": row} for row, name in enumerate(names)]
    lines[4]["path_bytes"] = "Yv8ucG5n"
    (tmp_path / "v.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    arguments = ("duplicates", tmp_path / "v.npy", "--threshold", 0.01)
    table = nasnet(*arguments, "--format", "table").stdout_bytes
    assert b"\x1b" not in table and b"\\x1b[31m.png" in table and b"a\\x0ab.png" in table
    rows = list(csv.reader(io.StringIO(nasnet(*arguments, "--format", "csv").stdout)))
    assert rows[1][2] == "./=cmd().png"
    (group,) = map(json.loads, nasnet(*arguments).stdout.splitlines())
    assert group["members"][4]["path_bytes"] == "Yv8ucG5n"


@pytest.mark.parametrize("value", ["0", "1.1", "-1", "x"])
def test_threshold_out_of_range_is_a_usage_error(nasnet, index, value):
    assert nasnet("duplicates", index, "--threshold", value).exit_code == 2
