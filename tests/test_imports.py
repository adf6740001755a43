"""The imports of each command: only what it needs, since imports are most of its start."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from nasnet_cli.cli.main import COMMANDS

pytestmark = pytest.mark.usefixtures("uncovered")

HEAVY = {
    "PIL",
    "google.protobuf",
    "h5py",
    "jinja2",
    "keras",
    "lxml",
    "numpy",
    "onnx",
    "onnxruntime",
    "openvino",
    "openvino.tools.ovc",
    "openvino_telemetry",
    "pyarrow",
    "ray",
    "rich",
    "fsspec",
    "sqlite3",
    "tensorflow",
    "tensorflow_hub",
    "tf_keras",
    "tqdm",
    "urllib.request",
}
WITH_MODEL = ("classify", "embed", "inspect")
RUNS = {"PIL", "google.protobuf", "numpy", "openvino"}

# What runs use and help does not: together a quarter of the processor time of help.
OF_RUNS = {
    "hashlib",
    "json",
    "nasnet_cli.cli.run",
    "nasnet_cli.images.source",
    "nasnet_cli.jobs.run",
    "nasnet_cli.results.records",
    "shutil",
}

CODE = """
import sys
from nasnet_cli.cli.main import run
try:
    run(sys.argv[1:])
except SystemExit as end:
    loaded = [name for name, module in sys.modules.items() if module is not None]
    print(end.code, *loaded, file=sys.stderr)
"""


def imported(arguments: list[str], cwd: Path, watched: set[str] = HEAVY) -> set[str]:
    """Return those watched that a command imports; of one with a model, the second time."""
    for _ in range(2 if "--help" not in arguments and arguments[0] in WITH_MODEL else 1):
        command = [sys.executable, "-c", CODE, *arguments]
        done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=True)
    status, *modules = done.stderr.splitlines()[-1].split()
    assert status == "0", done.stderr
    return watched & set(modules)


@pytest.mark.parametrize(
    ("module", "expected"),
    [
        ("nasnet_cli", set()),
        ("nasnet_cli.images.listing", set()),
        ("nasnet_cli.jobs.engines.local", {"sqlite3"}),
        ("nasnet_cli.models.resolve", set()),
    ],
)
def test_a_module_imports_what_it_needs(module: str, expected: set[str]) -> None:
    code = f"import {module}, json, sys; print(json.dumps(sorted(sys.modules)))"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    heavy = HEAVY | ({"click"} if module == "nasnet_cli" else set())
    assert heavy & set(json.loads(done.stdout)) == expected


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("--help", set()),
        ("--version", set()),
        ("--version -v", set()),
        ("completion zsh", set()),
        ("classify --help", set()),
        ("embed --help", set()),
        ("export --help", set()),
        ("inspect --help", set()),
        ("cache --help", set()),
        ("similar --help", set()),
        ("report --help", set()),
        ("cache path", set()),
        ("cache ls", set()),
        ("classify a.png", RUNS),
        ("classify a.png -v --format csv", RUNS),
        ("classify a.png --format table", {*RUNS, "rich"}),
        ("embed a.png -o a.npy --overwrite", {*RUNS, "sqlite3"}),
        ("inspect", {"google.protobuf"}),
    ],
)
def test_a_command_imports_what_it_needs(command: str, expected: set[str], tmp_path: Path) -> None:
    Image.new("RGB", (64, 64), "teal").save(tmp_path / "a.png")
    assert imported(command.split(), tmp_path) == expected


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_imports_nothing_of_runs(command: str, tmp_path: Path) -> None:
    assert imported([*command.split(), "--help"], tmp_path, OF_RUNS) == set()


def test_a_model_imports_no_other_format(tmp_path: Path, tiny_module: Path) -> None:
    formats = {f"nasnet_cli.models.formats.{name}" for name in ("keras", "onnx", "slim", "tflite")}
    assert imported(["inspect", str(tiny_module)], tmp_path, formats) == set()
