"""The Dockerfile, as far as it can be checked without Docker: a virtual environment by its steps."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")


def left_out() -> set[str]:
    """Return the packages that without-tensorflow.txt names."""
    lines = (ROOT / "without-tensorflow.txt").read_text(encoding="utf-8").splitlines()
    return {line for line in lines if not line.startswith("#")}


def test_what_is_left_out_are_dependencies():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    names = {re.match(r"[\w-]+", each)[0] for each in project["dependencies"]}
    assert left_out() < names and "tensorflow" in left_out()


def test_the_image_runs_nasnet_as_a_user_of_its_own():
    instructions = re.findall(r"^([A-Z]+) (.*)$", DOCKERFILE, re.MULTILINE)
    last = dict(instructions)
    assert last["ENTRYPOINT"] == '["nasnet"]' and last["CMD"] == '["--help"]'
    assert last["USER"] == "nasnet"
    assert "NASNET_CACHE_DIR=/var/cache/nasnet" in last["ENV"]
    (script,) = re.findall(r"^RUN /source/(\S+) /opt/nasnet$", DOCKERFILE, re.MULTILINE)
    assert os.access(ROOT / script, os.X_OK)


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A virtual environment by the steps of the image, and its warm cache."""
    folder = tmp_path_factory.mktemp("image")
    # The uv of the environment that the tests run in.
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "NASNET_CACHE_DIR": str(folder / "cache")}
    environment.pop("PYTHONPATH", None)
    install = [ROOT / "docker" / "install.sh", folder / "nasnet"]
    subprocess.run(install, env=environment, check=True)
    return folder, {**environment, "HOME": "/nonexistent"}


@pytest.mark.slow
def test_an_installation_by_the_same_steps_starts_warm(installed, tmp_path):
    folder, environment = installed
    compiled = folder / "cache" / "compiled"
    before = {path.name: path.stat().st_mtime_ns for path in compiled.iterdir()}
    assert len(before) == 3
    nasnet = folder / "nasnet" / "bin" / "nasnet"
    photos = ROOT / "examples" / "photos"
    for command in (
        ["classify", photos, "-o", "labels.jsonl"],
        ["embed", photos, "-o", "vectors.npy"],
        ["classify", photos, "-o", "both.csv", "--embed", "both.npy"],
        ["similar", photos / "cat.jpg", "--index", "vectors.npy", "--top", "1"],
        ["find", "matter", "labels.jsonl"],
        ["report", "labels.jsonl", "-o", "report.html"],
    ):
        done = subprocess.run(
            [nasnet, *command],
            cwd=tmp_path,
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
            check=True,
        )
        assert "cache is not used" not in done.stderr
    assert len((tmp_path / "labels.jsonl").read_text().splitlines()) == 9
    assert {path.name: path.stat().st_mtime_ns for path in compiled.iterdir()} == before


@pytest.mark.slow
def test_it_has_no_tensorflow_and_says_so(installed, tmp_path):
    folder, environment = installed
    nasnet = folder / "nasnet" / "bin" / "nasnet"
    done = subprocess.run(
        [nasnet, "--version", "-v"], env=environment, capture_output=True, text=True, check=True
    )
    assert "tensorflow is not installed" in done.stdout.splitlines()
    listing = [sys.executable, "-m", "uv", "pip", "list", "--format", "json"]
    listed = subprocess.run(
        [*listing, "--python", folder / "nasnet"],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert not left_out() & {package["name"] for package in json.loads(listed.stdout)}
