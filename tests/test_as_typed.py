"""README.md and docs/: what readers type runs in a fresh installation, outside the checkout.

Each recipe does what its heading says.
"""

from __future__ import annotations

import contextlib
import csv
import functools
import json
import re
import shutil
import sqlite3
import subprocess
import tarfile
from pathlib import Path

import pytest

from support.documents import (
    ROOT,
    all_blocks,
    install_fresh,
    is_command_alone,
    library,
    python_blocks,
    readme_lines,
    run_shell,
    shell_blocks,
    write_cuts,
)
from support.object_store import object_store

PAGE = "docs/recipes.md"
RECIPES = shell_blocks(PAGE)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def fresh(tmp_path_factory):
    """The programs of a fresh installation."""
    return install_fresh(tmp_path_factory.mktemp("installed"))


@pytest.fixture
def type_in(fresh, tmp_path):
    """Run what is typed in a folder with the example photos."""
    library(tmp_path)
    return functools.partial(run_shell, folder=tmp_path, programs=fresh)


@pytest.fixture
def run_recipe(type_in):
    """Run the recipe whose heading begins with words, with one thing in it replaced."""

    def run(words, replace=("", ""), **variables):
        (code,) = [code for heading, code in RECIPES.items() if heading.startswith(words)]
        return type_in(code.replace(*replace), **variables)

    return run


def images(folder):
    """Return the names of the images below a folder."""
    return {path.name for path in folder.rglob("*") if path.suffix in (".jpg", ".png")}


def test_each_recipe_has_a_test():
    run = re.findall(r'^    .*run_recipe\("([^"]+)"', Path(__file__).read_text(), re.MULTILINE)
    assert [heading for heading in RECIPES if not heading.startswith(tuple(run))] == []


def test_cups_are_copied_and_nothing_else(run_recipe, tmp_path):
    """No dog is in the photos."""
    run_recipe("Copy all dogs", replace=("find dog ", "find coffee "))
    cups = {"espresso.jpg", "espresso_sideways.jpg"}
    assert images(tmp_path / "dogs" / "photos") == images(tmp_path / "dogs") == cups
    assert len(images(tmp_path / "photos")) == 9


def test_images_are_sorted_and_back(run_recipe, tmp_path):
    before = images(tmp_path / "photos")
    shown = run_recipe("Sort into a folder")
    planned = [line for line in shown.splitlines() if " -> sorted/" in line]
    assert len(planned) == len(before) == 9
    assert images(tmp_path / "photos") == before and not (tmp_path / "sorted").exists()


def test_keywords_are_in_sidecars_that_exiftool_reads(run_recipe, tmp_path):
    if not shutil.which("exiftool"):
        pytest.skip("exiftool is not installed")
    run_recipe("Keywords")
    sidecars = sorted(tmp_path.rglob("*.xmp"))
    assert sidecars
    command = ["exiftool", "-j", "-Subject", *sidecars]
    for found in json.loads(subprocess.run(command, capture_output=True, check=True).stdout):
        assert found["Subject"]


def test_a_backup_is_without_duplicates_and_all_are_back(run_recipe, tmp_path):
    copy = shutil.copy(tmp_path / "photos" / "espresso.jpg", tmp_path / "photos" / "copy.jpg")
    before = images(tmp_path / "photos")
    run_recipe("Leave near-duplicates")
    assert images(tmp_path / "photos") == before and Path(copy).exists()
    with tarfile.open(tmp_path / "backup.tar") as archive:
        kept = {Path(name).name for name in archive.getnames()}
    assert len(kept & {"copy.jpg", "espresso.jpg", "espresso_sideways.jpg"}) == 1
    assert {"cat.jpg", "rocket.jpg"} <= kept


def test_the_turned_espresso_is_nearest_to_the_espresso(run_recipe, tmp_path):
    run_recipe("Find a photo's nearest neighbours")
    with (tmp_path / "nearest.csv").open() as lines:
        rows = list(csv.DictReader(lines))
    assert len(rows) == 3
    assert rows[0]["path"] == "photos/espresso_sideways.jpg"
    assert float(rows[0]["similarity"]) > 0.99 > float(rows[1]["similarity"])


def test_a_bucket_is_classified_on_ray(run_recipe, tmp_path):
    with object_store() as store:
        photos = {path.name: path.read_bytes() for path in (tmp_path / "photos").glob("*.*g")}
        store.put("photos", photos)
        run_recipe("Classify a bucket", **store.variables)
    rows = [json.loads(line) for line in (tmp_path / "labels.jsonl").read_text().splitlines()]
    assert {row["path"] for row in rows} == {f"s3://photos/{name}" for name in photos}
    assert {row["status"] for row in rows} == {"ok"}


