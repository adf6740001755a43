"""nasnet report: what the page holds. tests/test_report_page.py opens it in a browser."""

from __future__ import annotations

import base64
import codecs
import hashlib
import io
import json
import os
import re
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nasnet_cli.report.entries import Entry
from nasnet_cli.report.links import link
from nasnet_cli.report.page import Page, script_data
from nasnet_cli.report.projection import ImageMap
from nasnet_cli.report.thumbnails import LARGEST, SIDE, Thumbnail, Thumbnails, encode
from nasnet_cli.results.records import Classified, Failure, Prediction
from support.labels import (
    ALL_FORMATS,
    BANANA,
    DOG,
    GOLDEN,
    LABRADOR,
    TABBY,
    failed,
    labelled,
    write_results,
)
from support.report import Report

PHOTOS = Path(__file__).parents[1] / "examples" / "photos"
ODD = os.fsdecode(b"odd-\xff.png")
HOSTILE = "</script><script>alert(1)</script><!--\u2028\u202e\x1b[31m&amp;'\".png"
ROWS = [
    labelled("wide.png", DOG, (GOLDEN, 0.4), (LABRADOR, 0.3), probability=0.8),
    labelled("tall.png", None, (TABBY, 0.3), (BANANA, 0.2)),
    failed("broken.png"),
    labelled("gone.png", TABBY, (TABBY, 0.9)),
]


def image(path, size=(80, 60), colour="teal"):
    Image.new("RGB", size, colour).save(path)
    return path


@pytest.fixture
def folder(tmp_path):
    image(tmp_path / "wide.png", (400, 200), "red")
    image(tmp_path / "tall.png", (30, 300), "blue")
    return tmp_path


def report_of(nasnet, results, *arguments, cwd=None):
    out = results.with_suffix(".html")
    done = nasnet("report", results, "-o", out, *arguments, cwd=cwd or results.parent, expect=0)
    return Report(out), done


def decoded(thumbnail):
    return Image.open(io.BytesIO(base64.b64decode(thumbnail)), formats=["WEBP"])


