"""nasnet find: words, probabilities, paths."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import pytest

from nasnet_cli.results.records import Classified, Everyday, Prediction
from support.cli import NASNET
from support.labels import (
    ALL_FORMATS,
    ANIMAL,
    BANANA,
    BIRD_CRANE,
    DOG,
    GOLDEN,
    LABRADOR,
    MACHINE_CRANE,
    TABBY,
    failed,
    labelled,
    write_results,
)

ODD = os.fsdecode(b"odd-\xff.jpg")
ROWS = [
    labelled("sure.jpg", DOG, (GOLDEN, 0.4), (LABRADOR, 0.3), probability=0.8),
    labelled("sum.jpg", ANIMAL, (GOLDEN, 0.3), (TABBY, 0.3), (LABRADOR, 0.2)),
    labelled("cat.jpg", TABBY, (TABBY, 0.9)),
    labelled("little.jpg", None, (GOLDEN, 0.3), (BANANA, 0.2)),
    failed("broken.jpg"),
    Classified("none.jpg", ()),
    labelled("bird.jpg", BIRD_CRANE, (BIRD_CRANE, 0.7)),
    labelled("machine.jpg", MACHINE_CRANE, (MACHINE_CRANE, 0.7)),
    Classified("own.jpg", (Prediction(1, 0, "", "gizmo", 0.6), Prediction(2, 1, "", "gizmo", 0.1))),
    Classified("nan.jpg", (Prediction(1, 0, GOLDEN, "golden retriever", float("nan")),)),
    labelled(ODD, GOLDEN, (GOLDEN, 0.9)),
    labelled("-dash.jpg", GOLDEN, (GOLDEN, 0.9)),
    Classified("umlaut.jpg", (Prediction(1, 0, "", "Gizm\u00f6", 0.6),)),
    Classified("id.jpg", (Prediction(1, 0, "n99999999", "nine", 0.6),)),
]
CSV_ODD = "odd-\\xff.jpg"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The images, and their labels in each format."""
    folder = tmp_path_factory.mktemp("found")
    for row in ROWS:
        (folder / row.path).touch()
    (folder / CSV_ODD).touch()
    for format_ in ALL_FORMATS:
        write_results(folder / f"labels.{format_}", ROWS)
    return folder


@pytest.mark.parametrize("format_", ALL_FORMATS)
@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["dog"], ["sure.jpg", "sum.jpg", ODD, "./-dash.jpg"]),
        (["Dogs", "--min", 0.6], ["sure.jpg", ODD, "./-dash.jpg"]),
        (["dog", "--min", 0.3], ["sure.jpg", "sum.jpg", "little.jpg", ODD, "./-dash.jpg"]),
        ([GOLDEN, "--min", 0.85], [ODD, "./-dash.jpg"]),
        (["animal", "--min", 0.89], ["sum.jpg", "cat.jpg", "bird.jpg", ODD, "./-dash.jpg"]),
        (["crane"], ["bird.jpg", "machine.jpg"]),
        ([MACHINE_CRANE], ["machine.jpg"]),
        ([MACHINE_CRANE.upper()], ["machine.jpg"]),
        (["gizmo\u0308s"], ["umlaut.jpg"]),
        (["crane (bird)"], ["bird.jpg"]),
        (["gizmos", "--min", 0.7], ["own.jpg"]),
        (["giraffe"], None),
        (["vehicle"], []),
        (["n99999999"], ["id.jpg"]),
    ],
)
def test_words_find_images(format_, arguments, expected, folder, nasnet):
    if expected is None:  # in WordNet, but not in the hierarchy: ImageNet has no giraffe
        found = nasnet("find", *arguments, f"labels.{format_}", cwd=folder, expect=1)
        assert "No label is called 'giraffe'." in found.stderr
        return
    found = nasnet("find", *arguments, f"labels.{format_}", cwd=folder, expect=0)
    names = [os.fsdecode(name) for name in found.stdout_bytes.splitlines()]
    if format_ == "csv":
        names = [ODD if name == CSV_ODD else name for name in names]
    assert names == expected
    assert f"{len(expected)} of {len(ROWS)} images." in found.stderr


def test_senses_are_named(folder, nasnet):
    found = nasnet("find", "crane", "labels.sqlite", cwd=folder, expect=0)
    assert f"{BIRD_CRANE}  crane (bird)" in found.stderr
    assert f"{MACHINE_CRANE}  crane (machine)" in found.stderr
    assert "senses" not in nasnet("find", "dog", "labels.csv", cwd=folder).stderr
    assert nasnet("find", "crane", "labels.csv", "-q", cwd=folder).stderr == ""


@pytest.mark.parametrize("format_", ["jsonl", "sqlite"])
def test_unknown_words_get_the_nearest(format_, folder, nasnet):
    found = nasnet("find", "gizmmo", f"labels.{format_}", cwd=folder, expect=1)
    assert "No label is called 'gizmmo'. The nearest: gizmo" in found.stderr
    assert found.stdout == ""


@pytest.mark.parametrize("format_", ALL_FORMATS)
def test_an_id_that_no_label_has_is_no_empty_album(format_, folder, nasnet):
    found = nasnet("find", "n02084072", f"labels.{format_}", cwd=folder, expect=1)
    assert "No label is called 'n02084072'." in found.stderr


