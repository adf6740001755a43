"""Outputs appear complete or not at all; errors are sentences."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import nasnet_cli
from nasnet_cli.errors import OutputError
from nasnet_cli.results.atomic import is_direct, open_output, open_outputs
from nasnet_cli.results.meta import meta_path
from support import disks
from support.cli import WATCHDOG

PACKAGE = Path(nasnet_cli.__file__).parents[1]


def run_child(code: str, *args: Path | str) -> list[str]:
    """A command line that runs code with this package importable."""
    head = f"import sys; sys.path.insert(0, {str(PACKAGE)!r})\n"
    return [sys.executable, "-c", head + code, *map(str, args)]


def write(path: Path | str, content: bytes = b"new", *, overwrite: bool = False) -> None:
    with open_output(path, overwrite=overwrite) as stream:
        stream.write(content)


def listed(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_appears_when_the_block_ends(tmp_path: Path) -> None:
    target = tmp_path / "out.csv"
    with open_output(target, overwrite=False) as stream:
        stream.write(b"all of it")
        assert not target.exists()
        (hidden,) = listed(tmp_path)
        assert hidden.startswith(".out.csv.")
    assert target.read_bytes() == b"all of it"
    assert listed(tmp_path) == ["out.csv"]


def test_a_header_can_be_written_again_at_the_end(tmp_path: Path) -> None:
    with open_output(tmp_path / "out.npy", overwrite=False) as stream:
        stream.write(b"????rows")
        stream.seek(0)
        stream.write(b"head")
    assert (tmp_path / "out.npy").read_bytes() == b"headrows"


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_an_exception_leaves_the_folder_as_it_was(
    tmp_path: Path, error: type[BaseException]
) -> None:
    old = tmp_path / "old"
    old.write_bytes(b"old")
    for target in (old, tmp_path / "new"):
        with pytest.raises(error), open_output(target, overwrite=True) as stream:
            stream.write(b"x" * 100_000)
            raise error
    assert listed(tmp_path) == ["old"]
    assert old.read_bytes() == b"old"


def test_an_existing_file_is_an_error_before_any_work(tmp_path: Path) -> None:
    target = tmp_path / "out.csv"
    target.write_bytes(b"old")
    with (
        pytest.raises(OutputError, match=r"out\.csv already exists") as refusal,
        open_output(target, overwrite=False),
    ):
        pytest.fail("the block ran")
    assert "--overwrite" in refusal.value.remedy
    assert target.read_bytes() == b"old"
    assert listed(tmp_path) == ["out.csv"]


def test_overwrite_keeps_the_permissions(tmp_path: Path) -> None:
    target = tmp_path / "out.csv"
    target.write_bytes(b"old")
    target.chmod(0o600)
    write(target, overwrite=True)
    assert target.read_bytes() == b"new"
    assert stat.S_IMODE(target.stat().st_mode) == 0o600


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_a_new_file_has_the_mode_that_the_umask_gives(
    tmp_path: Path, umask: int, mode: int
) -> None:
    before = os.umask(umask)
    try:
        write(tmp_path / "out")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == mode


def test_a_file_that_another_job_finished_meanwhile_is_kept(tmp_path: Path) -> None:
    target = tmp_path / "out"
    with (
        pytest.raises(OutputError, match="already exists"),
        open_outputs(target, meta_path(target), overwrite=False) as (stream, _),
    ):
        stream.write(b"late")
        target.write_bytes(b"early")
        meta_path(target).write_bytes(b"early too")
    assert target.read_bytes() == b"early"
    assert meta_path(target).read_bytes() == b"early too"
    assert listed(tmp_path) == ["out", "out.meta.json"]


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=f"there is no folder {tmp_path}/no") as refusal:
        write(tmp_path / "no" / "out")
    assert "Create it" in refusal.value.remedy
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="there is no folder"):
        write(tmp_path / "file" / "out")


@pytest.mark.parametrize("name", ["", "/", "/new/"])
def test_a_folder_is_an_error(tmp_path: Path, name: str) -> None:
    with pytest.raises(OutputError, match="folder, not a file"):
        write(f"{tmp_path}{name}", overwrite=True)
    assert listed(tmp_path) == []


def test_a_name_too_long_is_an_error_before_any_work(tmp_path: Path) -> None:
    with (
        pytest.raises(OutputError, match="the name is too long"),
        open_output(tmp_path / ("x" * 256), overwrite=False),
    ):
        pytest.fail("the block ran")


@pytest.mark.parametrize("name", ["x" * 255, "é" * 127, "𝄞" * 63, "\udcff" * 255])
def test_names_as_long_as_the_disk_allows_can_be_written(tmp_path: Path, name: str) -> None:
    write(tmp_path / name)
    assert listed(tmp_path) == [name]


def test_a_loop_of_symlinks_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(OutputError, match="symbolic links"):
        write(tmp_path / "a")


def test_a_socket_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("s")
        with pytest.raises(OutputError, match="not a file, a pipe or a terminal"):
            write("s", overwrite=True)
    assert stat.S_ISSOCK(Path("s").stat().st_mode)


@pytest.fixture
def folder_of_others(public_path: Path, as_nobody: Callable[[], None]) -> Path:
    """A folder in which this process may not write, not even as root."""
    folder = public_path / "others"
    folder.mkdir(mode=0o555)
    as_nobody()
    return folder


def test_a_folder_without_permission_is_an_error(folder_of_others: Path) -> None:
    with pytest.raises(OutputError, match="permission is denied"):
        write(folder_of_others / "out")


def test_a_folder_removed_meanwhile_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "gone"
    folder.mkdir()
    with (
        pytest.raises(OutputError, match=f"there is no folder {folder}"),
        open_output(folder / "out", overwrite=False),
    ):
        shutil.rmtree(folder)


def test_a_hidden_file_removed_meanwhile_is_an_error(tmp_path: Path) -> None:
    with (
        pytest.raises(OutputError, match="unfinished file was removed"),
        open_output(tmp_path / "out", overwrite=False),
    ):
        next(tmp_path.iterdir()).unlink()
    assert listed(tmp_path) == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    with disks.small_disk(tmp_path / "disk", "64k") as folder:
        yield folder


def test_a_full_disk_is_an_error_and_left_clean(small_disk: Path) -> None:
    (small_disk / "old").write_bytes(b"old")
    with (
        pytest.raises(OutputError, match="no space left") as refusal,
        open_output(small_disk / "old", overwrite=True) as stream,
    ):
        for _ in range(100):
            stream.write(b"x" * 1000)
    assert str(small_disk / "old") in refusal.value.problem
    assert listed(small_disk) == ["old"]
    assert (small_disk / "old").read_bytes() == b"old"


def test_a_disk_filled_by_the_last_bytes_is_an_error(small_disk: Path) -> None:
    with (
        pytest.raises(OutputError, match="no space left"),
        open_output(small_disk / "new", overwrite=False) as stream,
    ):
        (small_disk / "filler").write_bytes(b"x" * (64 * 1024))
        stream.write(b"in the buffer until the end")
    assert listed(small_disk) == ["filler"]


def test_a_disk_without_permissions_is_no_error(tmp_path, monkeypatch):
    """As on FAT that another user has mounted, which cannot be mounted here."""

    def refuse(descriptor, mode):
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    write(tmp_path / "out")
    monkeypatch.setattr(os, "fchmod", refuse)
    write(tmp_path / "out", overwrite=True)
    assert listed(tmp_path) == ["out"]


def test_a_read_only_disk_is_an_error(small_disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(OutputError, match="the disk is read-only"):
        write(small_disk / "out")


def test_other_errors_in_the_block_are_not_output_errors(tmp_path: Path) -> None:
    with (
        pytest.raises(OSError, match="Input/output") as raised,
        open_output(tmp_path / "out", overwrite=False),
    ):
        raise OSError(errno.EIO, os.strerror(errno.EIO), "image.jpg")
    assert not isinstance(raised.value, OutputError)


def test_a_symlink_is_followed(tmp_path: Path) -> None:
    for name in ("there", "not_there"):
        folder = tmp_path / f"folder_of_{name}"
        folder.mkdir()
        link = tmp_path / name
        link.symlink_to(folder / "target")
        if name == "there":
            (folder / "target").write_bytes(b"old")
            with pytest.raises(OutputError, match="already exists"):
                write(link)
        write(link, overwrite=name == "there")
        assert link.is_symlink()
        assert listed(folder) == ["target"]
        assert link.read_bytes() == b"new"


def test_devices_are_written_to_directly(tmp_path: Path) -> None:
    for _ in range(2):
        write("/dev/null")
    assert is_direct("/dev/null")
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)
    assert not Path("/dev/null.meta.json").exists()
    with open_outputs("/dev/null", "/dev/null.meta.json", overwrite=False) as streams:
        for stream in streams:
            stream.write(b"x")
    assert not Path("/dev/null.meta.json").exists()


def test_a_full_device_is_an_error() -> None:
    with pytest.raises(OutputError, match="no space left"):
        write("/dev/full")
    with pytest.raises(OutputError, match="nothing is open there"):
        write("/dev/fd/999999")


def test_a_named_pipe_is_written_to_directly(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    got: list[bytes] = []
    reader = threading.Thread(target=lambda: got.append(pipe.read_bytes()))
    reader.start()
    write(pipe, b"x" * 200_000)
    reader.join(WATCHDOG)
    assert got == [b"x" * 200_000]
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_a_pipe_closed_by_its_reader_is_a_broken_pipe() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        with pytest.raises(BrokenPipeError):
            write(f"/dev/fd/{writing}")
    finally:
        os.close(writing)


def test_a_pipe_has_whole_rows_after_an_exception() -> None:
    reading, writing = os.pipe()
    with pytest.raises(KeyboardInterrupt), open_output(f"/dev/fd/{writing}", overwrite=False) as s:
        s.write(b"row\n")
        raise KeyboardInterrupt
    os.close(writing)
    assert os.read(reading, 100) == b"row\n"
    os.close(reading)


def test_dev_stdout_is_standard_output(tmp_path: Path) -> None:
    code = """
