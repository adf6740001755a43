"""An installation without TensorFlow and tensorflow-hub: most works, the rest says what it needs."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from support.cli import WATCHDOG, Result
from support.modules import FILES

HIDDEN = ("tensorflow", "tensorflow_hub", "keras", "tf_keras")

CODE = f"""
import importlib.abc, sys

class Hide(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name.partition(".")[0] in {HIDDEN!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Hide())
from nasnet_cli.cli.main import run
run()
"""

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")


def run_hidden(*arguments: object, expect: int = 0) -> Result:
    """Run nasnet as a process that can import none of HIDDEN."""
    done = subprocess.run(
        [sys.executable, "-c", CODE, *map(str, arguments)],
        capture_output=True,
        timeout=WATCHDOG,
        check=False,
    )
    assert done.returncode == expect, done
    assert b"Traceback" not in done.stderr
    return Result(done.returncode, done.stdout, done.stderr)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    random = np.random.default_rng(6)
    for i in range(3):
        Image.fromarray(random.integers(0, 256, (40, 40, 3), np.uint8)).save(folder / f"{i}.png")
    return folder


@pytest.fixture(scope="module")
def keras_file(nasnet, tiny_module, tmp_path_factory):
    path = tmp_path_factory.mktemp("keras") / "m.keras"
    nasnet("export", path, "-m", tiny_module, expect=0)
    return path


def test_classify_and_inspect_with_the_built_in_model(images):
    rows = run_hidden("classify", images).rows
    assert [row["status"] for row in rows] == ["ok"] * 3
    assert json.loads(run_hidden("inspect", "--json").stdout)["classes"] == 1001


def test_the_bytes_are_those_of_a_whole_installation(nasnet, images, tiny_module):
    command = ("classify", images, "-m", tiny_module, "--logits")
    assert run_hidden(*command).stdout_bytes == nasnet(*command, expect=0).stdout_bytes


def test_vectors_and_what_is_found_with_them(images, tiny_module, tmp_path):
    index = tmp_path / "vectors.npy"
    run_hidden("embed", images, "-m", tiny_module, "-o", index)
    (answer,) = run_hidden("similar", images / "0.png", "--index", index, "-m", tiny_module).rows
    assert answer["matches"][0]["path"] == str(images / "0.png")
    run_hidden("duplicates", index)


@pytest.mark.parametrize("name", FILES.values())
def test_files_of_other_runtimes(name, images, runtime_files):
    (row, *_) = run_hidden("classify", images, "-m", runtime_files / name).rows
    assert row["predictions"][0]["label"].startswith("thing ")
    assert json.loads(run_hidden("inspect", runtime_files / name, "--json").stdout)["classes"] == 7


@pytest.mark.parametrize("case", ["runtime", "export", "Keras file"])
def test_what_needs_it_says_so_in_a_sentence(case, images, keras_file, tiny_module, tmp_path):
    command = {
        "runtime": ("classify", images, "-m", tiny_module, "--runtime", "tensorflow"),
        "export": ("export", tmp_path / "m.tflite", "-m", tiny_module),
        "Keras file": ("classify", images, "-m", keras_file),
    }[case]
    result = run_hidden(*command, expect=1)
    assert result.stdout == ""
    *_, sentence = result.stderr.splitlines()
    assert result.stderr.count("Error: ") == 1 and sentence.startswith("Error: ")
    words = r"This needs the package (tensorflow|keras), which is not installed\."
    assert re.search(
        words + r" Install it with: pip install tensorflow tensorflow-hub\.$", sentence
    )
