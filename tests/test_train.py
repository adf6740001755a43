"""nasnet train: a new last layer for one's own classes."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nasnet_cli import cache, load_model
from nasnet_cli.images.source import Source
from nasnet_cli.training.calibration import class_weights
from nasnet_cli.training.head import fit_head, solve
from nasnet_cli.training.labelled import open_folders
from nasnet_cli.training.split import hold_out, near_duplicates, split
from support.others import write_onnx

COLOURS = {"red": (220, 40, 40), "green": (40, 200, 40), "blue things": (40, 40, 220)}


def write_images(folder: Path, counts: dict[str, int], seed: int = 0) -> Path:
    """Write images of a colour with noise into a folder for each class."""
    random = np.random.default_rng(seed)
    for name, count in counts.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            pixels = random.normal(COLOURS[name], 70, (40, 40, 3)).clip(0, 255)
            image = Image.fromarray(pixels.astype(np.uint8))
            image.save(folder / name / f"{seed}-{number:02}.png")
    return folder


@pytest.fixture(scope="module")
def colours(tmp_path_factory) -> Path:
    """Twelve images of each of three colours."""
    return write_images(tmp_path_factory.mktemp("sets") / "colours", dict.fromkeys(COLOURS, 12))


@pytest.fixture(scope="module")
def trained(colours, tiny_module, nasnet, tmp_path_factory) -> Path:
    """A module that was trained on the colours."""
    out = tmp_path_factory.mktemp("trained") / "model"
    result = nasnet("train", colours, "--from", tiny_module, "--out", out, expect=0)
    assert "of 6 validation images, 3 classes" in result.stdout
    assert "Fewer than 20 images to train on: blue things (10), green (10), red (10)" in (
        result.stderr
    )
    return out


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_every_command_takes_the_trained_module(trained, colours, tiny_module, nasnet, tmp_path):
    found = json.loads(nasnet("evaluate", colours, "--model", trained, "--json", expect=0).stdout)
    assert found["top1"]["share"] > 0.9
    shown = json.loads(nasnet("inspect", trained, "--json", expect=0).stdout)
    assert (shown["classes"], shown["accuracy"]["pictures"]) == (3, 6)
    in_words = nasnet("inspect", trained, expect=0).stdout
    share = 100 * shown["accuracy"]["top1"]
    assert f"  top-1 {share:.1f} % of 6 images of the validation part of colours\n" in in_words
    # The network is the old one.
    before, after = tmp_path / "before.npy", tmp_path / "after.npy"
    nasnet("embed", colours, "--model", tiny_module, "--out", before, expect=0)
    nasnet("embed", colours, "--model", trained, "--out", after, expect=0)
    np.testing.assert_allclose(np.load(after), np.load(before), atol=1e-5)
    rows = nasnet("classify", colours / "red", "--model", trained, expect=0).rows
    assert {row["predictions"][0]["label"] for row in rows} == {"red"}
    assert len(rows[0]["predictions"]) == 3


@pytest.mark.slow
@pytest.mark.parametrize("name", ["m.keras", "m.onnx", "m.xml", "m.tflite", "saved"])
def test_the_trained_module_can_be_exported(name, trained, nasnet, tmp_path):
    arguments = ["--format", "saved-model"] if "." not in name else []
    nasnet("export", tmp_path / name, "--model", trained, *arguments, expect=0)


def test_hub_load_gives_the_same_logits(trained, colours):
    from nasnet_cli.quiet import hub, tf

    model = load_model(trained)
    images = np.random.default_rng(1).random((2, *model.preprocessing.size, 3), np.float32)
    signature = hub.load(str(trained)).signatures["image_classification"]
    assert np.isfinite(signature(tf.constant(images))["default"]).all()


@pytest.mark.slow
def test_equal_seeds_give_equal_bytes_from_kept_features(
    trained, colours, tiny_module, nasnet, tmp_path, monkeypatch
):
    assert "features" in nasnet("cache", "ls").stdout
    opened: list[str] = []
    original = Source.open

    def opening(self: Source, max_bytes: int) -> object:
        opened.append(self.path)
        return original(self, max_bytes)

    monkeypatch.setattr(Source, "open", opening)
    arguments = ("train", colours, "--from", tiny_module)
    nasnet(*arguments, "--out", tmp_path / "again", expect=0)
    assert (opened, contents(tmp_path / "again")) == ([], contents(trained))
    # A damaged file of the cache is made again.
    for path in cache.subfolder("features").iterdir():
        path.write_bytes(b"SQLite format 3\0" + bytes(5000))
    nasnet(*arguments, "--out", tmp_path / "other", "--seed", 3, expect=0)
    assert len(opened) == 36
    assert contents(tmp_path / "other") != contents(trained)


def test_faults_are_named_before_training(colours, tiny_module, nasnet, tmp_path):
    folder = shutil.copytree(colours, tmp_path / "set")
    (folder / "red" / "broken.jpg").write_bytes(b"no image")
    shutil.copy(folder / "red" / "0-00.png", folder / "green" / "copy.png")
    write_images(folder, {"blue things": 40}, seed=1)
    result = nasnet("train", folder, "--from", tiny_module, "--out", tmp_path / "out", expect=3)
    assert f"1 image left out: {folder}/red/broken.jpg (not_an_image)." in result.stderr
    assert "near-duplicates in different classes" in result.stderr
    assert f"{folder}/green/copy.png and {folder}/red/0-00.png" in result.stderr
    assert "each class has the same weight" in result.stderr


def test_validation_folders(colours, tiny_module, nasnet, tmp_path):
    held = write_images(tmp_path / "held", dict.fromkeys(COLOURS, 4), seed=5)
    shutil.copy(colours / "red" / "0-03.png", held / "red" / "known.png")
    out = tmp_path / "out"
    arguments = ("train", colours, "--from", tiny_module, "--out", out)
    result = nasnet(*arguments, "--val", held, "--json", expect=0)
    assert (
        f"1 validation image left out, near-duplicates of training images: {held}/red/known.png"
        in (result.stderr)
    )
    figures = json.loads(result.stdout)
    assert figures["pictures"] == 12
    assert [entry["train"] for entry in figures["classes"]] == [12, 12, 12]
    assert "already exists" in nasnet(*arguments, "--val", held, expect=1).stderr
    (held / "purple").mkdir()
    result = nasnet(*arguments, "--overwrite", "--val", held, expect=1)
    assert f"{held} has classes that {colours} lacks: purple." in result.stderr
    inside = nasnet(*arguments, "--overwrite", "--val", colours / "red", expect=1)
    assert "has no folders of classes" in inside.stderr


def test_sets_that_are_refused(colours, tiny_module, nasnet, tmp_path):
    def refused(folder: Path, *arguments: object) -> str:
        run = ("train", folder, "--from", tiny_module, "--out", tmp_path / "out", *arguments)
        message = nasnet(*run, expect=1).stderr
        assert not (tmp_path / "out").exists()
        return message

    one = write_images(tmp_path / "one", {"red": 3})
    assert "has only one class: red" in refused(one)
    (one / "green").mkdir()
    assert "Fewer than two images of green can be used." in refused(one)
    (one / "Red").mkdir()
    twice = write_images(tmp_path / "twice", {"red": 2})
    shutil.copytree(twice / "red", twice / "red ")
    assert "has two folders of one class: 'red' and 'red '" in refused(twice)
    for names in (
        ("Robin", "robin"),
        ("Gr\u00fcn", "Gru\u0308n"),
        ("n01558993", "n01558993 Turdus"),
        ("n01558993", "Robin"),
    ):
        same = tmp_path / names[1]
        for name in names:
            (same / name).mkdir(parents=True, exist_ok=True)
        assert "has two folders of one class: " in refused(same)
    usage = nasnet("train", colours, "--out", tmp_path / "out", "--val", "1.5", expect=2)
    assert "a fraction between 0 and 1" in usage.stderr


def test_classes_of_one_name_and_different_ids_are_two(tmp_path):
    for name in ("n02012849", "n03126707"):
        (tmp_path / name).mkdir()
    labels = open_folders(str(tmp_path), None).labels
    assert [label.name for label in labels] == ["crane", "crane"]


def test_files_of_other_makers_are_refused(colours, nasnet, tmp_path):
    model = write_onnx(tmp_path / "theirs.onnx", [])
    result = nasnet("train", colours, "--from", model, "--out", tmp_path / "out", expect=1)
    assert "is not a NASNet-A and is a file, so it cannot get a new last layer" in result.stderr


def test_training_without_scipy_is_refused(colours, tiny_module, nasnet, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy", None)
    result = nasnet("train", colours, "--from", tiny_module, "--out", tmp_path / "out", expect=1)
    assert "Training needs scipy. Run: pip install scipy threadpoolctl." in result.stderr


@pytest.fixture(scope="module")
def features() -> tuple[np.ndarray, np.ndarray]:
    """Overlapping clouds of vectors [n, 8] of three unequal classes [n]."""
    random = np.random.default_rng(2)
    classes = np.repeat([0, 1, 2], [60, 100, 30])
    centres = random.normal(0, 1, (3, 8))
    return random.normal(centres[classes], 1.2), classes


@pytest.mark.parametrize("penalty", [1e-3, 1e-1])
def test_the_solver_agrees_with_scikit_learn(features, penalty):
    from sklearn.linear_model import LogisticRegression

    vectors, classes = features
    found = solve(vectors, classes, class_weights(classes), penalty)
    # Its loss is C times the sum of weighted cross-entropies, plus half of the squared weights.
    count = len(classes)
    reference = LogisticRegression(
        C=1 / (penalty * count), class_weight="balanced", tol=1e-8, max_iter=5000
    ).fit(vectors, classes)
    expected = reference.coef_.T
    np.testing.assert_allclose(found.weights, expected, atol=1e-3 * np.abs(expected).max())


def test_a_head_is_calibrated_and_folds_the_scale(features):
    vectors, classes = features
    held = np.arange(len(classes)) % 3 == 0
    shifted = (vectors * 100 + 7).astype(np.float32)
    head = fit_head(shifted[~held], classes[~held], shifted[held], classes[held], 3)
    plain = vectors.astype(np.float32)
    same = fit_head(plain[~held], classes[~held], plain[held], classes[held], 3)
    difference = head.logits(shifted[held]) - same.logits(plain[held])
    np.testing.assert_allclose(difference - difference.mean(axis=1, keepdims=True), 0, atol=0.02)
    assert (head.logits(shifted[held]).argmax(axis=1) == classes[held]).mean() > 0.6


def test_a_feature_that_hardly_varies_does_not_decide(features):
    vectors, classes = features
    held = np.arange(len(classes)) % 3 == 0
    hardly = np.where(classes == 0, 0, 1e-6)[:, None]
    alike = np.concatenate([vectors, hardly], axis=1).astype(np.float32)
    head = fit_head(alike[~held], classes[~held], alike[held], classes[held], 3)
    assert np.abs(head.weights[-1]).max() < 100
    constant = np.ones((len(classes), 2), np.float32)
    head = fit_head(constant[~held], classes[~held], constant[held], classes[held], 3)
    np.testing.assert_allclose(head.weights, 0, atol=1e-6)


def test_parts_are_stratified_and_keep_duplicates_together():
    random = np.random.default_rng(4)
    classes = np.repeat([0, 1], [50, 10])
    vectors = random.normal(100, 1, (60, 32)).astype(np.float32)
    vectors[7] = vectors[3] + 0.01
    vectors[55] = vectors[52]
    groups = near_duplicates(vectors, 0.95)
    assert [rows.tolist() for rows in groups] == [[3, 7], [52, 55]]
    for seed in range(20):
        held = split(classes, groups, 0.2, seed)
        assert held[3] == held[7]
        assert held[52] == held[55]
        assert 9 <= held[:50].sum() <= 10
        assert 1 <= held[50:].sum() <= 2
    assert (split(classes, groups, 0.2, 1) == split(classes, groups, 0.2, 1)).all()


def test_classes_of_like_images_have_images_in_both_parts():
    random = np.random.default_rng(4)
    classes = np.repeat([0, 1], 20)
    vectors = np.array([[5, 0], [0, 5]], np.float32)[classes].repeat(8, axis=1)
    vectors += random.normal(0, 0.1, vectors.shape).astype(np.float32)
    vectors[3] = vectors[4]
    held, groups = hold_out(vectors, classes, 0.2, 0)
    assert 1 <= held[:20].sum() <= 4
    assert 1 <= held[20:].sum() <= 4
    assert held[3] == held[4]
    assert any({3, 4} <= set(rows.tolist()) for rows in groups)


def write_features(folder: Path) -> Path:
    """Write another maker's SavedModel of a convolution, with feature vectors alone."""
    from nasnet_cli.quiet import silence, tf

    random = np.random.RandomState(4)
    module = tf.Module()
    module.kernel = tf.Variable(random.normal(0, 0.5, (3, 3, 3, 24)).astype(np.float32))

    @tf.function(input_signature=[tf.TensorSpec((None, 16, 16, 3), tf.float32)])
    def features(inputs):
        values = tf.nn.relu(tf.nn.conv2d(inputs * 2 - 1, module.kernel, 2, "SAME"))
        return {"feature_vector": tf.reduce_mean(values, [1, 2])}

    with silence():
        tf.saved_model.save(module, str(folder), signatures={"image_feature_vector": features})
    return folder


