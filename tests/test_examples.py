"""The scripts in examples/ run as they are."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from test_tf1_consumer import consumer

__all__ = ["consumer"]

EXAMPLES = Path(__file__).parents[1] / "examples"
SIDE = 32

pytestmark = pytest.mark.slow  # each imports TensorFlow and traces a training step


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight images of noise in two classes."""
    folder = tmp_path_factory.mktemp("classes")
    random = np.random.default_rng(6)
    for name, level in (("dark", 60), ("light", 190)):
        (folder / name).mkdir()
        for number in range(4):
            pixels = random.normal(level, 30, (SIDE, SIDE, 3)).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number}.png")
    return folder


def run(python: str | Path, script: str, *arguments: object, cwd: Path) -> str:
    variables = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    variables.pop("TF2_BEHAVIOR", None)  # which TensorFlow 2 has set if this process imported it
    done = subprocess.run(
        [python, EXAMPLES / script, *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=cwd,
        env=variables,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_tf_keras(folder, tiny_module, nasnet, tmp_path):
    arguments = ("--format", "saved-model", "--kind", "feature-vector", "--model", tiny_module)
    nasnet("export", tmp_path / "features", *arguments, expect=0)
    out = run(sys.executable, "finetune_tf_keras.py", "features", folder, SIDE, cwd=tmp_path)
    assert "Epoch 2/2" in out
    assert (tmp_path / "tuned").is_dir()


def test_keras3(folder, tiny_module, nasnet, tmp_path):
    arguments = ("--kind", "feature-vector", "--model", tiny_module)
    nasnet("export", tmp_path / "features.keras", *arguments, expect=0)
    out = run(sys.executable, "finetune_keras3.py", "features.keras", folder, SIDE, cwd=tmp_path)
    assert "Epoch 2/2" in out
    assert (tmp_path / "tuned.keras").is_file()


def test_tensorflow_1(consumer, tiny_module, tmp_path):
    random = np.random.default_rng(6)
    images = random.random((8, SIDE, SIDE, 3), np.float32)
    np.savez(tmp_path / "images.npz", images=images, labels=np.arange(8) % 2)
    out = run(consumer, "finetune_tf1.py", tiny_module, "images.npz", cwd=tmp_path)
    losses = [float(line.split()[1]) for line in out.splitlines() if line.startswith("loss")]
    assert losses[3] < losses[0]
    assert (tmp_path / "tuned.index").is_file()
