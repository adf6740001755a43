"""Archives are unpacked completely or not at all, and never outside their folder."""

from __future__ import annotations

import gzip
import io
import os
import signal
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nasnet_cli.cache import CacheError
from nasnet_cli.errors import ModelError
from nasnet_cli.models.hub.unpack import Limits, unpack


def member(name, data=b"data", kind=tarfile.REGTYPE, link="", mode=0o644):
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode = kind, link, mode
    info.size = len(data) if kind == tarfile.REGTYPE else 0
    return info, data


def tar(*members, form=tarfile.PAX_FORMAT, **options):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=form, **options) as archive:
        for info, data in members:
            archive.addfile(info, io.BytesIO(data))
    return stream.getvalue()


def archive_of(folder, *members, **options):
    path = folder / "module.tar.gz"
    path.write_bytes(gzip.compress(tar(*members, **options)))
    return path


def everything(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.mark.parametrize("compressed", [True, False], ids=["tar.gz", "tar"])
def test_files_and_folders_are_unpacked(tmp_path, compressed):
    data = os.urandom(3 * 2**20)
    packed = tar(
        member("./", kind=tarfile.DIRTYPE),
        member("./saved_model.pb", b"graph"),
        member("variables", kind=tarfile.DIRTYPE),
        member("variables/variables.data", data),
        member("assets/deep/er/labels.txt", "käse".encode()),
        member("empty", b""),
    )
    path = tmp_path / "archive"
    path.write_bytes(gzip.compress(packed, 1) if compressed else packed)
    unpack(path, tmp_path / "out")
    assert (tmp_path / "out/saved_model.pb").read_bytes() == b"graph"
    assert (tmp_path / "out/variables/variables.data").read_bytes() == data
    assert (tmp_path / "out/assets/deep/er/labels.txt").read_text("utf-8") == "käse"
    assert (tmp_path / "out/empty").read_bytes() == b""
    assert everything(tmp_path)[0] == "archive"
    assert not [name for name in everything(tmp_path) if "partial" in name]


def test_modes_in_the_archive_are_ignored(tmp_path):
    path = archive_of(
        tmp_path,
        member("closed", kind=tarfile.DIRTYPE, mode=0),
        member("closed/run", mode=0o6777),
        member("secret", mode=0),
    )
    old = os.umask(0o022)
    try:
        unpack(path, tmp_path / "out")
    finally:
        os.umask(old)
    assert (tmp_path / "out/closed/run").stat().st_mode & 0o7777 == 0o644
    assert (tmp_path / "out/secret").stat().st_mode & 0o7777 == 0o644
    assert (tmp_path / "out/closed").stat().st_mode & 0o7777 == 0o755


REFUSED = {
    "absolute": ([member("/tmp/nasnet-evil")], "leads out of its folder, '/tmp/nasnet-evil'"),
    "parent": ([member("../evil")], "leads out of its folder, '../evil'"),
    "parent within": ([member("a/../../evil")], "leads out of its folder"),
    "symlink": ([member("link", kind=tarfile.SYMTYPE, link="/etc")], "symbolic link, 'link'"),
    "through a symlink": (
        [member("out", kind=tarfile.SYMTYPE, link=".."), member("out/evil")],
        "symbolic link, 'out'",
    ),
    "hard link": (
        [member("a"), member("b", kind=tarfile.LNKTYPE, link="/etc/passwd")],
        "hard link, 'b'",
    ),
    "device": ([member("null", kind=tarfile.CHRTYPE)], "device, 'null'"),
    "block device": ([member("sda", kind=tarfile.BLKTYPE)], "device, 'sda'"),
    "pipe": ([member("pipe", kind=tarfile.FIFOTYPE)], "pipe, 'pipe'"),
    "unknown kind": ([member("odd", kind=b"Z")], "special file, 'odd'"),
    "twice": ([member("a/b"), member("./a//b")], "'./a//b' twice"),
    "file over folder": ([member("a/b"), member("a")], "'a' twice"),
    "file below file": ([member("a"), member("a/b")], "'a/b' inside a file"),
    "backslash": ([member("a\\..\\b")], "characters that no model uses"),
    "control": ([member("a\x1b[31mb")], r"'a\\\\x1b\[31mb'"),
    "the folder itself": ([member("./.")], "twice"),
    "deep": ([member("/".join("a" * 20))], "nested over 16 deep"),
    "long": ([member("a" * 300)], "too long"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_hostile_member_is_refused_by_name_and_nothing_is_written(case, tmp_path):
    members, message = REFUSED[case]
    (tmp_path / "place").mkdir()
    path = archive_of(tmp_path, member("innocent"), *members)
    before = everything(tmp_path)
    with pytest.raises(ModelError, match=message):
        unpack(path, tmp_path / "place" / "out")
    assert everything(tmp_path) == before
    assert not Path("/tmp/nasnet-evil").exists()


def test_name_that_is_not_utf8_is_refused(tmp_path):
    options = {"form": tarfile.GNU_FORMAT, "encoding": "latin-1"}
    path = archive_of(tmp_path, member("b\xe4r"), **options)
    with pytest.raises(ModelError, match=r"not UTF-8, 'b\\\\xe4r'"):
        unpack(path, tmp_path / "out")


def test_sparse_file_is_refused(tmp_path):
    with (tmp_path / "holes").open("wb") as file:
        file.truncate(2**20)
        file.seek(2**19)
        file.write(b"x")
    subprocess.run(
        ["tar", "--sparse", "--format=gnu", "-czf", "sparse.tar.gz", "holes"],
        cwd=tmp_path,
        check=True,
    )
    with pytest.raises(ModelError, match="sparse file, 'holes'"):
        unpack(tmp_path / "sparse.tar.gz", tmp_path / "out")


def test_too_many_files_are_refused(tmp_path):
    path = archive_of(tmp_path, *(member(str(number), b"") for number in range(12)))
    with pytest.raises(ModelError, match="over 10 files"):
        unpack(path, tmp_path / "out", Limits(files=10))
    assert not (tmp_path / "out").exists()


def test_archive_that_expands_too_much_is_refused(tmp_path):
    path = archive_of(tmp_path, member("zeros", bytes(8 * 2**20)))
    with pytest.raises(ModelError, match="unpacks to over 2,097,152 bytes"):
        unpack(path, tmp_path / "out", Limits(grace=2 * 2**20))
    assert everything(tmp_path) == ["module.tar.gz"]


def test_header_that_expands_too_much_is_refused(tmp_path):
    info, data = member("a")
    info.pax_headers = {"comment": "x" * (2 * 2**20)}
    with pytest.raises(ModelError, match="header in it is too large"):
        unpack(archive_of(tmp_path, (info, data)), tmp_path / "out")


@pytest.mark.parametrize("compressed", [True, False], ids=["tar.gz", "tar"])
def test_archive_that_is_cut_anywhere_is_refused(tmp_path, compressed):
    packed = tar(member("a", os.urandom(2000)), member("b", b"b" * 700))
    whole = gzip.compress(packed, mtime=0) if compressed else packed
    path = tmp_path / "archive"
    # What follows a tar's first block of zeros is padding, which may be missing.
    last = len(whole) if compressed else len(packed.rstrip(b"\0")) - 1
    for size in [*range(1, last, 97), last - 1]:
        path.write_bytes(whole[:size])
        with pytest.raises(ModelError, match="cut off or damaged"):
            unpack(path, tmp_path / "out")
        assert everything(tmp_path) == ["archive"]


def test_tar_cut_between_two_files_is_refused(tmp_path):
    whole = tar(member("a", b"a" * 512), member("b", b"b" * 512))
    (tmp_path / "archive.tar").write_bytes(whole[:1024])
    with pytest.raises(ModelError, match="its end is missing"):
        unpack(tmp_path / "archive.tar", tmp_path / "out")


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.data())
def test_damage_anywhere_gives_a_model_error_or_a_folder(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("damaged")
    whole = bytearray(tar(member("a/b", b"1" * 600), member("c", b"2" * 100)))
    for _ in range(data.draw(st.integers(1, 5))):
        whole[data.draw(st.integers(0, 3000))] = data.draw(st.integers(0, 255))
    (folder / "archive").write_bytes(whole)
    try:
        unpack(folder / "archive", folder / "place" / "out")
    except ModelError:
        assert everything(folder) in (["archive"], ["archive", "place"])
    else:
        assert everything(folder)[:3] == ["archive", "place", "place/out"]


def test_unwritable_folder_is_a_cache_error(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(CacheError, match="Cannot write to the cache"):
        unpack(archive_of(tmp_path, member("a")), tmp_path / "file" / "out")


def test_killed_process_leaves_only_a_hidden_folder(tmp_path):
    path = archive_of(tmp_path, *(member(f"{n}", os.urandom(2**16)) for n in range(9)))
    code = (
        "import os, signal, sys; from pathlib import Path\n"
        "from nasnet_cli.models.hub.unpack import unpack\n"
        "def die(event, about):\n"
        "    if event == 'open' and str(about[0]).endswith('/5'):\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "sys.addaudithook(die); unpack(Path(sys.argv[1]), Path(sys.argv[2]))"
    )
    done = subprocess.run([sys.executable, "-c", code, path, tmp_path / "out"], check=False)
    assert done.returncode == -signal.SIGKILL
    assert not (tmp_path / "out").exists()
    (left,) = tmp_path.glob(".out.*.partial")
    assert everything(left) == ["0", "1", "2", "3", "4"]
