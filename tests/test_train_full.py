"""nasnet train --full: all of a network is trained."""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from faults import training as faults
from nasnet_cli import load_model
from nasnet_cli.cli.console import Console
from nasnet_cli.cli.tuning import FullOptions, Tuning
from nasnet_cli.errors import ModelError, OutputError
from nasnet_cli.network.spec import SIZES
from nasnet_cli.systems import locked_folder
from nasnet_cli.training.schedule import Course, Phase
from support import fine_tuning
from support.others import write_onnx
from test_train import COLOURS, contents, write_images

# TensorFlow's and Keras' own.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")


@pytest.fixture(scope="module")
def colours(tmp_path_factory) -> Path:
    """Twelve images of each of three colours."""
    return write_images(tmp_path_factory.mktemp("sets") / "colours", dict.fromkeys(COLOURS, 12))


def run_small(work: Path, *signal_and_step: object) -> int:
    """Return the exit status of support/fine_tuning.py."""
    command = [sys.executable, fine_tuning.__file__, work, *signal_and_step]
    return subprocess.run(
        list(map(str, command)),
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        stderr=subprocess.DEVNULL,
        check=False,
    ).returncode


def history(work: Path) -> dict[str, object]:
    return json.loads((work / "history.json").read_text())


def step_on_disk(work: Path) -> int:
    with np.load(work / "checkpoint.npz") as saved:
        return json.loads(str(saved["head"]))["step"]


@pytest.mark.slow
def test_a_run_that_was_killed_five_times_and_interrupted_is_one_that_was_not(tmp_path):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert run_small(whole) == 0
    assert len(history(whole)["losses"]) == 12
    # What is on disk then is the state of CHECKPOINT_STEPS, or of the last epoch.
    for step, on_disk in ((1, 0), (3, 3), (4, 3), (5, 4), (6, 6)):
        assert run_small(broken, "SIGKILL", step) == -9
        assert step_on_disk(broken) == on_disk
    # In the middle of an epoch, and of the steps between two checkpoints.
    assert run_small(broken, "SIGINT", 7) == 130
    assert step_on_disk(broken) == 7
    assert run_small(broken) == 0
    assert history(broken) == history(whole)
    for name in ("best.npz", "checkpoint.npz"):
        with np.load(whole / name) as one, np.load(broken / name) as other:
            assert one.files == other.files
            for key in one.files:
                np.testing.assert_array_equal(one[key], other[key], err_msg=key)


def test_large_gradients_are_summed_in_one_order():
    from nasnet_cli.quiet import tf
    from nasnet_cli.training.finetune import compute_repeatably

    compute_repeatably()
    random = np.random.default_rng(0)
    # TensorFlow takes a CPU's memory for 256 MB, of which these are more than four fifths.
    parts = [random.normal(size=(25_000_000,)).astype(np.float32) for _ in range(3)]

    @tf.function
    def total(late, *others):
        for _ in range(8):
            late = tf.sin(late)
        return late, tf.add_n([late, *(tf.negative(other) for other in others)])

    late, found = (value.numpy() for value in total(*map(tf.constant, parts)))
    np.testing.assert_array_equal(found, late - parts[1] - parts[2])


@pytest.mark.slow
def test_kills_of_the_command_and_what_they_change(tiny_module, tmp_path, monkeypatch):
    train = [*faults.write_images(tmp_path / "images", 8), "--from", str(tiny_module)]
    notes: list[str] = []
    assert faults.run_once(tmp_path, train, 2, notes.append, lambda _: 0) == []
    assert notes[0].startswith("8 steps")
    assert [note.partition(" when ")[0] for note in notes[1:]] == ["killed"] * 2
    monkeypatch.setattr(faults, "contents", lambda folder: {"model": folder})
    shutil.rmtree(tmp_path / "whole")
    shutil.rmtree(tmp_path / "broken")
    assert faults.run_once(tmp_path, train, 0) == ["other bytes: model"]