@pytest.mark.parametrize("format_", ALL_FORMATS)
def test_every_format_has_its_rows(format_, folder, nasnet):
    report, done = report_of(nasnet, write_results(folder / f"labels.{format_}", ROWS))
    wide, tall, broken, gone = report.rows
    assert [row["p"] for row in report.rows] == [row.path for row in ROWS]
    assert [(report.label(number), value) for number, value in wide["k"]] == [
        ("golden retriever", 0.4),
        ("Labrador retriever", 0.3),
    ]
    assert (report.label(wide["s"][0]), wide["s"][1]) == ("dog", 0.8)
    assert "s" not in tall and wide["u"] == "wide.png"
    assert broken["e"] == ["truncated", "It is cut short, = 1."] and "k" not in broken
    assert gone["t"] == "There is no such file."
    red, blue, *none = report.thumbnails
    assert decoded(red).size == (SIDE, SIDE // 2) and decoded(blue).size == (18, SIDE)
    assert np.asarray(decoded(red))[:, :, 0].min() > 240 and none == [None, None]
    assert "4 images, 1 that can no longer be read, without a thumbnail; 1 error: " in done.stderr
    assert report.texts["h1"] == report.texts["title"] == ["labels"]


def test_the_page_has_the_classes_above_its_labels_and_no_others(folder, nasnet):
    report, _ = report_of(nasnet, write_results(folder / "a.csv", ROWS))
    classes = report.about["classes"]
    names = {name for _, name, *_ in classes}
    assert {"dog", "animal", "banana", "tabby", "entity"} <= names and "vehicle" not in names
    assert all(
        parent < place for place, (*_, parents, _) in enumerate(classes) for parent in parents
    )
    (dog,) = [each for each in classes if each[0] == DOG]
    assert "Canis familiaris" in dog[2] and classes[dog[4]][1] == "canine"
    places = {text: place for text, _, place in report.about["labels"]}
    assert classes[places["golden retriever"]][0] == GOLDEN


def test_only_the_pages_own_script_and_style_may_run(folder, nasnet):
    report, _ = report_of(nasnet, write_results(folder / "a.csv", ROWS))
    for tag, directive in (("script", "script-src"), ("style", "style-src")):
        (text,) = report.texts[tag]
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{directive} 'sha256-{digest}'" in report.policy
    assert "default-src 'none'" in report.policy and "unsafe" not in report.policy
    for tag, attributes in report.tags:
        assert "style" not in attributes and not any(name.startswith("on") for name in attributes)
        assert tag != "base" and not re.match("(https?:)?//", attributes.get("src") or "")
        assert tag != "link" or attributes["href"] == "data:,"


def test_hostile_names_are_text(tmp_path, nasnet):
    # A file's name has no slash, those of an archive's member do.
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.write(image(tmp_path / "one.png"), HOSTILE)
    path = f"a.zip!/{HOSTILE}"
    label = "<b>=1</b> </script>"
    rows = [
        Classified(path, (Prediction(1, 0, "", label, 0.6),)),
        Classified(path, None, Failure("truncated", HOSTILE)),
    ]
    results = write_results(tmp_path / "labels.jsonl", rows)
    report, _ = report_of(nasnet, results, "--title", HOSTILE)
    shown = (
        HOSTILE.replace("\u2028", "\\u2028").replace("\u202e", "\\u202e").replace("\x1b", "\\x1b")
    )
    assert report.rows[0]["p"] == f"a.zip!/{shown}" and report.rows[1]["e"][1] == shown
    assert report.thumbnails[0] is not None and report.rows[0]["u"] == "a.zip"
    assert report.about["labels"][0][:2] == [label, label]
    assert report.texts["title"] == report.texts["h1"] == [shown]
    assert len([tag for tag, _ in report.tags if tag == "script"]) == 4
    data = results.with_suffix(".html").read_bytes()
    assert b"\x1b" not in data and "\u202e".encode() not in data and "\u2028".encode() not in data


def test_odd_bytes_have_a_link_that_opens_the_file(tmp_path, nasnet):
    image(tmp_path / ODD)
    odd = "#? %41&.png"
    image(tmp_path / odd)
    rows = [labelled(ODD, DOG), labelled(odd, DOG), labelled(tmp_path / ODD, DOG)]
    report, _ = report_of(nasnet, write_results(tmp_path / "a.jsonl", rows))
    assert [row["u"] for row in report.rows[:2]] == ["odd-%FF.png", "%23%3F%20%2541%26.png"]
    assert report.rows[2]["u"] == f"file://{tmp_path}/odd-%FF.png"
    assert report.rows[0]["p"] == "odd-\\xff.png" and None not in report.thumbnails


@pytest.mark.parametrize(
    ("path", "folder", "expected"),
    [
        ("a/b.jpg", ".", "a/b.jpg"),
        ("a/b.jpg", "out", "../a/b.jpg"),
        ("a/b.jpg", "a", "b.jpg"),
        ("c:d.jpg", ".", "c%3Ad.jpg"),
        ("javascript:alert(1)", ".", "javascript%3Aalert%281%29"),
        ("/x/y z.jpg", "out", "file:///x/y%20z.jpg"),
        ("//host/share.jpg", ".", "file:///host/share.jpg"),
        ("https://h/a%20b.jpg?x=1", ".", "https://h/a%20b.jpg?x=1"),
        ('https://h/"<', ".", "https://h/%22%3C"),
        ("s3://bucket/a.jpg", ".", ""),
        ("data://text/html,x", ".", ""),
    ],
)
def test_links(path, folder, expected):
    assert link(path, folder) == expected


def test_links_begin_at_the_pages_folder_and_images_at_the_base(folder, nasnet, tmp_path):
    (folder / "out").mkdir()
    results = write_results(folder / "out" / "labels.csv", ROWS)
    out = folder / "out" / "page.html"
    wrong = nasnet("report", results, "-o", out, cwd=folder / "out", expect=1)
    assert "None of the images exists" in wrong.stderr and "--base" in wrong.stderr
    assert [path.name for path in (folder / "out").iterdir()] == ["labels.csv"]
    nasnet("report", results, "-o", "page.html", "--base", "..", cwd=folder / "out", expect=0)
    assert Report(out).rows[0]["u"] == "../wide.png" and Report(out).thumbnails[0]


def test_an_existing_page_is_kept(folder, nasnet):
    results = write_results(folder / "a.csv", ROWS)
    report_of(nasnet, results)
    again = nasnet("report", results, "-o", folder / "a.html", cwd=folder, expect=1)
    assert "--overwrite" in again.stderr
    report_of(nasnet, results, "--overwrite")


def test_standard_input_and_output(folder, nasnet):
    data = write_results(folder / "a.jsonl", ROWS).read_bytes()
    done = nasnet("report", "-", "-o", "out.html", "-q", cwd=folder, stdin=data, expect=0)
    assert done.stderr == "" and len(Report(folder / "out.html").rows) == 4
    assert Report(folder / "out.html").texts["h1"] == ["Images"]


def test_files_of_other_kinds_are_refused(folder, nasnet):
    (folder / "other.jsonl").write_text('{"a": 1}\n')
    done = nasnet("report", "other.jsonl", "-o", "a.html", cwd=folder, expect=1)
    assert "does not hold the labels of images" in done.stderr
    assert not (folder / "a.html").exists()


def test_groups_of_duplicates(folder, nasnet):
    lines = [
        {"group": 1, "members": [member("wide.png", 1.0, role="keep"), member("tall.png", 0.98)]},
        {"group": 2, "members": [member(ODD, 1.0), member("gone.png", 0.97)]},
    ]
    image(folder / ODD)
    results = folder / "groups.jsonl"
    results.write_text("".join(json.dumps(line) + "\n" for line in lines))
    report, _ = report_of(nasnet, results)
    assert report.about["groups"] is True
    assert [row["g"] for row in report.rows] == [[1, 1.0], [1, 0.98], [2, 1.0], [2, 0.97]]
    assert report.rows[0]["r"] == "keep" and "r" not in report.rows[2]
    assert report.rows[2]["u"] == "odd-%FF.png" and report.thumbnails[2]


def test_the_mistakes_of_an_evaluation(folder, nasnet):
    image(folder / ODD)
    rows = [
        labelled("wide.png", None, (GOLDEN, 0.9)),
        labelled("tall.png", None, (TABBY, 0.6)),
        labelled(ODD, None, (BANANA, 0.8)),
    ]
    write_results(folder / "labels.jsonl", rows)
    true = f"path,label\nwide.png,{LABRADOR}\ntall.png,tabby\n".encode() + os.fsencode(ODD)
    (folder / "truth.csv").write_bytes(true + b",golden retriever\n")
    run = ("evaluate", "labels.jsonl", "--labels-from", "truth.csv")
    nasnet(*run, "--out", "found", "--no-plots", cwd=folder, expect=0)
    report, _ = report_of(nasnet, folder / "found" / "evaluation.json", cwd=folder)
    assert [(row["p"], row["c"]) for row in report.rows] == [
        ("wide.png", f"Labrador retriever ({LABRADOR})"),
        ("odd-\\xff.png", "golden retriever"),
    ]
    assert report.label(report.rows[0]["k"][0][0]) == "golden retriever"
    assert None not in report.thumbnails
    document = nasnet(*run, "--json", cwd=folder, expect=0).stdout
    piped = nasnet("report", "-", "-o", "p.html", cwd=folder, stdin=document.encode(), expect=0)
    assert "2 images" in piped.stderr
    none = nasnet(*run, "--json", "--mistakes", 0, cwd=folder, expect=0).stdout
    done = nasnet("report", "-", "-o", "n.html", cwd=folder, stdin=none.encode(), expect=1)
    assert "Standard input lists no mistakes." in done.stderr


def member(path, similarity, **more):
    raw = os.fsencode(path)
    names = {"path": path, "path_bytes": None}
    if path == ODD:
        names = {"path": "odd-\\xff.png", "path_bytes": base64.b64encode(raw).decode()}
    return {"row": 0, "similarity": similarity, **more, **{k: v for k, v in names.items() if v}}


def test_groups_come_from_the_command_itself(tmp_path, nasnet, tiny_module):
    for name in "abc":
        shutil.copy(PHOTOS / "cat.jpg", tmp_path / f"{name}.jpg")
    nasnet("embed", ".", "-o", "v.npy", "-m", tiny_module, cwd=tmp_path, expect=0)
    for ending in ("json", "csv", "jsonl"):
        nasnet("duplicates", "v.npy", "-o", f"{ending}.{ending}", cwd=tmp_path, expect=0)
    marked = codecs.BOM_UTF8 + (tmp_path / "csv.csv").read_bytes()  # as spreadsheets save it
    (tmp_path / "marked.csv").write_bytes(marked)
    names = ("json.json", "csv.csv", "marked.csv")
    same = [report_of(nasnet, tmp_path / name)[0].rows for name in names]
    report, _ = report_of(nasnet, tmp_path / "jsonl.jsonl", "--vectors", "v.npy")
    assert [(row["p"], row["g"]) for row in report.rows] == [
        (f"./{name}.jpg", [1, 1.0]) for name in "abc"
    ]
    assert [row["r"] for row in report.rows] == ["keep", "duplicate", "duplicate"]
    assert report.about["map"] == "principal components"
    assert all(len(row.pop("m")) == 2 for row in report.rows)
    assert same == [report.rows] * 3
    done = nasnet("find", "dog", "csv.csv", cwd=tmp_path, expect=1)
    assert "does not hold the labels of images: there is no column status" in done.stderr


def test_classify_writes_a_report_too(tmp_path, nasnet, tiny_module):
    shutil.copy(PHOTOS / "cat.jpg", tmp_path)
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    names = ["-o", "labels.db", "--report", "page.html"]
    command = ["classify", ".", "-m", tiny_module, *names, "--embed", "v.npy"]
    done = nasnet(*command, cwd=tmp_path, expect=3)
    assert "page.html: 2 images; 1 error: " in done.stderr
    report = Report(tmp_path / "page.html")
    assert [row["p"] for row in report.rows] == ["./broken.jpg", "./cat.jpg"]
    assert report.thumbnails[1] and report.rows[1]["m"] and report.about["map"]
    for name in ("labels.db", "v.npy", "v.jsonl", "v.npy.meta.json"):
        (tmp_path / name).unlink()
    again = nasnet(*command, cwd=tmp_path, expect=1)
    assert "page.html already exists" in again.stderr and not (tmp_path / "labels.db").exists()
    nasnet(*command, "--overwrite", cwd=tmp_path, expect=3)


@pytest.mark.parametrize("out", ["./labels.jsonl", "labels.jsonl.meta.json"])
def test_a_report_never_replaces_its_results(out, tmp_path, nasnet, tiny_module):
    command = ["classify", PHOTOS, "-m", tiny_module, "-o", "labels.jsonl", "--report", out]
    done = nasnet(*command, cwd=tmp_path, expect=1)
    assert f"Two outputs would be written to {out}." in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "more", [[], ["-o", "a.txt", "--format", "table"], ["-o", "job", "--shards", 2]]
)
def test_a_report_needs_results_to_read(more, tmp_path, nasnet, tiny_module):
    command = ["classify", PHOTOS, "-m", tiny_module, "--report", "page.html", *more]
    assert "--report" in nasnet(*command, cwd=tmp_path, expect=2).stderr
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_fetched(tmp_path, nasnet):
    rows = [labelled("https://nowhere.invalid/a.jpg", DOG)]
    report, _ = report_of(nasnet, write_results(tmp_path / "a.csv", rows))
    assert report.rows[0]["t"] == "Nothing is fetched for a report."
    assert report.rows[0]["u"] == "https://nowhere.invalid/a.jpg"


