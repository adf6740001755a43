"""nasnet evaluate: true classes, figures, files."""

from __future__ import annotations

import csv
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nasnet_cli.evaluation.metrics import Share, thresholds
from nasnet_cli.evaluation.truth import Truth
from nasnet_cli.labels import Label, builtin_labels
from nasnet_cli.results.records import Classified, Prediction
from support.labels import (
    ANIMAL,
    BANANA,
    DOG,
    GOLDEN,
    LABRADOR,
    TABBY,
    failed,
    labelled,
    write_results,
)

WNIDS = (GOLDEN, LABRADOR, "n02110958", "n02088364", TABBY, "n01558993", BANANA)


@pytest.fixture(scope="module")
def imagenet() -> tuple[Label, ...]:
    return builtin_labels("imagenet_1001")


@pytest.mark.parametrize(
    ("name", "wnid", "count"),
    [
        (GOLDEN, GOLDEN, 1),
        ("golden_retriever", GOLDEN, 1),
        ("Golden Retrievers", GOLDEN, 1),
        ("dog", DOG, 118),
        ("Canis familiaris", DOG, 118),
        (DOG, DOG, 118),
        ("crane (bird)", "n02012849", 1),
        # Big cats are called cats too, but commonly something else.
        ("cat", "n02121620", 7),
    ],
)
def test_names_stand_for_classes(imagenet, name, wnid, count):
    truth = Truth(imagenet)
    number = truth.number(name)
    assert number is not None
    assert (truth.classes[number].wnid, len(truth.classes[number].wnids)) == (wnid, count)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("crane", "is several labels: n02012849 crane (bird), n03126707 crane (machine)"),
        ("cars", "is several classes: n02958343 car, n02959942 car (railway)"),
        ("gizmo", "is not a label; like it: limo"),
        ("n99999999", "is not a class of the model"),
    ],
)
def test_names_are_never_guessed(imagenet, name, reason):
    truth = Truth(imagenet)
    assert truth.number(name) is None
    assert truth.unmatched == {name: reason}


def test_names_of_labels_without_ids():
    truth = Truth([Label("", "red box"), Label("", "blue box"), Label("", "tench, Tinca tinca")])
    numbers = [truth.number(name) for name in ("red_box", "Blue boxes", "tinca tinca", "box")]
    assert numbers == [0, 1, 2, None]


def test_two_names_of_one_class_are_one(imagenet):
    truth = Truth(imagenet)
    assert truth.number("dog") == truth.number("dogs") == 0
    assert truth.same == {"dogs": "dog"}


@pytest.fixture(scope="module")
def predictions() -> tuple[np.ndarray, np.ndarray]:
    """True classes [n] and probabilities [n, 7] of many images, right more often than not."""
    random = np.random.default_rng(5)
    truth = random.integers(0, len(WNIDS), 500)
    logits = random.normal(0, 1.5, (len(truth), len(WNIDS)))
    logits[np.arange(len(truth)), truth] += 1.5
    scores = np.exp(logits)
    return truth, (scores / scores.sum(axis=1, keepdims=True)).round(6)


@pytest.fixture(scope="module")
def results(predictions, tmp_path_factory) -> Path:
    """The same predictions as results, in folders of the true classes."""
    truth, scores = predictions
    rows = []
    for number, (true, row) in enumerate(zip(truth, scores, strict=True)):
        order = np.argsort(-row, kind="stable")
        best = [(WNIDS[index], float(row[index])) for index in order]
        rows.append(labelled(f"all/{WNIDS[true]}/{number}.jpg", None, *best))
    return write_results(tmp_path_factory.mktemp("results") / "labels.jsonl", rows)