from nasnet_cli.results.atomic import open_output
with open_output("/dev/stdout", overwrite=False) as stream:
    stream.write(b"data\\n")
"""
    target = tmp_path / "log"
    target.write_bytes(b"before\n")
    with target.open("ab") as log:  # as `>> log`
        subprocess.run(run_child(code), stdout=log, check=True)
    assert target.read_bytes() == b"before\ndata\n"
    assert listed(tmp_path) == ["log"]
    piped = subprocess.run(run_child(code), capture_output=True, check=True)
    assert piped.stdout == b"data\n"


def test_the_result_appears_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order = []
    replace = Path.replace

    def watched(self: Path, target: Path) -> Path:
        order.append(target.name)
        assert not (tmp_path / "v.npy").exists()
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", watched)
    paths = [tmp_path / "v.npy", tmp_path / "v.jsonl", tmp_path / "v.npy.meta.json"]
    with open_outputs(*paths, overwrite=False) as streams:
        for stream, path in zip(streams, paths, strict=True):
            stream.write(path.name.encode())
    assert order == ["v.npy.meta.json", "v.jsonl", "v.npy"]
    assert [path.read_text() for path in paths] == [path.name for path in paths]


def test_a_job_that_fails_during_publishing_leaves_no_file(tmp_path: Path) -> None:
    paths = [tmp_path / "out", tmp_path / "out.meta.json"]
    with (
        pytest.raises(OutputError, match="it is the name of a folder"),
        open_outputs(*paths, overwrite=True),
    ):
        paths[0].mkdir()
    assert listed(tmp_path) == ["out"]
    assert paths[0].is_dir()


def test_an_error_of_a_companion_leaves_neither_file(tmp_path: Path) -> None:
    (tmp_path / "v.jsonl").write_bytes(b"somebody's")
    with (
        pytest.raises(OutputError, match=r"v\.jsonl already exists"),
        open_outputs(tmp_path / "v.npy", tmp_path / "v.jsonl", overwrite=False),
    ):
        pytest.fail("the block ran")
    assert listed(tmp_path) == ["v.jsonl"]
    assert (tmp_path / "v.jsonl").read_bytes() == b"somebody's"


def test_a_meta_file_without_its_result_is_replaced(tmp_path: Path) -> None:
    target = tmp_path / "out.csv"
    meta_path(target).write_bytes(b"old")
    with open_outputs(target, meta_path(target), overwrite=False) as (_, meta):
        meta.write(b"new")
    assert meta_path(target).read_bytes() == b"new"


@pytest.mark.parametrize("old", [None, b"old"])
def test_kill_9_midway_leaves_the_old_file_or_none(tmp_path: Path, old: bytes | None) -> None:
    target = tmp_path / "out.jsonl"
    if old is not None:
        target.write_bytes(old)
    code = """
