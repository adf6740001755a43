"""The built-in model's recipe: its data, and what it does with a temperature."""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

RECIPES = Path(__file__).parents[1] / "recipes"


@pytest.fixture(autouse=True)
def recipes(monkeypatch):
    monkeypatch.syspath_prepend(str(RECIPES))
    yield
    for name in ("training_data", "measuring"):
        sys.modules.pop(name, None)


def write_mosaics(folder: Path, stem: str, count: int, side: int, first: int) -> None:
    """Write tiles of one shade each, 256 in a file of 16 columns, with their facts."""
    shades = np.arange(first, first + count) * 3 % 256
    for number, start in enumerate(range(0, count, 256)):
        part = shades[start : start + 256]
        rows = -(-len(part) // 16)
        tiles = np.zeros((rows * 16, side, side, 3), np.uint8)
        tiles[: len(part)] = part[:, None, None, None]
        image = tiles.reshape(rows, 16, side, side, 3).swapaxes(1, 2)
        Image.fromarray(image.reshape(rows * side, 16 * side, 3)).save(
            folder / f"{stem}-{number:03}.avif", quality=100
        )
    np.savez(
        folder / f"{stem}.npz",
        label=np.arange(first, first + count, dtype=np.int16) - 1,
        boxes=np.full((count, 4, 4), 7, np.uint8),
        teacher_class=np.ones((count, 4, 8), np.uint16),
        teacher_prob=np.full((count, 4, 8), 9, np.uint8),
    )


@pytest.fixture
def data(tmp_path, monkeypatch):
    """A small folder of training data."""
    import training_data

    monkeypatch.setattr(training_data, "SIDES", {"full": 8, "mini": 8})
    mix, tiny = tmp_path / "imagenet-mix", tmp_path / "tiny-imagenet"
    mix.mkdir()
    tiny.mkdir()
    write_mosaics(mix, "full-0", 270, 8, 0)
    write_mosaics(mix, "full-1", 20, 8, 270)
    write_mosaics(mix, "mini-0", 5, 8, 0)
    names = [f"n01440764/{i}.webp" for i in range(3)]
    with zipfile.ZipFile(tiny / "train-00.zip", "w") as archive:
        for i, name in enumerate(reversed(names)):
            with archive.open(name, "w") as out:
                Image.new("RGB", (64, 64), (0, 100 - 50 * i, 0)).save(out, "webp", lossless=True)
    np.savez(
        tiny / "teacher-0.npz",
        name=names,
        teacher_class=np.zeros((3, 8), np.uint16),
        teacher_prob=np.zeros((3, 8), np.uint8),
    )
    return tmp_path


def test_images_stay_with_their_facts(data, tmp_path):
    from training_data import read_sets

    for _ in ("decoded", "from the cache"):
        sets = read_sets(data, tmp_path / "cache")
        full, tiny = sets["full"], sets["tiny"]
        shades = full.pixels.mean(axis=(1, 2, 3))
        np.testing.assert_allclose(shades, (full.labels + 1) * 3 % 256, atol=2)
        assert full.teacher.boxes.shape == (290, 4, 4)
        assert len(sets["mini"]) == 5
        assert tiny.labels.tolist() == [1, 1, 1]
        assert tiny.pixels[:, 0, 0, 1].tolist() == [0, 50, 100]
    assert not list(tmp_path.rglob("*.part.npy"))


def test_a_temperature_goes_into_the_last_layer():
    from measuring import calibrated

    weights = {"final_layer/FC/weights": np.ones(2), "final_layer/FC/biases": np.ones(1)}
    weights["cell_0/1x1/weights"] = np.ones(1)
    result = calibrated(weights, 2.0)
    assert {name: value[0] for name, value in result.items()} == {
        "final_layer/FC/weights": 0.5,
        "final_layer/FC/biases": 0.5,
        "cell_0/1x1/weights": 1,
    }