def test_images_of_every_kind_have_thumbnails(tmp_path, nasnet):
    image(tmp_path / "a.tif", (90, 30), "lime")  # decoded in a process of its own
    image(tmp_path / "b.gif", (30, 90), "lime")
    grey = image(tmp_path / "c.png", (50, 50), (128, 128, 128))
    shutil.copy(PHOTOS / "espresso_sideways.jpg", tmp_path / "d.jpg")
    (tmp_path / "e.jpg").write_bytes((PHOTOS / "cat.jpg").read_bytes()[:2000])
    (tmp_path / "f.jpg").mkdir()
    rows = [labelled(path.name, DOG) for path in sorted(tmp_path.iterdir())]
    report, _ = report_of(nasnet, write_results(tmp_path / "labels.csv", rows))
    sizes = [decoded(data).size for data in report.thumbnails[:4]]
    assert sizes[:3] == [(SIDE, 59), (59, SIDE), (SIDE, SIDE)] and grey.exists()
    assert sizes[3][0] > sizes[3][1]  # turned upright
    assert report.thumbnails[4:] == [None, None]
    assert [row.get("t") for row in report.rows[4:]] == [
        "The JPEG image ends too early.",
        "It is a folder.",
    ]


def test_thumbnails_are_small_whatever_they_show():
    noise = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
    photo = np.asarray(Image.open(PHOTOS / "rocket.jpg").resize((SIDE, 118)))
    assert len(encode(photo)) <= LARGEST
    assert len(encode(noise)) < 2 * LARGEST