def test_the_request_fits_the_signature_of_the_exported_module(
    run_recipe, type_in, tmp_path, nasnet
):
    run_recipe("Export a model for TensorFlow Serving")
    code = (
        "import json, numpy as np, tensorflow_hub as hub\n"
        "request = json.load(open('request.json'))\n"
        "module = hub.load('serving/nasnet/1')\n"
        "signature = module.signatures[request['signature_name']]\n"
        "(name,) = signature.structured_input_signature[1]\n"
        "outputs = signature(**{name: np.array(request['instances'], np.float32)})\n"
        "assert set(outputs) == {'logits', 'features'}\n"
        "print(int(np.argmax(outputs['logits'][0])))\n"
    )
    index = type_in(f'python -c "{code}"')
    result = nasnet("classify", "photos/espresso.jpg", "--top", 1, cwd=tmp_path, expect=0)
    assert int(index) == result.rows[0]["predictions"][0]["index"]


def test_own_classes_are_learned(run_recipe, tmp_path):
    """Two classes, of cuts of one photo each, are told apart on the photos themselves."""
    for label, name in (("coffee", "espresso.jpg"), ("space", "rocket.jpg")):
        write_cuts(tmp_path / "photos" / name, tmp_path / "my_classes" / label)
    run_recipe("Teach a model")
    with (tmp_path / "mine.csv").open() as lines:
        labels = {Path(row["path"]).name: row["label"] for row in csv.DictReader(lines)}
    assert (labels["espresso.jpg"], labels["rocket.jpg"]) == ("coffee", "space")


def test_cron_runs_the_line_month_after_month(fresh, tmp_path):
    (line,) = [block.code for block in all_blocks(PAGE) if block.language == "crontab"]
    command = line.split(maxsplit=5)[5]
    library(tmp_path)
    program = tmp_path / ".local" / "bin" / "nasnet"
    program.parent.mkdir(parents=True)
    program.symlink_to(fresh / "nasnet")
    variables = {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin", "SHELL": "/bin/sh"}
    for added in (None, "new.jpg"):
        if added:
            shutil.copy(tmp_path / "photos" / "cat.jpg", tmp_path / "photos" / added)
        done = subprocess.run(
            ["sh", "-c", command], env=variables, capture_output=True, text=True, check=True
        )
        assert (done.stdout, done.stderr) == ("", "")
    with contextlib.closing(sqlite3.connect(tmp_path / "labels.db")) as database:
        rows = dict(database.execute("SELECT path, status FROM images"))
    assert {Path(name).name for name in rows} == images(tmp_path / "photos")
    assert "photos/new.jpg" in rows and set(rows.values()) == {"ok"}


PAGES = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").glob("*.md"))
RUN = [page for page in PAGES if page != PAGE and (shell_blocks(page) or python_blocks(page))]


@pytest.fixture
def all_named(type_in, tmp_path):
    """The folder with the photos, and all else that the pages name."""
    photos = tmp_path / "photos"
    for name in ("inbox", "library"):
        shutil.copytree(photos, tmp_path / name)
    truth = "path,label\nphotos/espresso.jpg,espresso\nphotos/rocket.jpg,missile\n"
    (tmp_path / "truth.csv").write_text(truth)
    imagenet = tmp_path / "ILSVRC" / "Data" / "CLS-LOC" / "val"
    imagenet.mkdir(parents=True)
    answers = ["ImageId,PredictionString"]
    names = {"espresso": ("n07920052", "espresso.jpg"), "missile": ("n03773504", "rocket.jpg")}
    for number, (label, (wnid, photo)) in enumerate(names.items(), 1):
        for classes in ("photos_by_class", "my_classes", "my_test_images"):
            write_cuts(photos / photo, tmp_path / classes / label)
        shutil.copy(photos / photo, imagenet / f"ILSVRC2012_val_{number:08}.JPEG")
        answers.append(f"ILSVRC2012_val_{number:08},{wnid} 85 1 499 272")
    (tmp_path / "LOC_val_solution.csv").write_text("\n".join(answers) + "\n")
    with object_store() as store:
        store.put("bucket", {"photos/cat.jpg": (photos / "cat.jpg").read_bytes()})
        yield functools.partial(type_in, **store.variables)


def run_python(page, type_in, folder):
    for code in python_blocks(page):
        (folder / "block.py").write_text(code)
        type_in("python block.py")


@pytest.mark.parametrize("page", RUN)
def test_the_blocks_of_a_page_run(page, all_named, tmp_path):
    """Run them one after the other; the built-in model stands in for the published ones."""
    if page == "docs/evaluation.md":
        all_named("nasnet classify photos/espresso.jpg photos/rocket.jpg -o labels.jsonl")
    for code in shell_blocks(page).values():
        all_named(re.sub(r"--model imagenet-\S+", "--model builtin", code))
    run_python(page, all_named, tmp_path)


def test_the_lines_of_the_readme_that_need_a_shell_or_a_server_run(all_named, tmp_path):
    """test_docs.py runs the others."""
    all_named("nasnet classify photos/ -o labels.csv; nasnet classify photos/ -o labels.jsonl")
    for line in readme_lines():
        if not is_command_alone(line):
            all_named(line)
    run_python("README.md", all_named, tmp_path)
