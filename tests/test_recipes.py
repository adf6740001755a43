"""docs/recipes.md: each recipe is run as typed, and does what its heading says."""

from __future__ import annotations

import contextlib
import csv
import json
import re
import shutil
import sqlite3
import subprocess
import tarfile
from pathlib import Path

import pytest

from support.documents import all_blocks, library, programs, run_shell, shell_blocks, write_cuts
from support.object_store import object_store

PAGE = "docs/recipes.md"
RECIPES = shell_blocks(PAGE)

pytestmark = pytest.mark.slow


@pytest.fixture
def folder(tmp_path):
    """A folder with the example photos."""
    return library(tmp_path)


def run_recipe(words, folder, **variables):
    """Run the recipe whose heading begins with words."""
    (code,) = [code for heading, code in RECIPES.items() if heading.startswith(words)]
    return run_shell(code, folder, **variables)


def images(folder):
    """Return the names of the images below a folder."""
    return {path.name for path in folder.rglob("*") if path.suffix in (".jpg", ".png")}


def test_each_recipe_has_a_test():
    run = re.findall(r'^    .*run_recipe\("([^"]+)"', Path(__file__).read_text(), re.MULTILINE)
    assert [heading for heading in RECIPES if not heading.startswith(tuple(run))] == []


def test_dogs_are_copied_and_nothing_else(folder, nasnet):
    run_recipe("Dogs", folder)
    found = nasnet("find", "dog", "labels.db", cwd=folder, expect=0).stdout
    names = {Path(line).name for line in found.splitlines()}
    assert images(folder / "dogs") == names
    assert len(images(folder / "photos")) == 9


def test_images_are_sorted_and_back(folder):
    before = images(folder / "photos")
    shown = run_recipe("A folder for each", folder)
    planned = [line for line in shown.splitlines() if " -> sorted/" in line]
    assert len(planned) == len(before) == 9
    assert images(folder / "photos") == before and not (folder / "sorted").exists()


def test_keywords_are_in_sidecars_that_exiftool_reads(folder):
    if not shutil.which("exiftool"):
        pytest.skip("exiftool is not installed")
    run_recipe("Keywords", folder)
    sidecars = sorted(folder.rglob("*.xmp"))
    assert sidecars
    command = ["exiftool", "-j", "-Subject", *sidecars]
    for found in json.loads(subprocess.run(command, capture_output=True, check=True).stdout):
        assert found["Subject"]


def test_a_backup_is_without_duplicates_and_all_are_back(folder):
    copy = shutil.copy(folder / "photos" / "espresso.jpg", folder / "photos" / "copy.jpg")
    before = images(folder / "photos")
    run_recipe("Near-duplicates", folder)
    assert images(folder / "photos") == before and Path(copy).exists()
    with tarfile.open(folder / "backup.tar") as archive:
        kept = {Path(name).name for name in archive.getnames()}
    assert len(kept & {"copy.jpg", "espresso.jpg", "espresso_sideways.jpg"}) == 1
    assert {"cat.jpg", "rocket.jpg"} <= kept


def test_the_turned_espresso_is_nearest_to_the_espresso(folder):
    run_recipe("Vectors in DuckDB", folder)
    with (folder / "nearest.csv").open() as lines:
        rows = list(csv.DictReader(lines))
    assert len(rows) == 3
    assert rows[0]["path"] == "photos/espresso_sideways.jpg"
    assert float(rows[0]["similarity"]) > 0.99 > float(rows[1]["similarity"])


def test_a_bucket_is_classified_on_ray(folder):
    with object_store() as store:
        photos = {path.name: path.read_bytes() for path in (folder / "photos").glob("*.*g")}
        store.put("photos", photos)
        run_recipe("A bucket", folder, **store.variables)
    rows = [json.loads(line) for line in (folder / "labels.jsonl").read_text().splitlines()]
    assert {row["path"] for row in rows} == {f"s3://photos/{name}" for name in photos}
    assert {row["status"] for row in rows} == {"ok"}


def test_the_request_fits_the_signature_of_the_exported_module(folder, nasnet):
    run_recipe("A model for TensorFlow Serving", folder)
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
    index = run_shell(f'python -c "{code}"', folder)
    result = nasnet("classify", "photos/espresso.jpg", "--top", 1, cwd=folder, expect=0)
    assert int(index) == result.rows[0]["predictions"][0]["index"]


def test_own_classes_are_learned(folder):
    """Two classes, of cuts of one photo each, are told apart on the photos themselves."""
    for label, name in (("coffee", "espresso.jpg"), ("space", "rocket.jpg")):
        write_cuts(folder / "photos" / name, folder / "my_classes" / label)
    run_recipe("Your own classes", folder)
    with (folder / "mine.csv").open() as lines:
        labels = {Path(row["path"]).name: row["label"] for row in csv.DictReader(lines)}
    assert (labels["espresso.jpg"], labels["rocket.jpg"]) == ("coffee", "space")


def test_cron_runs_the_line_month_after_month(folder):
    (line,) = [block.code for block in all_blocks(PAGE) if block.language == "crontab"]
    command = line.split(maxsplit=5)[5]
    programs(folder / ".local" / "bin")
    # cron's environment, and that of the tests' own cache.
    variables = {"HOME": str(folder), "PATH": "/usr/bin:/bin", "SHELL": "/bin/sh"}
    for added in (None, "new.jpg"):
        if added:
            shutil.copy(folder / "photos" / "cat.jpg", folder / "photos" / added)
        done = subprocess.run(
            ["sh", "-c", command], env=variables, capture_output=True, text=True, check=True
        )
        assert (done.stdout, done.stderr) == ("", "")
    with contextlib.closing(sqlite3.connect(folder / "labels.db")) as database:
        rows = dict(database.execute("SELECT path, status FROM images"))
    assert {Path(name).name for name in rows} == images(folder / "photos")
    assert "photos/new.jpg" in rows and set(rows.values()) == {"ok"}
