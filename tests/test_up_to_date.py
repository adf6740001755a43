"""Finished outputs that --resume brings up to date with a library that has grown."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nasnet_cli.jobs.inputs import KEY_BYTES, RETRY, read_inputs


def draw(path: Path, seed: int) -> None:
    """Write an image whose file has the same size for every seed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (24, 24, 3), np.uint8)
    Image.fromarray(pixels).save(path, compress_level=0)


@pytest.fixture
def library(tmp_path, monkeypatch):
    """A folder photos/ of 12 images, in two subfolders, and one that is broken."""
    monkeypatch.chdir(tmp_path)
    for i in range(12):
        draw(Path("photos", "2023" if i < 6 else "2024", f"{i:02d}.png"), i)
    Path("photos/broken.png").write_bytes(b"broken")
    return Path("photos")


def grow(library: Path) -> None:
    """Add, change and remove images, whatever their places."""
    draw(library / "2022" / "first.png", 100)
    draw(library / "2023" / "03a.png", 101)
    draw(library / "2023" / "02.png", 102)
    os.utime(library / "2023" / "02.png", ns=(0, 10**18))
    (library / "2024" / "07.png").unlink()
    (library / "broken.png").unlink()
    (library / "notes.txt").write_text("not an image")


def fail_to_decode(monkeypatch, *allowed: str) -> None:
    """Have each image that is decoded fail the test unless its name is among those."""
    from nasnet_cli.images import load as module

    load = module.load

    def checked(source, **settings):
        assert Path(source.path).name in allowed, f"{source.path} is processed again"
        return load(source, **settings)

    monkeypatch.setattr(module, "load", checked)


NEW = ("first.png", "03a.png", "02.png")
FORMATS = [
    ("classify", "l.jsonl", ()),
    ("classify", "l.csv", ("--logits", "--sure", "0.3")),
    ("classify", "l.json", ("--threshold", "0.1", "--top", "2")),
    ("classify", "l.parquet", ("--logits",)),
    ("classify", "l.db", ("--logits",)),
    ("classify", "l.csv", ("--embed", "v.npz")),
    ("embed", "v.npy", ()),
    ("embed", "v.npz", ("--dtype", "float16")),
    ("embed", "v.parquet", ("--normalize",)),
]


@pytest.mark.parametrize(("command", "out", "options"), FORMATS)
def test_grown_library_gives_the_bytes_of_a_fresh_run(
    command, out, options, library, tiny_module, label_file, nasnet, monkeypatch
):
    if "parquet" in out:
        pytest.importorskip("pyarrow")
    labels = ("--labels", label_file) if command == "classify" else ()
    arguments = (command, "photos", "-m", tiny_module, *labels, *options, "--out", out)
    nasnet(*arguments, expect=3)
    grow(library)
    with monkeypatch.context() as patch:
        fail_to_decode(patch, *NEW)
        done = nasnet(*arguments, "--resume", expect=0)
    assert "Since the last run: 3 new or changed, 2 gone." in done.stderr
    grown = files_here()
    nasnet(*arguments, "--overwrite", expect=0)
    assert files_here() == grown
    fail_to_decode(monkeypatch)
    assert "already complete" in nasnet(*arguments, "--resume", expect=0).stderr
    assert files_here() == grown


def files_here() -> dict[str, bytes]:
    """Return the contents of the files in the current folder, without what a run leaves none of."""
    found = {path.name: path.read_bytes() for path in Path.cwd().iterdir() if path.is_file()}
    assert not any(name.startswith(".") for name in found)
    return found


def test_odd_names_stay_as_they_are(tmp_path, tiny_module, nasnet, monkeypatch):
    """Names that CSV marks or cannot hold, names with line ends and quotes."""
    monkeypatch.chdir(tmp_path)
    Path("photos").mkdir()
    names = [b"=1+1.png", b"a\nb.png", b'q".png', "é.png".encode(), b"\xff.png", b"\\xff.png"]
    for seed, name in enumerate(names):
        draw(Path("photos", os.fsdecode(name)), seed)
    monkeypatch.chdir("photos")
    for out in ("../l.csv", "../l.jsonl", "../v.npy"):
        command = "embed" if "npy" in out else "classify"
        arguments = (command, "-m", tiny_module, "--out", out)
        nasnet(*arguments, expect=0)
        draw(Path("z.png"), 50)
        with monkeypatch.context() as patch:
            fail_to_decode(patch, "z.png")
            nasnet(*arguments, "--resume", expect=0)
        monkeypatch.chdir("..")
        grown = files_here()
        monkeypatch.chdir("photos")
        nasnet(*arguments, "--overwrite", expect=0)
        monkeypatch.chdir("..")
        assert files_here() == grown
        monkeypatch.chdir("photos")
        Path("z.png").unlink()