@pytest.mark.slow
def test_networks_without_room_and_states_of_other_runs_are_refused(tmp_path, monkeypatch):
    from nasnet_cli.training import finetune

    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "checkpoint.npz").write_bytes(b"")
    (tmp_path / "other" / "history.json").write_text('{"identity": "other"}')
    with pytest.raises(OutputError, match="has other images, another model, other options"):
        fine_tuning.tuning(tmp_path / "other")
    (tmp_path / "other" / "history.json").write_text("{")
    with pytest.raises(OutputError, match="is damaged"):
        fine_tuning.tuning(tmp_path / "other")
    identity = finetune._identity
    monkeypatch.setattr(finetune, "_identity", lambda *_: "other")
    (tmp_path / "other" / "history.json").write_text('{"identity": "other"}')
    for damaged in (b"", b"PK damaged"):
        (tmp_path / "other" / "checkpoint.npz").write_bytes(damaged)
        with pytest.raises(OutputError, match="is damaged"):
            fine_tuning.tuning(tmp_path / "other")
    monkeypatch.setattr(finetune, "_identity", identity)
    monkeypatch.setattr(finetune, "available_memory", lambda: 1_000_000)
    with pytest.raises(ModelError, match="Training the whole of small needs about"):
        fine_tuning.tuning(tmp_path / "new")


@pytest.mark.slow
def test_a_run_that_diverges_is_an_error(tmp_path):
    with pytest.raises(ModelError, match=r"Training diverged in step \d: its loss is (nan|inf)"):
        list(fine_tuning.tuning(tmp_path, rate=1e30).run(lambda _: None))


@pytest.mark.slow
def test_the_whole_network_is_trained(colours, tiny_module, nasnet, tmp_path):
    out = tmp_path / "model"
    arguments = ("train", colours, "--from", tiny_module, "--full", "--epochs", 2, "--out", out)
    result = nasnet(*arguments, expect=0)
    assert "2 steps of 32 images" not in result.stderr  # too few to measure
    assert "too small for an auxiliary head: it is trained without one" in result.stderr
    assert "Epoch 0 of 2: validation loss" in result.stderr
    assert "Epoch 2 of 2: training loss" in result.stderr
    curves = json.loads((tmp_path / "model.curves.json").read_text())
    assert [epoch["epoch"] for epoch in curves["epochs"]] == [0, 1, 2]
    assert len(curves["losses"]) == 2
    assert (tmp_path / "model.curves.png").read_bytes().startswith(b"\x89PNG")
    assert not list(tmp_path.glob(".*"))
    shown = json.loads(nasnet("inspect", out, "--json", expect=0).stdout)
    assert shown["accuracy"]["training"]["epochs"] == 2
    # Equal seeds give equal bytes.
    before = contents(tmp_path)
    nasnet(*arguments, "--overwrite", expect=0)
    assert contents(tmp_path) == before
    check_all_commands(out, colours, nasnet)


@pytest.mark.slow
def test_a_network_is_trained_from_scratch(colours, nasnet, tmp_path, monkeypatch):
    # The published ones take minutes to build, here and in each check.
    monkeypatch.setitem(SIZES, "cifar", replace(SIZES["cifar"], cells_per_stage=1, filters=8))
    out = tmp_path / "model"
    arguments = ("train", colours, "--from", "scratch", "--size", "cifar", "--image-size", 24)
    result = nasnet(*arguments, "--epochs", 3, "--out", out, expect=0)
    assert "Epoch 0" not in result.stderr
    assert "Epoch 3 of 3: training loss" in result.stderr
    assert "last layer" not in result.stderr
    assert "auxiliary" not in result.stderr
    curves = json.loads((tmp_path / "model.curves.json").read_text())
    assert [epoch["epoch"] for epoch in curves["epochs"]] == [1, 2, 3]
    shown = json.loads(nasnet("inspect", out, "--json", expect=0).stdout)
    assert shown["preprocessing"]["size"] == [24, 24]
    assert "penalty" not in shown["accuracy"]
    assert "head_only_top1" not in shown["accuracy"]["training"]
    card = json.loads((out / "assets.extra" / "nasnet.json").read_text())
    assert card["source"] == "Trained from random weights, by nasnet train, in the size cifar."
    check_all_commands(out, colours, nasnet)


