"""The package as pip installs it: labels and the built-in model are inside."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The wheel, built from this checkout and installed into a folder of its own."""
    folder = tmp_path_factory.mktemp("package")
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "wheel", "--no-deps", "-w", folder, ROOT], check=True)
    (wheel,) = folder.glob("*.whl")
    subprocess.run([*pip, "install", "--no-deps", "-t", folder / "site", wheel], check=True)
    return wheel, folder / "site"


def run(site, code, *arguments, cwd):
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_wheel_is_under_30_megabytes(installed):
    wheel, _ = installed
    assert wheel.stat().st_size < 30e6


def test_it_classifies_with_the_built_in_model_outside_the_checkout(installed, tmp_path):
    _, site = installed
    code = (
        "import sys, nasnet_cli, pathlib\n"
        f"assert pathlib.Path(nasnet_cli.__file__).is_relative_to({str(site)!r})\n"
        "from nasnet_cli.cli.main import run\n"
        "run(sys.argv[1:])\n"
    )
    photo = ROOT / "examples" / "photos" / "cat.jpg"
    done = run(site, code, "classify", photo, "--top", 1, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (found,) = json.loads(done.stdout)["predictions"]
    assert found["wnid"].startswith("n") and found["label"]


def test_the_label_lists_are_inside(installed, tmp_path):
    _, site = installed
    code = (
        "from nasnet_cli import labels\n"
        f"assert labels.__file__.startswith({str(site)!r})\n"
        "print(len(labels.builtin_labels('imagenet_1001')), labels.labels_for(1000)[0].name)\n"
    )
    assert run(site, code, cwd=tmp_path).stdout == "1001 tench\n"


def test_wordnet_and_its_licence_are_inside(installed, tmp_path):
    wheel, site = installed
    code = "from nasnet_cli.wordnet import load_hierarchy; print(len(load_hierarchy()))"
    assert run(site, code, cwd=tmp_path).stdout == "1860\n"
    names = zipfile.ZipFile(wheel).namelist()
    assert sum(name.endswith("/LICENSE-WordNet") for name in names) == 2


def test_the_files_of_the_report_are_inside(installed, tmp_path):
    _, site = installed
    code = (
        "import io\n"
        "from nasnet_cli.report.page import Page\n"
        "stream = io.BytesIO()\n"
        "Page('a title', 'labels.csv').write((), stream)\n"
        "print(stream.getvalue().count(b'a title'))\n"
    )
    assert run(site, code, cwd=tmp_path).stdout == "2\n"