from nasnet_cli.results.atomic import open_outputs
with open_outputs(sys.argv[1], sys.argv[1] + ".meta.json", overwrite=True) as (stream, meta):
    stream.write(b"x" * 1_000_000)
    meta.write(b"{}")
    print("midway", flush=True)
    sys.stdin.read()
"""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(run_child(code, target), **pipes) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"midway\n"
        child.send_signal(signal.SIGKILL)
    assert (target.read_bytes() if target.exists() else None) == old
    assert not meta_path(target).exists()
    left = [name for name in listed(tmp_path) if name != "out.jsonl"]
    assert len(left) == 2
    assert all(name.startswith(".out.jsonl.") and name.endswith(".partial") for name in left)
    write(target, overwrite=True)  # what was left does not stand in the way
    assert target.read_bytes() == b"new"


def test_kill_9_at_any_moment_leaves_a_complete_file(tmp_path: Path) -> None:
    target = tmp_path / "out"
    code = """
from nasnet_cli.results.atomic import open_output
for n in range(10**9):
    print(n, flush=True)
    with open_output(sys.argv[1], overwrite=True) as stream:
        for _ in range(200):
            stream.write(b"%09d\\n" % n)
"""
    for files in (0, 1, 5, 30):
        with subprocess.Popen(run_child(code, target), stdout=subprocess.PIPE) as child:
            assert child.stdout is not None
            while int(child.stdout.readline()) < files:
                pass
            child.send_signal(signal.SIGKILL)
        if files or target.exists():
            lines = target.read_bytes().splitlines()
            assert len(lines) == 200
            assert len(set(lines)) == 1
