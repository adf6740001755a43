"""Full disks, and folders that are removed or made read-only during a run."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess

import pytest

from support import disks
from support.cli import WATCHDOG
from support.killing import EAGER, contents, make_images, run


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """A folder of 200 images, two of them broken."""
    folder = tmp_path_factory.mktemp("photos")
    make_images(folder, 200)
    return folder


@pytest.fixture
def small_disk(tmp_path):
    with disks.small_disk(tmp_path / "disk", "1m") as folder:
        yield folder


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


def free_bytes(disk):
    status = os.statvfs(disk)
    return status.f_bavail * status.f_frsize


@pytest.mark.parametrize(
    ("command", "name", "left"),
    [
        ("classify", "labels.jsonl", 0),
        ("classify", "labels.parquet", 40_000),
        ("classify", "labels.sqlite", 40_000),
        ("embed", "vectors.npy", 120_000),
        ("embed", "vectors.npz", 400_000),
    ],
)
def test_full_disk_leaves_no_partial_file_and_can_be_resumed(
    nasnet, command, name, left, photos, tiny_module, small_disk, tmp_path
):
    """The disk is full from the start, while rows are stored, or while files are written."""
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(free_bytes(small_disk) - left))
    out = small_disk / name
    arguments = (command, photos, "-m", tiny_module)
    done = run(EAGER, *arguments, "-o", out)
    assert is_clean(done, out), (done, list(small_disk.iterdir()))
    assert "there is no space left on the disk" in done.stderr

    ballast.unlink()
    assert nasnet(*arguments, "-o", out, "--resume").exit_code == 3
    clean = tmp_path / "clean"
    clean.mkdir()
    nasnet(*arguments, "-o", clean / name)
    assert contents(small_disk) == contents(clean)


@pytest.mark.parametrize("form", ["tf1-hub", "saved-model"])
def test_full_disk_while_tensorflow_writes(form, nasnet, tiny_module, small_disk):
    (small_disk / "ballast").write_bytes(bytes(free_bytes(small_disk) - 20_000))
    arguments = ("--format", form, "-m", tiny_module)
    done = nasnet("export", small_disk / "model", *arguments, expect=1)
    assert "there is no space left on the disk. Free some" in done.stderr.replace("\n", " ")
    assert [path.name for path in small_disk.iterdir()] == ["ballast"]


class Going:
    """A run that has stored some rows and waits for more paths on standard input."""

    def __init__(self, out, names, tiny_module):
        self.arguments = ("classify", "-m", tiny_module, "-o", out)
        command = [*EAGER, *map(str, self.arguments), "-v", "--workers", "1", "-"]
        self.names = names
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        # A name without a file has an error, which -v shows: what is before it is done. What comes
        # after it pushes it through what is under way: about a hundred.
        self._give([*names[:40], "marker.png", *[names[0]] * 160])
        assert any(line.startswith("marker.png") for line in self.process.stderr)

    def end(self):
        """Give it the rest; return its exit code and standard error."""
        with contextlib.suppress(BrokenPipeError):
            self._give(self.names[40:])
        _, stderr = self.process.communicate(timeout=WATCHDOG)
        lines = [line for line in stderr.splitlines() if ".jpg: " not in line]
        return subprocess.CompletedProcess([], self.process.returncode, "", "\n".join(lines))

    def _give(self, names):
        self.process.stdin.write("".join(f"{name}\n" for name in names))
        self.process.stdin.flush()


@pytest.fixture
def going(photos, tiny_module, tmp_path):
    out = tmp_path / "out" / "labels.jsonl"
    out.parent.mkdir()
    run = Going(out, sorted(photos.rglob("*.jpg")), tiny_module)
    yield run, out
    run.process.kill()
    run.process.wait()


def test_output_folder_removed_during_a_run(going):
    run, out = going
    shutil.rmtree(out.parent)
    done = run.end()
    assert done.returncode == 1, done
    assert f"Cannot write {out}: there is no folder {out.parent}." in done.stderr
    assert "Traceback" not in done.stderr and "is kept" not in done.stderr
    assert not out.parent.exists()


def test_output_folder_made_read_only_during_a_run(nasnet, going, photos, tiny_module):
    """An immutable folder, which holds for root too."""
    running, out = going
    disks.run_or_skip("chattr", "+i", out.parent)
    try:
        done = running.end()
    finally:
        subprocess.run(["chattr", "-i", str(out.parent)], check=True)
    assert is_clean(done, out), done
    assert "permission is denied" in done.stderr
    arguments = ("classify", photos, "-m", tiny_module)
    assert nasnet(*arguments, "-o", out, "--resume").exit_code == 3
    clean = out.parent.parent / "clean.jsonl"
    nasnet(*arguments, "-o", clean)
    assert out.read_bytes() == clean.read_bytes()
