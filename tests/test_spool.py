"""Bytes between an archive or a server and a decoder: few in memory, many in files, bounded."""

from __future__ import annotations

import gc
import io
import os
import tarfile
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from nasnet_cli.errors import InputError
from nasnet_cli.images import spool
from nasnet_cli.images.archives import members
from nasnet_cli.images.source import SkipCounter, Source
from nasnet_cli.images.spool import IN_MEMORY, HeldBytes, spooled
from support.waiting import wait_until

LARGE = os.urandom(IN_MEMORY + 1)


def write_zip(path: Path, *contents: bytes) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for number, content in enumerate(contents):
            archive.writestr(f"{number}.jpg", content)


def write_tar(path: Path, *contents: bytes) -> None:
    with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w") as archive:
        for number, content in enumerate(contents):
            info = tarfile.TarInfo(f"{number}.jpg")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))


def sources(path: Path, **more: int) -> list[Source]:
    return list(members(str(path), None, skips=SkipCounter(), max_bytes=1 << 30, **more))


@pytest.mark.parametrize(
    ("name", "write"), [("a.zip", write_zip), ("a.tar", write_tar), ("a.tar.gz", write_tar)]
)
def test_a_large_member_is_a_file_and_a_small_one_is_not(
    tmp_path: Path, name: str, write: Callable[..., None]
) -> None:
    write(tmp_path / name, LARGE, b"small")
    large, small = sources(tmp_path / name)
    for _ in range(2):  # as often as it is asked for
        with large.open() as stream:
            assert stream.fileno() and stream.read() == LARGE
    with large.open() as one, large.open() as other:  # from its beginning
        assert one.read(3) == other.read(3) == LARGE[:3]
    assert isinstance(small.open(), io.BytesIO) and small.read() == b"small"


def test_reading_ahead_waits_for_room(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    files = spool._Budget(1000)
    monkeypatch.setattr(spool, "_memory", spool._Budget(100))
    monkeypatch.setattr(spool, "_files", files)
    contents = [os.urandom(size) for size in (100, 700, 700, 5000, 10)]
    write_tar(tmp_path / "a.tar.gz", *contents)
    listed = members(str(tmp_path / "a.tar.gz"), None, skips=SkipCounter(), max_bytes=1 << 20)
    held = [next(listed), next(listed)]
    found: list[Source] = []
    thread = threading.Thread(target=lambda: found.append(next(listed)))
    thread.start()
    waiters: list[object] = files._changed._waiters  # type: ignore[attr-defined]
    wait_until(lambda: waiters)
    assert [source.read() for source in held] == contents[:2]
    held.clear()
    gc.collect()
    thread.join()
    assert found.pop().read() == contents[2]
    assert [source.read() for source in listed] == contents[3:]  # one of them over the budget


def test_a_broken_input_gives_its_room_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool, "_files", files := spool._Budget(10))
    monkeypatch.setattr(spool, "_memory", memory := spool._Budget(10))
    for size in (5, 50):
        with pytest.raises(InputError):
            HeldBytes([bytes(100)], size)
    assert (memory._free, files._free) == (10, 10)


def test_no_room_for_a_temporary_file_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "absent"))
    with pytest.raises(InputError, match=r"temporary folder .*absent"):
        spooled([LARGE], 1 << 30)


def test_a_zip_that_expands_far_more_than_images_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nasnet_cli.images.zips._EXPANSION_GRACE", 100_000)
    for size, kind in ((100_000, None), (100_001, "archive")):
        with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("a.jpg", bytes(size))
        (source,) = sources(tmp_path / "a.zip")
        assert (source.failure and source.failure.kind) == kind
    assert source.failure is not None and "expands to 100,001 bytes" in source.failure.message
