"""Finished outputs that --resume brings up to date with a library that has grown."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nasnet_cli.jobs.inputs import KEY_BYTES, RETRY, VERSION, read_inputs
from nasnet_cli.jobs.state import State
from support.cli import WATCHDOG
from support.killing import run

pytestmark = pytest.mark.usefixtures("models_opened_once")


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
    monkeypatch.setattr(State, "adopt", lambda *_: pytest.fail("The rows are copied."))
    times = {name: Path(name).stat().st_mtime_ns for name in grown}
    done = nasnet(*arguments, "--resume", expect=0)
    assert "already complete" in done.stderr and "; 13 in earlier runs; " in done.stderr
    assert files_here() == grown
    assert {name: Path(name).stat().st_mtime_ns for name in grown} == times


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
    assert (head["format"], head["version"], head["check"]) == ("nasnet-inputs", VERSION, "stat")
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
        data = bytearray(data.replace(f'"version": {VERSION}'.encode(), b'"version": 9'))
    record.write_bytes(data)
    before = files_here()
    refused = nasnet(*arguments, "--resume", expect=1)
    assert "l.jsonl.inputs" in refused.stderr and "--overwrite" in refused.stderr
    assert files_here() == before
    nasnet(*arguments, "--overwrite", expect=3)
    assert "already complete" in nasnet(*arguments, "--resume", expect=3).stderr


def test_folder_that_cannot_be_listed_keeps_its_rows(library, tiny_module, nasnet, monkeypatch):
    arguments = ("classify", "photos", "-m", tiny_module, "--out", "l.jsonl")
    nasnet(*arguments, expect=3)
    whole = files_here()
    scandir = os.scandir

    def unreadable(folder):
        if os.fsdecode(folder).endswith("2023"):
            raise OSError(5, os.strerror(5))
        return scandir(folder)

    # Twice: the second run too finds the rows of what it cannot list.
    for _ in range(2):
        with monkeypatch.context() as patch:
            patch.setattr(os, "scandir", unreadable)
            fail_to_decode(patch, "2023")
            nasnet(*arguments, "--resume", expect=3)
        rows = [json.loads(line) for line in Path("l.jsonl").read_text().splitlines()]
        assert [row["path"] for row in rows if row["status"] == "error"] == [
            "photos/2023",
            "photos/broken.png",
        ]
        assert len(rows) == 14
    with monkeypatch.context() as patch:
        fail_to_decode(patch)
        nasnet(*arguments, "--resume", expect=3)
    assert files_here() == whole


def test_archive_that_is_damaged_keeps_the_rows_behind_the_damage(
    library, tiny_module, nasnet, monkeypatch
):
    import tarfile

    with tarfile.open("p.tar", "w") as tar:
        for path in sorted(library.glob("*/*.png")):
            tar.add(path, path.name)
    arguments = ("classify", "p.tar", "-m", tiny_module, "--out", "l.jsonl")
    nasnet(*arguments, expect=0)
    Path("p.tar").write_bytes(b"\0" * 20 + b"no archive" * 100)
    fail_to_decode(monkeypatch, "p.tar")
    nasnet(*arguments, "--resume", expect=3)
    rows = [json.loads(line) for line in Path("l.jsonl").read_text().splitlines()]
    assert rows[0]["path"] == "p.tar" and len(rows) == 13


def test_archive_that_is_damaged_in_the_middle_has_each_row_once(library, tiny_module, nasnet):
    import tarfile

    with tarfile.open("p.tar", "w") as tar:
        for path in sorted(library.glob("*/*.png")):
            tar.add(path, path.name)
    with tarfile.open("p.tar") as tar:
        damaged = tar.getmembers()[4].offset
    arguments = ("classify", "p.tar", "-m", tiny_module, "--out", "l.jsonl")
    nasnet(*arguments, expect=0)
    before = Path("l.jsonl").read_bytes().splitlines()
    with Path("p.tar").open("r+b") as file:
        file.seek(damaged)
        file.write(b"no header" * 50)
    for _ in range(2):
        nasnet(*arguments, "--resume", expect=3)
        now = Path("l.jsonl").read_bytes().splitlines()
        assert json.loads(now.pop(4))["path"] == "p.tar"
        assert now == before


@pytest.mark.parametrize("loss", ["empty", "missing", "file"])
def test_named_path_without_images_ends_the_run_unless_pruned(
    loss, library, tiny_module, nasnet, monkeypatch
):
    """As after a restart that has not mounted a disk."""
    draw(Path("disk/a.png"), 200)
    draw(Path("disk/b.png"), 201)
    draw(Path("one.png"), 202)
    arguments = ("classify", "photos", "disk", "one.png", "-m", tiny_module, "--out", "l.jsonl")
    nasnet(*arguments, expect=3)
    before = files_here()
    lost = "one.png" if loss == "file" else "disk"
    aside = Path("aside")
    Path(lost).rename(aside)
    if loss == "empty":
        Path("disk").mkdir()
    for more in ((), ("--top", 5)):
        stopped = nasnet(*arguments, *more, "--resume", expect=1)
        number = "1 row" if loss == "file" else "2 rows"
        assert f"{lost} has {number} in l.jsonl, and is missing or empty now." in stopped.stderr
        assert "--prune" in stopped.stderr
        now = {**before}
        if loss == "file":
            del now["one.png"]
            now["aside"] = aside.read_bytes()
        assert files_here() == now
    nasnet(*arguments, "--resume", "--prune", expect=3)
    pruned = files_here()
    nasnet(*arguments, "--overwrite", expect=3)
    assert files_here() == pruned
    if loss == "empty":
        Path("disk").rmdir()
    aside.rename(lost)
    nasnet(*arguments, "--resume", expect=3)
    assert files_here() == before


def test_folder_named_twice_has_its_rows_once(library, tiny_module, nasnet):
    arguments = ("classify", "photos", "photos/2023", "photos", "-m", tiny_module)
    arguments = (*arguments, "--out", "l.jsonl")
    nasnet(*arguments, expect=3)
    (library / "2023" / "01.png").unlink()
    assert "0 new or changed, 1 gone" in nasnet(*arguments, "--resume", expect=3).stderr


def test_rows_of_paths_that_are_not_named_now_stay(library, tiny_module, nasnet, monkeypatch):
    draw(Path("videos/a.png"), 200)
    arguments = ("classify", "-m", tiny_module, "--out", "l.jsonl")
    nasnet(*arguments, "photos", "videos", expect=3)
    before = files_here()
    with monkeypatch.context() as patch:
        fail_to_decode(patch)
        stopped = nasnet(*arguments, "photos", "--resume", expect=1)
        assert "l.jsonl has 1 row of images in other places" in stopped.stderr
        assert "such as videos/a.png" in stopped.stderr and "--prune" in stopped.stderr
        stopped = nasnet(*arguments, library.absolute(), "--resume", expect=1)
        assert "l.jsonl has 14 rows of images in other places" in stopped.stderr
        assert files_here() == before
        nasnet(*arguments, "photos", "--resume", "--prune", expect=3)
    pruned = files_here()
    nasnet(*arguments, "photos", "--overwrite", expect=3)
    assert files_here() == pruned


def test_files_of_a_pattern_and_of_a_list_may_be_fewer(library, tiny_module, nasnet):
    arguments = ("classify", "-m", tiny_module, "--out", "l.jsonl")
    names = sorted(library.glob("*/*.png"))
    nasnet(*arguments, *names, expect=0)
    names[2].unlink()
    del names[2]
    assert "0 new or changed, 1 gone" in nasnet(*arguments, *names, "--resume", expect=0).stderr
    names[3].unlink()
    del names[3]
    listed = "".join(f"{name}\n" for name in names).encode()
    done = nasnet(*arguments, "-", "--resume", stdin=listed, expect=0)
    assert "0 new or changed, 1 gone" in done.stderr


def set_version(name: str, version: str) -> None:
    """Have a finished output say that another version of nasnet made it."""
    meta = Path(f"{name}.meta.json")
    before = hashlib.sha256(meta.read_bytes()).hexdigest()
    described = json.loads(meta.read_text())
    described["tool"]["version"] = version
    described["runtime"]["version"] = "1999.1"
    meta.write_text(json.dumps(described))
    after = hashlib.sha256(meta.read_bytes()).hexdigest()
    record = Path(f"{name}.inputs")
    body = record.read_bytes()[:-32].replace(before.encode(), after.encode())
    record.write_bytes(body + hashlib.sha256(body).digest())


def test_rows_of_another_version_are_kept_where_that_is_accepted(
    library, tiny_module, nasnet, monkeypatch
):
    arguments = ("classify", "photos", "-m", tiny_module, "--out", "l.jsonl")
    nasnet(*arguments, expect=3)
    set_version("l.jsonl", "0.2.9")
    before = files_here()
    refused = nasnet(*arguments, "--resume", expect=1)
    assert "l.jsonl was started with nasnet 0.2.9, runtime version 1999.1" in refused.stderr
    assert "--accept-versions" in refused.stderr and "--overwrite" in refused.stderr
    other = nasnet(*arguments, "--resume", "--accept-versions", "--top", 2, expect=1)
    assert "--top 2" in other.stderr and "Use the same options" in other.stderr
    assert files_here() == before
    grow(library)
    fail_to_decode(monkeypatch, *NEW)
    nasnet(*arguments, "--resume", "--accept-versions", expect=0)
    meta = json.loads(Path("l.jsonl.meta.json").read_text())
    assert meta["tool"]["earlier_versions"] == ["0.2.9"]
    assert meta["runtime"]["earlier_versions"] == ["1999.1"]
    assert meta["tool"]["version"] != "0.2.9"
    assert "already complete" in nasnet(*arguments, "--resume", expect=0).stderr


@pytest.mark.parametrize("option", ["--prune", "--accept-versions"])
def test_options_that_need_resume(option, library, tiny_module, nasnet):
    done = nasnet("classify", "photos", "-m", tiny_module, "--out", "l.jsonl", option, expect=2)
    assert f"{option} needs --resume" in done.stderr
    done = nasnet("classify", "photos", "--shards", 2, "--out", "d", "--resume", option, expect=2)
    assert f"{option} cannot be used with shards" in done.stderr


# Ends the process with SIGKILL where the patch says.
DYING = (
    "import os, signal\n"
    "from nasnet_cli.jobs import finished, run as running, state\n"
    "from nasnet_cli.results import atomic\n"
    "def die(*_): os.kill(os.getpid(), signal.SIGKILL)\n"
    "count = []\n"
    "def die_after(number, function):\n"
    "    def call(*arguments, **settings):\n"
    "        count.append(1)\n"
    "        if len(count) > number: die()\n"
    "        return function(*arguments, **settings)\n"
    "    return call\n"
    "{patch}\n"
    "from nasnet_cli.cli.main import run\n"
    "run()\n"
)
PLACES = [
    # while the old rows are read, right after they are kept, and before the first new one
    "finished.from_records = die_after(5, finished.from_records)",
    "state.State.adopt = die_after(0, state.State.adopt)",
    "running._stored_rows = die",
    # while rows are added, in all sizes
    *(
        f"state._COMMIT_SECONDS = 0.0\nstate.State.add = die_after({n}, state.State.add)"
        for n in (1, 2, 3, 4)
    ),
    # while the files take their names, which the next run does once more
    *(
        f"atomic._Replacement.publish = die_after({n}, atomic._Replacement.publish)"
        for n in (0, 1, 2, 4)
    ),
    "state.State.remove = die",
]


def test_killed_ten_times_on_the_way_to_a_grown_library(library, tiny_module, nasnet, monkeypatch):
    outs = ("--out", "l.csv", "--embed", "v.npy")
    arguments = ("classify", "photos", "-m", tiny_module, *outs)
    nasnet(*arguments, expect=3)
    grow(library)
    for i in range(20):
        draw(library / "2025" / f"{i:02d}.png", 300 + i)
    (library / "zz.png").write_bytes(b"broken")
    kills = 0
    for patch in PLACES:
        dying = [sys.executable, "-c", DYING.format(patch=patch)]
        done = run(dying, *arguments, "--resume", "-q", timeout=WATCHDOG)
        assert done.returncode == -signal.SIGKILL, (patch, done)
        kills += 1
    assert kills >= 10
    with monkeypatch.context() as patch:
        fail_to_decode(patch)  # every row has been kept on the way
        nasnet(*arguments, "--resume", expect=3)
    resumed = files_here()
    nasnet(*arguments, "--overwrite", expect=3)
    assert files_here() == resumed