def check_all_commands(model: Path, images: Path, nasnet) -> None:
    """Check that commands take a model of three classes, and that its exports agree with it."""
    from nasnet_cli.quiet import hub, tf

    run = ("classify", images, "--logits", "--model")
    rows = nasnet(*run, model, expect=0).rows
    nasnet("evaluate", images, "--model", model, "--json", expect=0)
    vectors = model.with_name("vectors.npy")
    nasnet("embed", images, "--model", model, "--out", vectors, expect=0)
    assert len(np.load(vectors)) == len(rows) == 36
    side = load_model(model).preprocessing.size[0]
    pixels = np.random.default_rng(1).random((2, side, side, 3), np.float32)
    signature = hub.load(str(model)).signatures["image_classification"]
    assert signature(tf.constant(pixels))["default"].shape == (2, 3)
    for name in ("m.keras", "m.onnx", "m.xml", "m.tflite", "saved"):
        arguments = ["--format", "saved-model"] if name == "saved" else []
        other = model.with_name(name)
        nasnet("export", other, "--model", model, *arguments, expect=0)
        for row, same in zip(rows, nasnet(*run, other, expect=0).rows, strict=True):
            logits = [{p["label"]: p["logit"] for p in r["predictions"]} for r in (row, same)]
            assert logits[1] == pytest.approx(logits[0], abs=1e-3), name


def test_options_of_training_from_scratch(colours, nasnet, tmp_path):
    run = ("train", colours, "--out", tmp_path / "out")
    for option in (("--size", "mobile"), ("--image-size", 64)):
        assert "are for --from scratch" in nasnet(*run, *option, expect=2).stderr
    refused = nasnet(*run, "--from", "scratch", "--head-only", expect=2)
    assert "leave out --head-only" in refused.stderr


def test_an_unfinished_run_is_refused_with_both_ways_out(colours, tiny_module, nasnet, tmp_path):
    state = tmp_path / ".model.resume"
    state.mkdir()
    arguments = ("train", colours, "--from", tiny_module, "--full", "--out", tmp_path / "model")
    result = nasnet(*arguments, expect=1)
    assert f"There is an unfinished run in {state}. Continue it: --resume. Start over: " in (
        result.stderr.replace("\n", " ")
    )
    assert state.exists()
    options = FullOptions(full=True, epochs=None, size=None, image_size=None, resume=False)
    Tuning(tmp_path / "model", options, Console(), is_scratch=False, overwrite=True).begin()
    assert not state.exists()


@pytest.mark.linux
def test_a_run_that_another_works_on_is_left_alone(colours, tiny_module, nasnet, tmp_path):
    state = tmp_path / ".model.resume"
    state.mkdir()
    arguments = ("train", colours, "--from", tiny_module, "--full", "--out", tmp_path / "model")
    with locked_folder(str(state), tmp_path / "locks"):
        for more in ("--resume", "--overwrite"):
            result = nasnet(*arguments, more, expect=1)
            assert f"Another nasnet is training in {state}." in result.stderr.replace("\n", " ")
    assert state.exists()


def test_what_needs_full_and_what_cannot_be_trained_whole(colours, nasnet, tmp_path):
    out = tmp_path / "out"
    for option in (("--epochs", 3), ("--resume",)):
        assert "--full" in nasnet("train", colours, "--out", out, *option, expect=2).stderr
    model = write_onnx(tmp_path / "theirs.onnx", [])
    result = nasnet("train", colours, "--from", model, "--full", "--out", out, expect=1)
    assert "is not a NASNet-A, so only a new last layer can be trained" in result.stderr


def test_curves_without_matplotlib_are_refused(colours, nasnet, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    result = nasnet("train", colours, "--full", "--out", tmp_path / "out", expect=1)
    assert "The curves of --full need matplotlib. Run: pip install matplotlib." in result.stderr


def test_the_rate_falls_along_a_cosine():
    phase = Phase(110, 32, ())
    course = Course((phase,), 0.02, warmup_steps=10, decay_from=10, is_cosine=True)
    assert course.rate(4) == pytest.approx(0.01)
    assert course.rate(10) == pytest.approx(0.02)
    assert course.rate(60) == pytest.approx(0.01)
    assert course.rate(35) == pytest.approx(0.01 * (1 + math.cos(math.pi / 4)))
    assert course.rate(109) < 1e-5
