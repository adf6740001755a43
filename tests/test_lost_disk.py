"""Disks that are full, folders that go away or are closed, in the middle of a run."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time

import pytest

from killing import EAGER, NASNET, contents, make_pictures, run

RESULTS = [
    ("classify", "labels.jsonl"),
    ("classify", "labels.parquet"),
    ("embed", "vectors.npy"),
    ("embed", "vectors.npz"),
]


@pytest.fixture(scope="module", autouse=True)
def shared_cache(tmp_path_factory):
    """One cache for these tests, so that each model is compiled once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NASNET_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """A folder of 200 pictures, two of them broken."""
    folder = tmp_path_factory.mktemp("photos")
    make_pictures(folder, 200)
    return folder


def attempt(*command):
    """Whether the system does that for us; skips the test if not."""
    try:
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip(f"there is no {command[0]} here")
    if done.returncode:
        pytest.skip(f"{command[0]} is not allowed here: {done.stderr.strip()}")


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 1 MiB of its own."""
    place = tmp_path / "disk"
    place.mkdir()
    attempt("mount", "-t", "tmpfs", "-o", "size=1m", "none", place)
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def is_clean(done, out):
    """One sentence and a remedy, nothing that looks whole, no hidden file but the state."""
    said = done.stderr
    names = {path.name for path in out.parent.iterdir()} - {"ballast"}
    return (
        done.returncode == 1
        and f"Cannot write {out}: " in said
        and "Traceback" not in said
        and len(said.strip().splitlines()) <= 3
        and names <= {f".{out.name}.resume", f".{out.name}.resume-journal"}
    )


@pytest.mark.parametrize(("command", "name"), RESULTS)
@pytest.mark.parametrize("free", [0, 40_000, 90_000])
def test_a_full_disk_leaves_no_half_file_and_resume_goes_on(
    command, name, free, photos, tiny_module, small_disk, tmp_path
):
    """Full at once, in the middle of the work, or when the files are written."""
    ballast = small_disk / "ballast"
    with ballast.open("wb") as stream, pytest.raises(OSError, match="No space"):
        while True:
            stream.write(bytes(4096))
            stream.flush()
    os.truncate(ballast, ballast.stat().st_size - free)
    out = small_disk / name
    arguments = (command, photos, "-m", tiny_module)
    done = run(EAGER, *arguments, "-o", out)
    if done.returncode == 3:
        pytest.skip("all of it had room")
    assert is_clean(done, out), (done, os.listdir(small_disk))
    assert "there is no space left on the disk" in done.stderr

    ballast.unlink()
    assert run(NASNET, *arguments, "-o", out, "--resume").returncode == 3
    clean = tmp_path / "clean"
    clean.mkdir()
    run(NASNET, *arguments, "-o", clean / name)
    assert contents(small_disk) == contents(clean)