def test_a_model_of_another_maker_is_called_as_it_is(colours, nasnet, tmp_path):
    from nasnet_cli.quiet import hub, tf

    source, out = write_features(tmp_path / "theirs"), tmp_path / "out"
    nasnet("train", colours, "--from", source, "--out", out, expect=0)
    found = json.loads(nasnet("evaluate", colours, "--model", out, "--json", expect=0).stdout)
    assert found["top1"]["share"] > 0.9
    shown = json.loads(nasnet("inspect", out, "--json", expect=0).stdout)
    assert (shown["classes"], shown["feature_depth"]) == (3, 24)
    vectors = [tmp_path / name for name in ("theirs.npy", "mine.npy")]
    for model, file in zip((source, out), vectors, strict=True):
        nasnet("embed", colours, "--model", model, "--out", file, expect=0)
    np.testing.assert_allclose(np.load(vectors[0]), np.load(vectors[1]), atol=1e-5)
    refused = nasnet("export", tmp_path / "m.onnx", "--model", out, expect=1)
    assert "does not have the variables of a NASNet-A" in refused.stderr
    loaded = hub.load(str(out))
    images = tf.constant(np.random.default_rng(1).random((2, 16, 16, 3), np.float32))
    both = loaded.signatures["serving_default"](images=images)
    np.testing.assert_allclose(loaded(images), both["logits"], atol=1e-6)
    assert both["features"].shape == (2, 24)