def test_figures_agree_with_scikit_learn(predictions, results, nasnet):
    from scipy.stats import binomtest
    from sklearn import calibration, metrics

    truth, scores = predictions
    predicted, confidence = scores.argmax(axis=1), scores.max(axis=1)
    found = json.loads(nasnet("evaluate", results, "--json", expect=0).stdout)

    assert found["top1"]["share"] == pytest.approx(
        metrics.accuracy_score(truth, predicted), abs=1e-6
    )
    assert found["top5"]["share"] == pytest.approx(
        metrics.top_k_accuracy_score(truth, scores, k=5), abs=1e-6
    )
    assert found["mean_class_top1"] == pytest.approx(
        metrics.balanced_accuracy_score(truth, predicted), abs=1e-6
    )
    interval = binomtest(found["top1"]["hits"], len(truth)).proportion_ci(method="wilson")
    assert (found["top1"]["low"], found["top1"]["high"]) == pytest.approx(interval, abs=1e-6)

    precision, recall, f1, count = metrics.precision_recall_fscore_support(
        truth, predicted, labels=range(len(WNIDS))
    )
    classes = {entry["name"]: entry for entry in found["classes"]}
    for number, wnid in enumerate(WNIDS):
        mine = classes[wnid]
        assert mine["top1"]["count"] == count[number]
        assert [mine["precision"]["share"], mine["top1"]["share"], mine["f1"]] == pytest.approx(
            [precision[number], recall[number], f1[number]], abs=1e-6
        )

    bins = found["calibration"]["bins"]
    right, expected = calibration.calibration_curve(truth == predicted, confidence, n_bins=15)
    assert [bin_["accuracy"] for bin_ in bins] == pytest.approx(right, abs=1e-6)
    assert [bin_["confidence"] for bin_ in bins] == pytest.approx(expected, abs=1e-6)
    shares = np.array([bin_["count"] for bin_ in bins]) / len(truth)
    error = (shares * np.abs(right - expected)).sum()
    assert found["calibration"]["error"] == pytest.approx(error, abs=1e-6)

    curve, _, values = metrics.precision_recall_curve(truth == predicted, confidence)
    for entry in found["thresholds"]:
        reaching = values[curve[:-1] >= entry["precision"]]
        assert entry["probability"] == pytest.approx(reaching.min(), abs=1e-6)


def test_the_confusion_matrix_agrees_with_scikit_learn(predictions, results, nasnet, tmp_path):
    from sklearn.metrics import confusion_matrix

    truth, scores = predictions
    out = tmp_path / "evaluation"
    nasnet("evaluate", results, "--out", out, "--no-plots", expect=0)
    header, *rows = csv.reader((out / "confusion.csv").read_text().splitlines())
    order = [WNIDS.index(name) for name in header[1:-1]]
    expected = confusion_matrix(truth, scores.argmax(axis=1), labels=order)
    assert [[int(cell) for cell in row[1:-1]] for row in rows] == expected.tolist()
    assert {row[-1] for row in rows} == {"0"}


def test_the_most_confident_mistakes_come_first(predictions, results, nasnet):
    truth, scores = predictions
    found = json.loads(nasnet("evaluate", results, "--json", "--mistakes", 3).stdout)
    wrong = np.flatnonzero(scores.argmax(axis=1) != truth)
    worst = sorted(wrong, key=lambda number: -scores[number].max())[:3]
    assert [m["path"] for m in found["mistakes"]] == [
        f"all/{WNIDS[truth[number]]}/{number}.jpg" for number in worst
    ]


def test_shares_at_the_ends():
    assert Share(0, 10).interval == (0.0, pytest.approx(0.2775, abs=1e-4))
    assert Share(10, 10).interval == (pytest.approx(0.7225, abs=1e-4), 1.0)
    assert (Share(0, 0).value, Share(0, 0).interval) == (None, None)


def test_a_precision_may_never_be_reached():
    low, high = thresholds(np.array([0.9, 0.9, 0.8]), np.array([False, True, True]), (0.6, 0.9))
    assert (low.probability, low.reached) == (0.8, Share(2, 3))
    assert (high.probability, high.reached) == (None, None)


def evaluate_rows(nasnet: Callable[..., object], folder: Path, *rows: Classified) -> dict:
    file = write_results(folder / "labels.jsonl", rows)
    return json.loads(nasnet("evaluate", file, "--json").stdout)


def test_wider_classes(nasnet, tmp_path):
    found = evaluate_rows(
        nasnet,
        tmp_path,
        labelled("dog/1.jpg", DOG, (GOLDEN, 0.5), (TABBY, 0.2)),
        labelled("dog/2.jpg", None, (TABBY, 0.5), (LABRADOR, 0.2)),
        labelled("banana/3.jpg", ANIMAL, (BANANA, 0.4), (GOLDEN, 0.2)),
        labelled("golden_retriever/4.jpg", ANIMAL, (LABRADOR, 0.4), (GOLDEN, 0.2)),
    )
    assert found["top1"]["hits"] == 2
    # A Labrador is a dog, which is one of the true classes.
    assert found["classes"][2]["confused_with"] == [{"name": "dog", "count": 1}]
    # Right is the dog for a dog and the animal for a golden retriever, not for a banana.
    assert found["everyday"]["coverage"]["hits"] == 3
    assert found["everyday"]["accuracy"]["hits"] == 2