def test_own_files_in_the_library_are_not_counted(library, tiny_module, nasnet, monkeypatch):
    monkeypatch.chdir(library)
    arguments = ("classify", "-m", tiny_module, "--out", "labels.json")
    nasnet(*arguments, expect=3)
    first = files_here()
    assert '"passed_over": 0' in Path("labels.json").read_text()
    assert "already complete" in nasnet(*arguments, "--resume", expect=3).stderr
    nasnet(*arguments, "--overwrite", expect=3)
    assert files_here() == first


def test_passing_errors_are_tried_again(library, tiny_module, nasnet, monkeypatch):
    """A timeout has a row, which the next run does not believe; a broken image's row stays."""
    from nasnet_cli.errors import InputError
    from nasnet_cli.images import load as module

    load = module.load

    def slow(source, **settings):
        if source.path.endswith("02.png"):
            raise InputError("timeout", "It took too long.")
        return load(source, **settings)

    arguments = ("classify", "photos", "-m", tiny_module, "--out", "l.jsonl")
    with monkeypatch.context() as patch:
        patch.setattr(module, "load", slow)
        nasnet(*arguments, expect=3)
    assert list(read_inputs(Path("l.jsonl.inputs"))).count(RETRY) == 1
    assert "It took too long" in Path("l.jsonl").read_text()
    with monkeypatch.context() as patch:
        fail_to_decode(patch, "02.png")
        nasnet(*arguments, "--resume", expect=3)
    resumed = files_here()
    nasnet(*arguments, "--overwrite", expect=3)
    assert files_here() == resumed


def test_check_content_and_other_options_are_refused(library, tiny_module, nasnet):
    arguments = ("classify", "photos", "-m", tiny_module, "--out", "l.jsonl")
    nasnet(*arguments, expect=3)
    before = files_here()
    for more, words in (
        (("--check", "content"), "--check stat; this run has --check content"),
        (("--top", 3), "--top 5; this run has --top 3"),
        (("--format", "csv"), "--format jsonl; this run has --format csv"),
    ):
        assert words in nasnet(*arguments, "--resume", *more, expect=1).stderr
        assert files_here() == before


def test_record_has_a_head_and_sixteen_bytes_a_row(library, tiny_module, nasnet):
    nasnet("classify", "photos", "-m", tiny_module, "--out", "l.jsonl", expect=3)
    data = Path("l.jsonl.inputs").read_bytes()
    head = json.loads(data[: data.index(b"\n")])
    assert (head["format"], head["version"], head["check"]) == ("nasnet-inputs", 1, "stat")
    assert head["rows"] == 13 and head["formats"] == {"labels": "jsonl"}
    assert len(data) == data.index(b"\n") + 1 + 13 * KEY_BYTES + 32


def test_output_without_a_record_is_made_anew(library, tiny_module, nasnet):
    arguments = ("classify", "photos", "-m", tiny_module, "--out", "l.jsonl")
    nasnet(*arguments, expect=3)
    fresh = files_here()
    Path("l.jsonl.inputs").unlink()
    meta = json.loads(Path("l.jsonl.meta.json").read_text())
    meta["tool"]["version"] = "0.1.0"
    del meta["options"]["sure"]
    Path("l.jsonl.meta.json").write_text(json.dumps(meta))
    Path("l.jsonl").write_text(Path("l.jsonl").read_text().replace("class", "old class"))
    refused = nasnet(*arguments, "--resume", "--top", 2, expect=1)
    assert "--top 5; this run has --top 2" in refused.stderr
    done = nasnet(*arguments, "--resume", expect=3)
    assert "l.jsonl.inputs is missing, so all images are processed again." in done.stderr
    assert files_here() == fresh


@pytest.mark.parametrize("damage", ["cut", "flip", "head", "version"])
def test_damaged_record_is_refused(damage, library, tiny_module, nasnet):
    arguments = ("classify", "photos", "-m", tiny_module, "--out", "l.jsonl")
    nasnet(*arguments, expect=3)
    record = Path("l.jsonl.inputs")
    data = bytearray(record.read_bytes())
    if damage == "cut":
        del data[-1]
    elif damage == "flip":
        data[-60] ^= 1
    elif damage == "head":
        data[40:46] = b"[" * 6
    else:
        data = bytearray(data.replace(b'"version": 1', b'"version": 9'))
    record.write_bytes(data)
    before = files_here()
    refused = nasnet(*arguments, "--resume", expect=1)
    assert "l.jsonl.inputs" in refused.stderr and "--overwrite" in refused.stderr
    assert files_here() == before
    nasnet(*arguments, "--overwrite", expect=3)
    assert "already complete" in nasnet(*arguments, "--resume", expect=3).stderr