def test_thumbnails_come_in_order_and_only_some_are_ahead(tmp_path):
    image(tmp_path / "a.png")
    taken = []

    def items():
        for number in range(100):
            taken.append(number)
            yield number

    with Thumbnails(2) as thumbnails:
        found = thumbnails.of(items(), lambda number: str(tmp_path / "a.png"))
        first, thumbnail = next(found)
        assert first == 0 and thumbnail is not None and thumbnail.webp
        assert len(taken) <= 8
        assert [number for number, _ in found] == list(range(1, 100))


def test_the_page_is_written_while_entries_come():
    stream = io.BytesIO()
    sizes = []

    def entries():
        for number in range(1000):
            sizes.append(stream.tell())
            yield Entry(labelled(f"{number}.jpg", DOG)), Thumbnail(bytes(1000))

    assert Page("t", "s").write(entries(), stream) == stream.tell()
    steps = np.diff(sizes[200:])
    assert steps.max() < 200_000 and sizes[-1] - sizes[200] > 700 * 1000


def test_data_of_a_script_cannot_end_it():
    text = script_data(["</script>", "<!--", "\u2028", "\udcff"])
    assert "<" not in text and "\u2028" not in text
    assert json.loads(text) == ["</script>", "<!--", "\u2028", "\\xff"]


