"""The module in the hands of those it was made for: TensorFlow 1.15 under Python 3.7.

The environment is built once, under the user's cache folder, where Python 3.7 is to be had.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import pytest

from support import golden
from support.cli import WATCHDOG

pytestmark = pytest.mark.slow  # the environment alone takes minutes to install

SCRIPT = Path(__file__).parent / "tf1" / "consume.py"
# tensorflow-hub 0.12 asks for no upper bound of protobuf; 3.21 no longer loads TensorFlow's own.
PINS = ("tensorflow==1.15.5", "tensorflow-hub==0.12.0", "protobuf==3.20.3", "numpy==1.18.5")
CHECKS = 37


def python37() -> str | None:
    """An interpreter of Python 3.7 that runs: on the path, or pyenv's own."""
    roots = [os.environ.get("PYENV_ROOT"), Path.home() / ".pyenv"]
    if pyenv := shutil.which("pyenv"):
        roots.append(Path(pyenv).parent.parent)
    places = [p for root in roots if root for p in Path(root).glob("versions/3.7.*/bin/python3.7")]
    for python in [shutil.which("python3.7"), *places]:
        if python is not None:
            # A shim of pyenv's is there for versions that aren't chosen too, and fails.
            done = subprocess.run([python, "-c", "import ssl, venv"], capture_output=True)
            if done.returncode == 0:
                return str(python)
    return None


@pytest.fixture(scope="module")
def consumer() -> Path:
    """The interpreter of an environment with TensorFlow 1.15."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    name = hashlib.sha256(" ".join(PINS).encode()).hexdigest()[:12]
    folder = base / "nasnet-tests" / f"tf1-{name}"
    if not (folder / "whole").exists():
        python = python37()
        if python is None:
            pytest.skip("Python 3.7 is not on this machine, and TensorFlow 1.15 needs it")
        build(python, folder)
    return folder / "bin" / "python"


def build(python: str, folder: Path) -> None:
    """Make the environment in its place; the file that says it is complete comes last."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run([python, "-m", "venv", folder], check=True)
    pip = [folder / "bin" / "python", "-m", "pip", "install", "--quiet", *PINS]
    done = subprocess.run(pip, capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip(f"TensorFlow 1.15 can't be installed here: {done.stderr.strip()[-300:]}")
    (folder / "whole").touch()


@pytest.fixture(scope="module")
def found(consumer: Path, golden_module: Path) -> dict[str, tuple[bool, str]]:
    """Return what the consumer says, check by check."""
    with tempfile.TemporaryDirectory() as folder:
        expected = Path(folder, "expected.npz")
        reference = golden.outputs("mobile")
        names = ("logits", "global_pool", "train_global_pool")
        wanted = {name: reference[name] for name in names}
        np.savez(expected, images=golden.noise(len(reference["logits"]), 224), **wanted)
        done = subprocess.run(
            [consumer, SCRIPT, golden_module, expected],
            capture_output=True,
            text=True,
            timeout=2 * WATCHDOG,
        )
    assert done.returncode == 0, done.stderr[-2000:]
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return {line["check"]: (line["holds"], line["found"]) for line in lines}


def test_every_check_of_the_consumer_holds(found):
    assert len(found) == CHECKS
    assert {name: said for name, (holds, said) in found.items() if not holds} == {}