def test_fewer_labels_give_no_top5(nasnet, tmp_path):
    found = evaluate_rows(nasnet, tmp_path, labelled("dog/1.jpg", None, (GOLDEN, 0.5)))
    assert found["top5"] is None
    assert found["classes"][0]["top5"] is None


def test_labels_that_were_left_out_are_refused(nasnet, tmp_path):
    file = write_results(tmp_path / "labels.csv", [Classified("dog/1.jpg", ())])
    result = nasnet("evaluate", file, expect=1)
    assert "dog/1.jpg has no labels: --threshold left them out" in result.stderr


def test_what_is_not_compared_is_named(nasnet, tmp_path):
    rows = [labelled("dog/1.jpg", None, (GOLDEN, 0.5)), failed("dog/2.jpg")]
    file = write_results(tmp_path / "labels.jsonl", rows)
    result = nasnet("evaluate", file, expect=3)
    assert "Not compared: 1 error: 1 truncated (copy them again)." in result.stderr
    write_results(file, [*rows[:1], labelled("gizmo/1.jpg", None, (GOLDEN, 0.5))])
    result = nasnet("evaluate", file, expect=3)
    assert "Left out: 'gizmo' is not a label" in result.stderr
    assert "1 image without a known class." in result.stderr
    assert result.stdout.startswith("1 image of 1 class\n")
    write_results(file, [labelled("gizmo/1.jpg", None, (GOLDEN, 0.5))])
    result = nasnet("evaluate", file, expect=1)
    assert "No class of" in result.stderr
    assert "'gizmo' is not a label" in result.stderr


def test_names_with_a_formula_or_bytes(nasnet, tmp_path):
    rows = [
        Classified(f"{name}/1.jpg", (Prediction(1, 0, "", name, 0.5),))
        for name in ("=cmd()", "caf\udce9")
    ]
    file = write_results(tmp_path / "labels.jsonl", rows[:1])
    nasnet("evaluate", file, "--out", tmp_path / "out", "--no-plots", expect=0)
    assert "'=cmd()" in (tmp_path / "out" / "confusion.csv").read_text()
    assert "\n'=cmd()," in (tmp_path / "out" / "classes.csv").read_text()


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    """Noise in folders of classes, a damaged image, and a folder that is no class."""
    folder = tmp_path_factory.mktemp("photos")
    random = np.random.default_rng(3)
    for name, count in (("dog", 3), ("banana", 3), (TABBY, 2), ("gizmo", 1)):
        (folder / "val" / name).mkdir(parents=True)
        for number in range(count):
            pixels = random.integers(0, 255, (40, 40, 3), np.uint8)
            Image.fromarray(pixels).save(folder / "val" / name / f"{number}.png")
    (folder / "val" / "dog" / "broken.jpg").write_bytes(b"no image")
    return folder


def table(folder: Path) -> Path:
    """Write a CSV file with the label of each image."""
    lines = ["label;path"]
    for path in sorted((folder / "val").rglob("*.*")):
        lines.append(f"{path.parent.name};{path.relative_to(folder)}")
    file = folder / "truth.csv"
    file.write_text("\n".join(lines))
    return file


def test_folders_tables_and_results_agree(photos, tiny_module, label_file, nasnet, tmp_path):
    model = ("--model", tiny_module, "--labels", label_file)
    by_folder = nasnet("evaluate", "val", *model, "--json", cwd=photos, expect=3)
    assert "Left out: 'gizmo' is not a label" in by_folder.stderr
    found = json.loads(by_folder.stdout)
    assert found["images"] == {"compared": 8, "errors": 1, "without_class": 0}
    assert found["top5"]["count"] == 8
    assert found["model"]["classes"] == 7

    by_table = nasnet("evaluate", table(photos), *model, "--json", cwd=photos, expect=3)
    other = json.loads(by_table.stdout)
    assert other["images"] == {"compared": 8, "errors": 1, "without_class": 1}
    based = nasnet("evaluate", table(photos), "--base", photos, *model, "--json", cwd=tmp_path)
    assert json.loads(based.stdout)["top1"] == other["top1"]

    labels = tmp_path / "labels.jsonl"
    nasnet("classify", "val", *model, "--out", labels, cwd=photos, expect=3)
    from_results = json.loads(nasnet("evaluate", labels, "--json", cwd=photos, expect=3).stdout)
    with_table = nasnet(
        "evaluate", labels, "--labels-from", table(photos), "--json", cwd=photos, expect=3
    )
    piped = nasnet("evaluate", "-", "--json", stdin=labels.read_bytes(), expect=3)
    reading, writing = os.pipe()  # as <(…) has one
    os.write(writing, labels.read_bytes())
    os.close(writing)
    named = nasnet("evaluate", f"/dev/fd/{reading}", "--json", expect=3)
    os.close(reading)
    texts = (with_table.stdout, piped.stdout, named.stdout)
    documents = (other, from_results, *map(json.loads, texts))
    for document in documents:
        for key in ("top1", "top5", "everyday", "calibration", "thresholds"):
            assert document[key] == found[key]
        by_name = {entry["name"]: entry for entry in document["classes"]}
        assert by_name == {entry["name"]: entry for entry in found["classes"]}


