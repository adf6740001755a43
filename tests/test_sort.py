"""nasnet sort: folders by label, and back."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import zipfile

import pytest

from nasnet_cli.albums.sorting import folder_name
from nasnet_cli.results.records import Classified
from support.cli import NASNET
from support.disks import small_disk
from support.labels import (
    ALL_FORMATS,
    BIRD_CRANE,
    DOG,
    GOLDEN,
    MACHINE_CRANE,
    TABBY,
    failed,
    labelled,
    write_results,
)

ROWS = [
    labelled("a/1.jpg", DOG, (GOLDEN, 0.4)),
    labelled("b/1.jpg", DOG, (GOLDEN, 0.3)),
    labelled("crane.jpg", BIRD_CRANE),
    labelled("machine.jpg", MACHINE_CRANE),
    labelled("unsure.jpg", None, (TABBY, 0.2)),
    Classified("none.jpg", ()),
    failed("broken.jpg"),
]
BY_SURE = {
    "dog/1.jpg": "a/1.jpg",
    "dog/1 (2).jpg": "b/1.jpg",
    "crane (bird)/crane.jpg": "crane.jpg",
    "crane (machine)/machine.jpg": "machine.jpg",
    "_not_sure/unsure.jpg": "unsure.jpg",
    "_not_sure/none.jpg": "none.jpg",
}
BY_TOP1 = {
    "golden retriever/1.jpg": "a/1.jpg",
    "golden retriever/1 (2).jpg": "b/1.jpg",
    "crane (bird)/crane.jpg": "crane.jpg",
    "crane (machine)/machine.jpg": "machine.jpg",
    "tabby/unsure.jpg": "unsure.jpg",
    "_not_sure/none.jpg": "none.jpg",
}


@pytest.fixture
def photos(tmp_path):
    """A folder of images, each of which holds its own name, with their labels."""
    folder = tmp_path / "photos"
    for row in ROWS:
        file = folder / row.path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(row.path)
    write_results(folder / "labels.jsonl", ROWS)
    return folder


def images(folder):
    """Return what the images below a folder hold, by their names, without hidden files."""
    return {
        str(path.relative_to(folder)): path.read_text()
        for path in folder.rglob("*")
        if path.is_file() and not path.name.startswith(".") and not path.match("labels.*")
    }


@pytest.mark.parametrize(("by", "expected"), [("sure", BY_SURE), ("top1", BY_TOP1)])
@pytest.mark.parametrize("how", ["--copy", "--link", "--move"])
def test_images_are_sorted_and_taken_back(by, expected, how, photos, tmp_path, nasnet):
    before = images(photos)
    done = nasnet("sort", "labels.jsonl", "--into", "../out", "--by", by, how, cwd=photos, expect=0)
    assert images(tmp_path / "out") == expected
    assert set(images(photos)) == ({"broken.jpg"} if how == "--move" else set(before))
    verb = {"--copy": "copied", "--link": "linked", "--move": "moved"}[how]
    assert done.stderr.startswith(
        f"7 images: 6 {verb} into {len({*map(folder_of, expected)})} fold"
    )
    assert "1 error: 1 truncated (copy them again)." in done.stderr and done.stdout == ""
    again = nasnet(
        "sort", "labels.jsonl", "--into", "../out", "--by", by, how, cwd=photos, expect=0
    )
    assert f"0 {verb}" in again.stderr and "6 there already" in again.stderr
    back = nasnet("sort", "--undo", tmp_path / "out", expect=0)
    assert back.stderr == "6 files taken back.\n"
    assert images(photos) == before
    assert not (tmp_path / "out").exists()


def folder_of(name):
    return name.rpartition("/")[0]


@pytest.mark.parametrize("format_", ALL_FORMATS)
def test_all_formats_are_sorted(format_, photos, tmp_path, nasnet):
    file = write_results(tmp_path / f"labels.{format_}", ROWS)
    nasnet("sort", file, "--into", tmp_path / "out", "--base", photos, expect=0)
    assert images(tmp_path / "out") == BY_SURE


def test_a_dry_run_changes_nothing(photos, tmp_path, nasnet):
    done = nasnet("sort", "labels.jsonl", "--into", "out", "--move", "--dry-run", cwd=photos)
    assert done.exit_code == 0
    lines = done.stdout.splitlines()
    assert lines[1] == f"move {photos}/b/1.jpg -> out/dog/1 (2).jpg"
    assert len(lines) == 6 and "6 to be moved" in done.stderr
    assert not (photos / "out").exists() and (photos / "b" / "1.jpg").exists()


def test_members_of_archives_are_copied_and_never_moved(tmp_path, nasnet):
    with zipfile.ZipFile(tmp_path / "p.zip", "w") as archive:
        for name in ("x/1.jpg", "2.jpg"):
            archive.writestr(name, name)
    (tmp_path / "1.jpg").write_text("file")
    rows = [labelled(path, DOG) for path in ("p.zip!/x/1.jpg", "p.zip!/2.jpg", "1.jpg")]
    write_results(tmp_path / "labels.csv", rows)
    sort = ("sort", "labels.csv", "--into", "out")
    for how in ("--link", "--copy"):
        nasnet(*sort, how, cwd=tmp_path, expect=0)
        expected = {"dog/1.jpg": "x/1.jpg", "dog/2.jpg": "2.jpg", "dog/1 (2).jpg": "file"}
        assert images(tmp_path / "out") == expected
        nasnet("sort", "--undo", "out", cwd=tmp_path, expect=0)
        assert not (tmp_path / "out").exists()
    moved = nasnet(*sort, "--move", cwd=tmp_path, expect=0)
    assert "1 moved into 1 folder, 2 skipped (in an archive)." in moved.stderr
    assert images(tmp_path / "out") == {"dog/1.jpg": "file"}


def test_a_copy_stays_when_its_archive_is_gone(tmp_path, nasnet):
    with zipfile.ZipFile(tmp_path / "p.zip", "w") as archive:
        archive.writestr("1.jpg", "1")
    write_results(tmp_path / "labels.csv", [labelled("p.zip!/1.jpg", DOG)])
    nasnet("sort", "labels.csv", "--into", "out", cwd=tmp_path, expect=0)
    (tmp_path / "p.zip").unlink()
    back = nasnet("sort", "--undo", "out", cwd=tmp_path, expect=3)
    assert "out/dog/1.jpg: its original is gone, so the copy stays." in back.stderr
    assert "0 files taken back, 1 not." in back.stderr
    assert (tmp_path / "out" / "dog" / "1.jpg").exists()


def test_missing_images_are_counted_and_wrong_folders_named(photos, tmp_path, nasnet):
    (photos / "crane.jpg").unlink()
    some = nasnet("sort", "labels.jsonl", "--into", "out", "-v", cwd=photos, expect=3)
    assert "5 copied" in some.stderr and "1 skipped (not found)" in some.stderr
    assert "crane.jpg: not found" in some.stderr
    none = nasnet("sort", photos / "labels.jsonl", "--into", "out", cwd=tmp_path, expect=1)
    assert "None of the images exists" in none.stderr and "--base" in none.stderr
    assert not (tmp_path / "out").exists()


def test_results_without_everyday_labels(photos, nasnet):
    lines = (photos / "labels.jsonl").read_text().splitlines()
    old = [{k: v for k, v in json.loads(line).items() if k != "sure"} for line in lines]
    (photos / "old.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in old))
    done = nasnet("sort", "old.jsonl", "--into", "out", cwd=photos, expect=1)
    assert "has no everyday labels" in done.stderr and "--by top1" in done.stderr
    assert not (photos / "out").exists()
    nasnet("sort", "old.jsonl", "--into", "out", "--by", "top1", cwd=photos, expect=0)
    assert images(photos / "out") == BY_TOP1


def test_images_sorted_where_they_are_stay(photos, nasnet):
    nasnet("sort", "labels.jsonl", "--into", "out", cwd=photos, expect=0)
    rows = [labelled("out/dog/1.jpg", DOG), labelled("out/dog/1 (2).jpg", TABBY)]
    write_results(photos / "again.csv", rows)
    done = nasnet("sort", "again.csv", "--into", "out", "--move", cwd=photos, expect=0)
    assert "1 moved into 1 folder, 1 there already" in done.stderr
    assert (photos / "out" / "tabby" / "1 (2).jpg").exists()
    assert nasnet("sort", "--undo", "out", cwd=photos, expect=0)
    assert not (photos / "out").exists()


def test_a_kill_between_copying_and_removing(photos, tmp_path, nasnet):
    with small_disk(tmp_path / "disk", "1m") as disk:
        sort = ["sort", "labels.jsonl", "--into", str(disk / "out"), "--move"]
        assert killed_before("os.remove", "crane.jpg", sort, photos)
        both = (photos / "crane.jpg", disk / "out" / "crane (bird)" / "crane.jpg")
        assert all(path.exists() for path in both)
        subprocess.run([*NASNET, *sort], cwd=photos, check=True)
        assert images(disk / "out") == BY_SURE
        assert set(images(photos)) == {"broken.jpg"}
        nasnet("sort", "--undo", disk / "out", expect=0)
    assert set(images(photos)) == {row.path for row in ROWS}


def test_what_was_moved_away_since_is_not_there_already(photos, nasnet):
    nasnet("sort", "labels.jsonl", "--into", "out", "--move", cwd=photos, expect=0)
    write_results(photos / "again.csv", [labelled(f"out/{name}", DOG) for name in BY_SURE])
    (photos / "out" / "dog" / "1.jpg").unlink()
    done = nasnet("sort", "again.csv", "--into", "out", cwd=photos, expect=3)
    assert "1 there already" in done.stderr and "1 skipped (not found)" in done.stderr


def test_an_empty_name_is_no_folder(photos, nasnet):  # an unset variable of a script
    for arguments in (("labels.jsonl", "--into", ""), ("--undo", "")):
        done = nasnet("sort", *arguments, cwd=photos, expect=1)
        assert "The name of the folder is empty." in done.stderr


def test_a_read_only_disk_is_the_one_that_is_named(photos, tmp_path, nasnet):
    with small_disk(tmp_path / "disk", "1m") as disk:
        shutil.copytree(photos, disk, dirs_exist_ok=True)
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        sort = ("sort", "labels.jsonl", "--into", tmp_path / "out")
        done = nasnet(*sort, "--move", cwd=disk, expect=1)
        assert f"Cannot remove {disk}/a/1.jpg: the disk is read-only." in done.stderr
        assert images(disk).keys() == {row.path for row in ROWS}
        assert (
            nasnet("sort", "--undo", tmp_path / "out", expect=0).stderr == "0 files taken back.\n"
        )
        subprocess.run(["mount", "-o", "remount,rw", disk], check=True)
        nasnet("sort", "labels.jsonl", "--into", disk / "out", cwd=photos, expect=0)
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        done = nasnet("sort", "--undo", disk / "out", expect=1)
        assert f"Cannot remove {disk}/out/" in done.stderr
        assert images(disk / "out") == BY_SURE


SIDECARS = ("a/1.jpg.xmp", "b/1.xmp", "crane.jpg.XMP", "unsure.xmp", "unsure.jpg.xmp")


@pytest.mark.parametrize("how", ["--copy", "--link", "--move"])
def test_sidecars_go_with_their_images(how, photos, tmp_path, nasnet):
    (photos / "unsure.NEF").write_text("raw")  # unsure.xmp may be its own
    for name in SIDECARS:
        (photos / name).write_text(name)
    before = images(photos)
    sort = ("sort", "labels.jsonl", "--into", "../out", how)
    done = nasnet(*sort, cwd=photos, expect=0)
    assert "6 " in done.stderr and "4 sidecars" in done.stderr
    assert images(tmp_path / "out") == BY_SURE | {
        "dog/1.jpg.xmp": "a/1.jpg.xmp",
        "dog/1 (2).xmp": "b/1.xmp",
        "crane (bird)/crane.jpg.XMP": "crane.jpg.XMP",
        "_not_sure/unsure.jpg.xmp": "unsure.jpg.xmp",
    }
    if how == "--move":
        assert set(images(photos)) == {"broken.jpg", "unsure.NEF", "unsure.xmp"}
    assert "sidecar" not in nasnet(*sort, cwd=photos, expect=0).stderr
    (photos / "machine.jpg.xmp").write_text("later")
    nasnet(*sort, cwd=photos, expect=0)
    assert (tmp_path / "out" / "crane (machine)" / "machine.jpg.xmp").read_text() == "later"
    nasnet("sort", "--undo", tmp_path / "out", expect=0)
    assert images(photos) == before | {"machine.jpg.xmp": "later"}
    assert not (tmp_path / "out").exists()


def test_names_are_free_for_an_image_and_its_sidecar(photos, tmp_path, nasnet):
    (photos / "crane.jpg.xmp").write_text("mine")
    (tmp_path / "out" / "crane (bird)").mkdir(parents=True)
    (tmp_path / "out" / "crane (bird)" / "crane.jpg.xmp").write_text("theirs")
    nasnet("sort", "labels.jsonl", "--into", "../out", "--move", cwd=photos, expect=0)
    found = images(tmp_path / "out" / "crane (bird)")
    assert found == {
        "crane.jpg.xmp": "theirs",
        "crane (2).jpg": "crane.jpg",
        "crane (2).jpg.xmp": "mine",
    }


def test_a_kill_between_an_image_and_its_sidecar(photos, tmp_path, nasnet):
    (photos / "crane.jpg.xmp").write_text("sidecar")
    sort = ["sort", "labels.jsonl", "--into", "../out", "--move"]
    assert killed_before("os.link", "crane.jpg.xmp", sort, photos)
    assert not (photos / "crane.jpg").exists() and (photos / "crane.jpg.xmp").exists()
    again = nasnet(*sort, cwd=photos, expect=0)
    assert "1 sidecar" in again.stderr
    assert (tmp_path / "out" / "crane (bird)" / "crane.jpg.xmp").read_text() == "sidecar"


def test_the_sidecar_of_an_image_that_fails_stays_with_it(photos, tmp_path, nasnet, monkeypatch):
    from nasnet_cli.albums import transfers

    link = os.link

    def refuse(source, target, **more):
        if str(source).endswith("crane.jpg"):
            raise PermissionError(errno.EACCES, "Permission denied")
        link(source, target, **more)

    (photos / "crane.jpg.xmp").write_text("sidecar")
    monkeypatch.setattr(transfers.os, "link", refuse)
    done = nasnet("sort", "labels.jsonl", "--into", "../out", "--move", cwd=photos, expect=3)
    assert "5 moved" in done.stderr and "1 failed" in done.stderr
    assert (photos / "crane.jpg").exists() and (photos / "crane.jpg.xmp").exists()


def test_an_image_is_done_although_its_sidecar_fails(photos, tmp_path, nasnet):
    (photos / "crane.jpg.xmp").mkdir()
    done = nasnet("sort", "labels.jsonl", "--into", "../out", cwd=photos, expect=3)
    assert "6 copied" in done.stderr and "1 failed" in done.stderr
    assert "crane (bird)/crane.jpg" in images(tmp_path / "out")


def killed_before(event, ending, arguments, cwd):
    """Run a command that kills itself right before an event for a file; return whether it did."""
    code = (
        "import os, signal, sys\n"
        "event, ending, *arguments = sys.argv[1:]\n"
        "def die(found, about):\n"
        "    if found == event and str(about[0]).endswith(ending):\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "sys.addaudithook(die)\n"
        "from nasnet_cli.cli.main import run\n"
        "run(arguments)\n"
    )
    command = [sys.executable, "-c", code, event, ending, *arguments]
    return subprocess.run(command, cwd=cwd).returncode == -signal.SIGKILL


def test_urls_are_copied_and_never_moved(tmp_path, nasnet):
    import fsspec

    url = "memory://bucket/a%20b.jpg"
    fsspec.filesystem("memory").pipe("/bucket/a%20b.jpg", b"remote")
    write_results(tmp_path / "labels.csv", [labelled(url, DOG)])
    sort = ("sort", "labels.csv", "--into", "out")
    nasnet(*sort, cwd=tmp_path, expect=0)
    assert images(tmp_path / "out") == {"dog/a b.jpg": "remote"}
    nasnet("sort", "--undo", "out", cwd=tmp_path, expect=0)
    moved = nasnet(*sort, "--move", cwd=tmp_path, expect=0)
    assert "1 skipped (remote)" in moved.stderr and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("golden retriever", "golden retriever"),
        ("AC/DC: live?", "AC_DC_ live_"),
        ("..", "unnamed"),
        (".hidden", "hidden"),
        ("_not_sure", "not_sure"),
        ("--move", "move"),
        ("a\x1b[31m", "a_[31m"),
        ("", "unnamed"),
        ("é" * 99, "é" * 50),
    ],
)
def test_folder_names(label, name):
    assert folder_name(label) == name


def test_wrong_use(photos, nasnet):
    for arguments in (
        ["labels.jsonl"],
        ["--into", "out"],
        ["labels.jsonl", "--into", "out", "--copy", "--move"],
        ["labels.jsonl", "--undo", "out"],
        ["--undo", "out", "--into", "out"],
    ):
        assert nasnet("sort", *arguments, cwd=photos).exit_code == 2, arguments
    assert (
        "is not a folder"
        in nasnet("sort", "labels.jsonl", "--into", "crane.jpg", cwd=photos).stderr
    )


def test_no_variable_moves_files(photos, nasnet):
    nasnet("sort", "labels.jsonl", "--into", "out", cwd=photos, expect=0, NASNET_SORT_MOVE="1")
    assert (photos / "crane.jpg").exists()
    shutil.rmtree(photos / "out")
    done = nasnet("sort", "labels.jsonl", cwd=photos, NASNET_SORT_INTO="out")
    assert done.exit_code == 2