@pytest.mark.parametrize("format_", ["jsonl", "sqlite"])
def test_json(format_, folder, nasnet):
    found = nasnet("find", "dog", f"labels.{format_}", "--json", cwd=folder, expect=0)
    document = json.loads(found.stdout)
    assert document["search"] == {"word": "dog", "senses": [DOG], "min": 0.5}
    assert document["results"][:2] == [
        {
            "path": "sure.jpg",
            "probability": 0.8,
            "sure": {"wnid": DOG, "label": "dog", "probability": 0.8},
        },
        {
            "path": "sum.jpg",
            "probability": 0.5,
            "sure": {"wnid": ANIMAL, "label": "animal", "probability": 0.9},
        },
    ]
    assert document["results"][2]["path_bytes"]
    assert document["summary"] == {"found": 4, "images": len(ROWS)}
    none = nasnet("find", "vehicle", f"labels.{format_}", "--json", cwd=folder, expect=0)
    assert json.loads(none.stdout)["results"] == []


def test_null_ends_paths_for_xargs(folder, tmp_path):
    command = [*NASNET, "find", "dog", "labels.jsonl", "-0", "-q"]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE) as find:
        copy = ["xargs", "-0", "cp", "-t", str(tmp_path)]
        subprocess.run(copy, cwd=folder, stdin=find.stdout, check=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        ["sure.jpg", "sum.jpg", ODD, "-dash.jpg"]
    )


def test_rows_come_from_standard_input(folder, nasnet):
    data = (folder / "labels.jsonl").read_bytes()
    found = nasnet("find", "tabby", "-", cwd=folder, stdin=data, expect=0)
    assert found.stdout == "cat.jpg\n"


@pytest.mark.parametrize("format_", ["jsonl", "sqlite"])
def test_base_is_where_paths_start(format_, folder, nasnet, tmp_path):
    file = shutil.copy(folder / f"labels.{format_}", tmp_path)
    wrong = nasnet("find", "cat", file, cwd=tmp_path, expect=1)
    assert "None of the images exists" in wrong.stderr and "--base" in wrong.stderr
    assert wrong.stdout == ""
    right = nasnet("find", "cat", file, "--base", folder, cwd=tmp_path, expect=0)
    assert right.stdout == f"{folder}/cat.jpg\n"


def test_one_image_that_exists_is_enough(tmp_path, nasnet):
    (tmp_path / "b.jpg").touch()
    file = write_results(tmp_path / "a.csv", [labelled(f"{c}.jpg", DOG) for c in "abc"])
    found = nasnet("find", "dog", file, cwd=tmp_path, expect=0)
    assert found.stdout == "a.jpg\nb.jpg\nc.jpg\n"


def test_members_exist_with_their_archive_and_urls_always(tmp_path, nasnet):
    member = write_results(tmp_path / "m.csv", [labelled("p.zip!/a.jpg", DOG)])
    nasnet("find", "dog", member, cwd=tmp_path, expect=1)
    (tmp_path / "p.zip").touch()
    assert nasnet("find", "dog", member, cwd=tmp_path, expect=0).stdout == "p.zip!/a.jpg\n"
    url = write_results(tmp_path / "u.csv", [labelled("https://h/a.jpg", DOG)])
    found = nasnet("find", "dog", url, "--base", "/b", cwd=tmp_path, expect=0)
    assert found.stdout == "https://h/a.jpg\n"


def test_probabilities_of_a_label_with_two_ids(tmp_path, nasnet):
    row = Classified(
        str(tmp_path),
        (Prediction(1, 0, BIRD_CRANE, "crane", 0.4), Prediction(2, 1, MACHINE_CRANE, "crane", 0.3)),
        sure=Everyday(BIRD_CRANE, "crane", 0.4),
    )
    for format_ in ALL_FORMATS:
        file = write_results(tmp_path / f"l.{format_}", [row])
        for word, least, count in (
            ("crane", 0.7, 1),
            ("crane", 0.71, 0),
            (MACHINE_CRANE, 0.3, 1),
            (MACHINE_CRANE, 0.31, 0),
        ):
            found = nasnet("find", word, file, "--min", least, "--json", expect=0)
            assert json.loads(found.stdout)["summary"]["found"] == count


def test_wrong_use(folder, nasnet):
    assert nasnet("find", "dog", "labels.csv", "-0", "--json", cwd=folder).exit_code == 2
    assert nasnet("find", "dog", "labels.csv", "--min", 0, cwd=folder).exit_code == 2
    assert nasnet("find", "dog", cwd=folder).exit_code == 2
    done = nasnet("find", "dog", "labels.csv", "--min", "nan", cwd=folder, expect=2)
    assert "'nan' is not a number" in done.stderr


@pytest.mark.usefixtures("uncovered")
def test_find_imports_no_model_and_no_numpy(folder):
    code = (
        "import sys\nfrom nasnet_cli.cli.main import run\n"
        "try: run(['find', 'dog', 'labels.jsonl', '-q'])\n"
        "finally: print(sorted({'numpy', 'openvino', 'PIL', 'sqlite3'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True)
    assert done.stdout.splitlines()[-1] == b"[]", done.stderr