def test_out_has_all_files_and_resumes(photos, tiny_module, label_file, nasnet, tmp_path):
    out = tmp_path / "evaluation"
    run = ("evaluate", photos / "val", "--model", tiny_module, "--labels", label_file, "--out", out)
    nasnet(*run, expect=3)
    first = {path.name: path.read_bytes() for path in out.iterdir()}
    assert set(first) == {
        "classes.csv", "confusion.csv", "confusion.png", "evaluation.json", "labels.jsonl",
        "labels.jsonl.inputs", "labels.jsonl.meta.json", "reliability.png",
    }  # fmt: skip
    for name in ("confusion.png", "reliability.png"):
        with Image.open(out / name) as image:
            image.load()
    assert "already exists" in nasnet(*run, expect=1).stderr
    (out / "confusion.csv").unlink()
    resumed = nasnet(*run, "--resume", expect=3)
    assert "is already complete" in resumed.stderr
    nasnet(*run, "--overwrite", expect=3)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == first


def test_plots_without_matplotlib_are_refused(results, nasnet, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    result = nasnet("evaluate", results, "--out", tmp_path / "out", expect=1)
    assert "Plots need matplotlib. Run: pip install matplotlib." in result.stderr
    assert not (tmp_path / "out").exists()
    nasnet("evaluate", results, "--out", tmp_path / "out", "--no-plots", expect=0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,label\na.jpg,dog\na.jpg,cat\n", "two labels, 'dog' and 'cat' in line 3"),
        ("path,label\na.jpg,dog\n./a.jpg,cat\n", "gives ./a.jpg two labels, 'dog' and 'cat' in"),
        ("path,label\na.jpg\n", "line 2 has 1 columns, not 2"),
        ("path,label\n", "has no rows"),
        ("path,label\nmissing.jpg,dog\n", "None of the images exists"),
        ("file,class\na.jpg,dog\n", "is not a table: its header has no column path"),
        ("\ufeffpath;class\na.jpg;dog\n", "is not a table: its header has no column label"),
        ("path,label,label\na.jpg,dog,dog\n", "its header has several columns label"),
        ("path,status,rank\n", "does not hold the labels of images"),
    ],
)
def test_tables_that_are_refused(text, message, nasnet, tmp_path):
    (tmp_path / "truth.csv").write_text(text)
    result = nasnet("evaluate", "truth.csv", cwd=tmp_path, expect=1)
    assert message in result.stderr


def test_a_table_of_other_images_is_refused(results, nasnet, tmp_path):
    (tmp_path / "truth.csv").write_text("path,label\nother.jpg,dog\n")
    run = ("evaluate", results, "--labels-from", "truth.csv")
    result = nasnet(*run, cwd=tmp_path, expect=1)
    assert f"None of the images in {results} is in truth.csv." in result.stderr


def test_folders_that_are_refused(nasnet, tmp_path):
    assert "has no folders of classes" in nasnet("evaluate", tmp_path, expect=1).stderr
    usage = nasnet("evaluate", tmp_path, "--labels-from", "truth.csv", expect=2)
    assert "--labels-from is for results" in usage.stderr
    (tmp_path / "photos").mkdir()
    missing = nasnet("evaluate", tmp_path / "photo", expect=1)
    assert f"photo does not exist. Did you mean {tmp_path}/photos?" in missing.stderr
    assert "--resume needs --out" in nasnet("evaluate", tmp_path, "--resume", expect=2).stderr