def test_places_on_the_map_are_principal_components(tmp_path):
    rng = np.random.default_rng(1)
    vectors = (rng.normal(size=(40, 6)) * [9, 5, 1, 1, 1, 1] + 3).astype(np.float32)
    vectors[7] = 0  # no direction
    write_vectors(tmp_path, vectors)
    found = ImageMap(str(tmp_path / "v.npy"))
    assert found.place("7.jpg") is None and found.place("other.jpg") is None
    kept = np.delete(vectors, 7, axis=0).astype(np.float64)
    units = kept / np.linalg.norm(kept, axis=1, keepdims=True)
    _, _, axes = np.linalg.svd(units - units.mean(axis=0), full_matrices=False)
    expected = (units - units.mean(axis=0)) @ axes[:2].T
    places = np.array([found.place(f"{row}.jpg") for row in range(40) if row != 7])
    assert places.min() >= 0 and places.max() <= 1
    assert np.allclose(
        distances(places) / distances(places).max(),
        distances(expected) / distances(expected).max(),
        atol=1e-3,
    )


def test_vectors_of_other_images_are_refused(folder, nasnet):
    results = write_results(folder / "a.csv", ROWS)
    write_vectors(folder, np.ones((2, 3), np.float32))
    done = nasnet("report", results, "-o", "a.html", "--vectors", "v.npy", cwd=folder, expect=1)
    assert "None of the images has a vector in v.npy" in done.stderr
    assert not (folder / "a.html").exists()


@pytest.mark.parametrize("shape", [(0, 4), (1, 4), (3, 1)])
def test_a_map_of_next_to_nothing(shape, tmp_path):
    write_vectors(tmp_path, np.ones(shape, np.float32))
    found = ImageMap(str(tmp_path / "v.npy"))
    assert [found.place(f"{row}.jpg") for row in range(shape[0])] == [[0.5, 0.5]] * shape[0]


STAND_IN = """
import os, warnings
class UMAP:
    def __init__(self, metric, random_state): os.write(2, b"chatter")
    def fit_transform(self, units): warnings.warn("chatter"); return units[:, :2] * [1, 0.5]
"""


def test_umap_is_used_where_it_is_installed(tmp_path, monkeypatch, capfd):
    # umap-learn brings 300 MB of packages and takes a minute to start.
    (tmp_path / "umap.py").write_text(STAND_IN)
    monkeypatch.syspath_prepend(tmp_path)
    vectors = np.random.default_rng(2).normal(size=(50, 4)).astype(np.float32)
    vectors[7] = 0
    write_vectors(tmp_path, vectors)
    found = ImageMap(str(tmp_path / "v.npy"))
    assert found.method == "UMAP" and found.place("7.jpg") is None
    firsts = vectors[:, 0] / np.maximum(np.linalg.norm(vectors, axis=1), 1e-9)
    firsts[7] = np.nan
    assert found.place(f"{np.nanargmin(firsts)}.jpg")[0] == 0
    assert found.place(f"{np.nanargmax(firsts)}.jpg")[0] == 1
    assert capfd.readouterr().err == ""
    write_vectors(tmp_path, vectors[:49])
    assert ImageMap(str(tmp_path / "v.npy")).method == "principal components"


def write_vectors(folder, vectors):
    np.save(folder / "v.npy", vectors)
    lines = (
        json.dumps({"path": f"{n}.jpg", "status": "ok", "row": n}) for n in range(len(vectors))
    )
    (folder / "v.jsonl").write_text("".join(f"{line}\n" for line in lines))


def distances(points):
    return np.linalg.norm(points[:, None] - points[None], axis=2)
