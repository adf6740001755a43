"""Images in archives, read in place."""

from __future__ import annotations

import gzip
import importlib
import io
import os
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from nasnet_cli.errors import InputError
from nasnet_cli.images.listing import list_sources
from nasnet_cli.images.source import MAX_BYTES, SkipCounter, Source
from nasnet_cli.jobs.shards.entries import entry_lines, entry_sources
from support.memory import with_peak

PNG_START = b"\x89PNG\r\n\x1a\n" + bytes(20)


@pytest.fixture(autouse=True)
def in_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def sources(
    path: Path, skips: SkipCounter | None = None, max_bytes: int = MAX_BYTES
) -> list[Source]:
    return list(list_sources([path.name], skips=skips or SkipCounter(), max_bytes=max_bytes))


def contents(found: Iterable[Source]) -> list[tuple[str, bytes | str]]:
    """Each source's name with its bytes or the kind of its error."""

    def content(source: Source) -> bytes | str:
        try:
            return source.read()
        except InputError as error:
            return error.kind

    return [(source.path, content(source)) for source in found]


def write_tar(path: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz" if path.suffix in (".gz", ".tgz") else "w") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def write_zip(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


MEMBERS = {
    "b/two.jpg": b"two",
    "notes.txt": b"text",
    "a/one": PNG_START,
    ".hidden/x.jpg": b"hidden",
    "__MACOSX/._x.jpg": b"hidden",
    "../up.jpg": b"up",
    "/etc/abs.jpg": b"abs",
}


def test_images_in_a_zip_are_in_byte_order(tmp_path: Path) -> None:
    skips = SkipCounter()
    found = sources(write_zip(tmp_path / "p.zip", MEMBERS), skips)
    assert contents(found) == [
        ("p.zip!/../up.jpg", b"up"),
        ("p.zip!//etc/abs.jpg", b"abs"),
        ("p.zip!/a/one", PNG_START),
        ("p.zip!/b/two.jpg", b"two"),
    ]
    assert skips.count == 3


@pytest.mark.parametrize("name", ["p.tar", "p.tar.gz", "p.TGZ"])
def test_images_in_a_tar_are_in_its_order(tmp_path: Path, name: str) -> None:
    path = write_tar(tmp_path / name.lower(), MEMBERS)
    path = path.rename(tmp_path / name)
    skips = SkipCounter()
    assert contents(sources(path, skips)) == [
        (f"{name}!/b/two.jpg", b"two"),
        (f"{name}!/a/one", PNG_START),
        (f"{name}!/../up.jpg", b"up"),
        (f"{name}!//etc/abs.jpg", b"abs"),
    ]
    assert skips.count == 3
    assert not (tmp_path.parent / "up.jpg").exists()


def test_names_in_a_tar_of_the_current_folder_lose_their_dot(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "p.tar", {"./a.jpg": b"a", "./.b.jpg": b"b"})
    assert contents(sources(path)) == [("p.tar!/a.jpg", b"a")]


def test_members_of_any_length_are_read_from_a_compressed_tar(tmp_path: Path) -> None:
    members = {f"{size}.jpg": os.urandom(size) for size in (0, 1, 63, 64, 511, 512, 513, 9000)}
    path = write_tar(tmp_path / "p.tar.gz", members)
    assert contents(sources(path)) == [(f"p.tar.gz!/{n}", data) for n, data in members.items()]


def test_links_and_devices_in_archives_are_skipped(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "p.tar", "w") as archive:
        for kind in (tarfile.SYMTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE):
            info = tarfile.TarInfo("link.jpg")
            info.type, info.linkname = kind, "/etc/passwd"
            archive.addfile(info)
        folder = tarfile.TarInfo("folder.jpg")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
    with zipfile.ZipFile(tmp_path / "p.zip", "w") as archive:
        link = zipfile.ZipInfo("link.jpg")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
        archive.mkdir("folder.jpg")
    for name, kinds in (("p.tar", {"link": 1, "pipe or device": 2}), ("p.zip", {"link": 1})):
        skips = SkipCounter()
        assert sources(tmp_path / name, skips) == []
        assert skips.kinds == kinds


@pytest.mark.parametrize("name", ["p.tar", "p.tar.gz"])
def test_hard_links_in_a_tar_are_the_files_they_lead_to(tmp_path: Path, name: str) -> None:
    mode = "w:gz" if name.endswith("gz") else "w"
    with tarfile.open(tmp_path / name, mode) as archive:

        def add(
            name: str, data: bytes = b"", link: str = "", kind: bytes = tarfile.LNKTYPE
        ) -> None:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            if link:
                info.type, info.linkname = kind, link
            archive.addfile(info, io.BytesIO(data))

        add("early.jpg", link="a.jpg")
        add("./a.jpg", b"first")
        add("b.jpg", b"b" * 5000)
        add("one.jpg", link="a.jpg")
        add("b2.jpg", link="./b.jpg")
        add("bare", link="a.jpg")
        add("a.jpg", b"second")
        add("two.jpg", link="a.jpg")
        add("chain.jpg", link="one.jpg")
        add("soft.jpg", link="a.jpg", kind=tarfile.SYMTYPE)
        add("hard-soft.jpg", link="soft.jpg")
    skips = SkipCounter()
    found = sources(tmp_path / name, skips)
    expected = [
        ("early.jpg", "archive"),
        ("a.jpg", b"first"),
        ("b.jpg", b"b" * 5000),
        ("one.jpg", b"first"),
        ("b2.jpg", b"b" * 5000),
        ("a.jpg", b"second"),
        ("two.jpg", b"second"),
        ("chain.jpg", b"first"),
    ]
    assert contents(found) == [(f"{name}!/{member}", data) for member, data in expected]
    assert contents(reversed(found)) == contents(found)[::-1]
    assert skips.kinds == {"other": 1, "link": 2}


@pytest.mark.parametrize("content", ["zip", "tar", "tar.gz"])
@pytest.mark.parametrize("name", ["p.zip", "p.tar", "p.tar.gz", "p.tgz"])
def test_an_archive_is_read_by_its_content(tmp_path: Path, name: str, content: str) -> None:
    path = tmp_path / f"made.{content}"
    (write_zip if content == "zip" else write_tar)(path, {"a.jpg": b"a"})
    path.rename(tmp_path / name)
    assert contents(sources(tmp_path / name)) == [(f"{name}!/a.jpg", b"a")]


@pytest.mark.parametrize("module", ["bz2", "lzma"])
def test_an_archive_in_another_compression_is_unsupported(tmp_path: Path, module: str) -> None:
    with importlib.import_module(module).open(tmp_path / "p.tar", "wb") as stream:
        stream.write(b"x" * 1000)
    assert contents(sources(tmp_path / "p.tar")) == [("p.tar", "unsupported")]


def test_an_archive_without_permission_is_unreadable(
    public_path: Path, as_nobody: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(public_path)
    for path in (
        write_zip(Path("p.zip"), {"a.jpg": b"a"}),
        write_tar(Path("p.tar"), {"a.jpg": b"a"}),
    ):
        assert contents(sources(path)) == [(f"{path}!/a.jpg", b"a")]  # imports, as nobody cannot
        path.chmod(0)
    as_nobody()
    for name in ("p.zip", "p.tar", "p.zip!/a.jpg"):
        ((_, kind),) = contents(list_sources([name], skips=SkipCounter()))
        assert kind == "unreadable"


def _field(data: bytes, raw_name: bytes, version: int = 1) -> bytes:
    body = struct.pack("<BI", version, zlib.crc32(raw_name)) + data
    return struct.pack("<HH", 0x7075, len(body)) + body


@pytest.mark.parametrize(
    ("field", "name"),
    [
        (_field("写真.jpg".encode(), b"__.jpg"), "写真.jpg"),
        (_field("写真.jpg".encode(), b"other.jpg"), "__.jpg"),
        (_field("写真.jpg".encode(), b"__.jpg", version=2), "__.jpg"),
        (_field(b"\xff.jpg", b"__.jpg"), "__.jpg"),
        (struct.pack("<HH", 1, 0) + _field("é.jpg".encode(), b"__.jpg"), "é.jpg"),
    ],
)
def test_a_name_in_the_unicode_path_field_counts(tmp_path: Path, field: bytes, name: str) -> None:
    info = zipfile.ZipInfo("__.jpg")
    info.extra = field
    with zipfile.ZipFile(tmp_path / "p.zip", "w") as archive:
        archive.writestr(info, b"x")
    assert contents(sources(tmp_path / "p.zip")) == [(f"p.zip!/{name}", b"x")]


def test_zip_names_that_are_not_utf8_are_in_code_page_437(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "p.zip", {"?t?.jpg": b"x"})
    path.write_bytes(path.read_bytes().replace(b"?t?.jpg", "étü.jpg".encode("cp437")))
    assert contents(sources(path)) == [("p.zip!/étü.jpg", b"x")]
    assert contents(list_sources(["p.zip!/étü.jpg"], skips=SkipCounter())) == contents(
        sources(path)
    )


@pytest.mark.parametrize(("method", "word"), [(9, "Deflate64"), (98, "PPMd"), (77, "method 77")])
def test_a_member_in_another_compression_is_unsupported(
    tmp_path: Path, method: int, word: str
) -> None:
    path = write_zip(tmp_path / "p.zip", {"a.jpg": b"a" * 99, "bare": b"b", "n.txt": b"c"})
    data = bytearray(path.read_bytes())
    for start, offset in ((b"PK\1\2", 10), (b"PK\3\4", 8)):
        at = data.find(start)
        while at >= 0:
            data[at + offset] = method
            at = data.find(start, at + 1)
    path.write_bytes(data)
    found = sources(path)
    assert contents(found) == [("p.zip!/a.jpg", "unsupported"), ("p.zip!/bare", "unsupported")]
    assert found[0].failure is not None and word in found[0].failure.message


def test_hundreds_of_archives_wait_with_few_open_files(tmp_path: Path) -> None:
    for number in range(300):
        write_zip(tmp_path / f"{number:03}.zip", {"a.jpg": b"%d" % number})
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    paths = [f"{number:03}.zip" for number in range(300)]
    found = list(list_sources(paths, skips=SkipCounter()))
    assert len(os.listdir("/proc/self/fd")) <= before + 1  # noqa: PTH208
    assert [source.read() for source in found] == [b"%d" % number for number in range(300)]


def test_an_archive_that_is_replaced_while_it_is_read_is_an_error(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "p.zip", {"a.jpg": b"a"})
    found = sources(path)
    write_zip(tmp_path / "new.zip", {"a.jpg": b"b", "b.jpg": b"c"}).replace(path)
    assert contents(found) == [("p.zip!/a.jpg", "archive")]


def test_a_zip_whose_members_overlap_is_refused(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "p.zip", {"a.jpg": b"a" * 1000, "b.jpg": b"b" * 1000})
    data = bytearray(path.read_bytes())
    second = data.rindex(b"PK\1\2")
    data[second + 42 : second + 46] = bytes(4)  # both at the beginning
    path.write_bytes(data)
    assert contents(sources(path)) == [("p.zip", "archive")]


@pytest.mark.parametrize("name", ["p.zip", "p.tar", "p.tar.gz"])
def test_members_are_found_by_the_names_of_their_rows(tmp_path: Path, name: str) -> None:
    members = {"b/two.jpg": b"2", "a/one.jpg": b"1", "a/notes.txt": b"n", "a/.h.jpg": b"h"}
    write = write_zip if name == "p.zip" else write_tar
    listed = sources(write(tmp_path / name, members))
    rows = contents(listed)
    for paths in ([path for path, _ in rows], [path for path, _ in reversed(rows)]):
        again = list(list_sources(paths, skips=SkipCounter()))
        assert contents(again) == sorted(rows, key=lambda row: paths.index(row[0]))
        assert {(s.stat, s.archive) for s in again} == {(s.stat, s.archive) for s in listed}
    named = [f"{name}!/a/notes.txt", f"{name}!/a/.h.jpg", f"{name}!/none.jpg", f"{name}!/a"]
    assert contents(list_sources(named, skips=SkipCounter())) == [
        (named[0], b"n"),
        (named[1], b"h"),
        (named[2], "not_found"),
        (f"{name}!/a/one.jpg", b"1"),
    ]
    missing = list_sources(["none.zip!/a.jpg"], skips=SkipCounter())
    assert contents(missing) == [("none.zip!/a.jpg", "not_found")]


@pytest.mark.parametrize("name", ["p.zip", "p.tar"])
def test_excluded_members_are_skipped(tmp_path: Path, name: str) -> None:
    members = {"__MACOSX/a.jpg": b"", "raw/b.jpg": b"", "c.jpg": b"c"}
    (write_zip if name == "p.zip" else write_tar)(tmp_path / name, members)
    skips = SkipCounter()
    found = list_sources([name], exclude=["raw"], skips=skips)
    assert contents(found) == [(f"{name}!/c.jpg", b"c")]
    assert skips.kinds == {"__MACOSX": 1, "excluded": 1}


@pytest.mark.parametrize("name", ["p.zip", "p.tar", "p.tar.gz"])
def test_the_lines_of_a_manifest_find_excluded_and_named_members(tmp_path: Path, name: str) -> None:
    members = {"a.txt": b"n", "b.jpg": b"b", "c.jpg": b"c", "d.jpg": b"d"}
    (write_zip if name == "p.zip" else write_tar)(tmp_path / name, members)
    named = [name, f"{name}!/a.txt", name]
    found = list(list_sources(named, exclude=["b.*"], skips=SkipCounter()))
    again = list(entry_sources(entry_lines(found), str(tmp_path)))
    assert contents(again) == contents(found)
    assert [data for _, data in contents(found)] == [b"c", b"d", b"n", b"c", b"d"]


def test_zip_names_that_are_not_marked_as_utf8_are_decoded_as_utf8(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "p.zip", {"??.jpg": b"x", "\N{SNOWMAN}.jpg": b"y"})
    path.write_bytes(path.read_bytes().replace(b"??.jpg", "é.jpg".encode()))
    assert contents(sources(path)) == [("p.zip!/é.jpg", b"x"), ("p.zip!/\N{SNOWMAN}.jpg", b"y")]


def test_an_encrypted_member_is_an_archive_error(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "p.zip", {"a.jpg": b"a", "b.jpg": b"b"})
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\1\2") + 8] |= 1  # the central directory's flags of the first member
    path.write_bytes(data)
    assert contents(sources(path)) == [("p.zip!/a.jpg", "archive"), ("p.zip!/b.jpg", b"b")]


def test_a_member_with_a_bad_checksum_is_an_archive_error_and_the_others_are_read(
    tmp_path: Path,
) -> None:
    with zipfile.ZipFile(tmp_path / "p.zip", "w") as archive:
        archive.writestr("a.jpg", b"aaaa")
        archive.writestr("b.jpg", b"bbbb")
    data = (tmp_path / "p.zip").read_bytes()
    (tmp_path / "p.zip").write_bytes(data.replace(b"aaaa", b"aaab"))
    assert contents(sources(tmp_path / "p.zip")) == [
        ("p.zip!/a.jpg", "archive"),
        ("p.zip!/b.jpg", b"bbbb"),
    ]


@pytest.mark.parametrize("name", ["p.zip", "p.tar", "p.tar.gz", "p.tgz"])
@pytest.mark.parametrize("data", [b"", b"not an archive", bytes(100), PNG_START * 100])
def test_a_file_that_is_not_an_archive_has_one_row(tmp_path: Path, name: str, data: bytes) -> None:
    (tmp_path / name).write_bytes(data)
    assert contents(sources(tmp_path / name)) == [(name, "archive")]


def test_a_missing_archive_is_not_found(tmp_path: Path) -> None:
    assert contents(sources(tmp_path / "p.zip")) == [("p.zip", "not_found")]


@pytest.mark.parametrize("name", ["p.tar", "p.tar.gz"])
def test_a_truncated_tar_has_its_complete_members_and_an_error(tmp_path: Path, name: str) -> None:
    path = write_tar(tmp_path / name, {"a.jpg": os.urandom(3000), "b.jpg": os.urandom(3000)})
    data = path.read_bytes()
    path.write_bytes(data[: 512 + 3072 + 512 + 1000])
    rows = contents(sources(path))
    assert rows[0][0] == f"{name}!/a.jpg"
    assert isinstance(rows[0][1], bytes)
    assert rows[-1] == (name, "archive")


@pytest.mark.parametrize("name", ["p.tar", "p.tar.gz"])
def test_a_member_of_negative_size_ends_a_tar_with_an_error(tmp_path: Path, name: str) -> None:
    info = tarfile.TarInfo("b.jpg")
    info.size = -100
    good = tarfile.TarInfo("a.jpg")
    data = good.tobuf(tarfile.GNU_FORMAT) + info.tobuf(tarfile.GNU_FORMAT) + bytes(2048)
    (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith("gz") else data)
    assert contents(sources(tmp_path / name)) == [(f"{name}!/a.jpg", b""), (name, "archive")]


def test_a_damaged_header_in_a_tar_is_not_taken_for_its_end(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "p.tar", {f"{n}.jpg": b"x" for n in "abc"})
    data = bytearray(path.read_bytes())
    data[1024 + 5] ^= 0xFF
    path.write_bytes(data)
    assert contents(sources(path)) == [("p.tar!/a.jpg", b"x"), ("p.tar", "archive")]


def test_a_compressed_tar_with_a_bad_checksum_ends_with_an_error(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "p.tar.gz", {"a.jpg": b"x"})
    data = bytearray(path.read_bytes())
    data[-8] ^= 0xFF
    path.write_bytes(data)
    assert contents(sources(path)) == [("p.tar.gz!/a.jpg", b"x"), ("p.tar.gz", "archive")]


@pytest.mark.parametrize("name", ["p.zip", "p.tar", "p.tar.gz"])
def test_a_member_over_the_limit_is_too_large(tmp_path: Path, name: str) -> None:
    write = write_zip if name == "p.zip" else write_tar
    path = write(tmp_path / name, {"a.jpg": bytes(2000), "b.jpg": b"b"})
    big, small = sources(path, max_bytes=1000)
    with pytest.raises(InputError) as caught:
        big.read(max_bytes=1000)
    assert caught.value.kind == "too_large"
    assert small.read(max_bytes=1000) == b"b"


def test_a_zip_member_is_not_expanded_beyond_the_size_in_its_header(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "p.zip", {"a.jpg": bytes(10_000_000)})
    data = path.read_bytes()
    size = struct.pack("<I", 10_000_000)
    assert data.count(size) == 2
    path.write_bytes(data.replace(size, struct.pack("<I", 10)))
    assert contents(sources(path)) == [("p.zip!/a.jpg", "archive")]


def test_a_header_of_an_absurd_size_in_a_tar_is_not_read(tmp_path: Path) -> None:
    name = tarfile.TarInfo("././@LongLink")
    name.type, name.size = tarfile.GNUTYPE_LONGNAME, 8 << 30
    with gzip.open(tmp_path / "p.tar.gz", "wb") as stream:
        stream.write(name.tobuf(tarfile.GNU_FORMAT))
        stream.write(bytes(10_000))
    assert contents(sources(tmp_path / "p.tar.gz")) == [("p.tar.gz", "archive")]


@pytest.mark.parametrize("name", ["p.zip", "p.tar", "p.tar.gz"])
def test_members_are_read_from_several_threads_at_once(tmp_path: Path, name: str) -> None:
    members = {f"{number:03}.jpg": os.urandom(5000) for number in range(100)}
    write = write_zip if name == "p.zip" else write_tar
    found = sources(write(tmp_path / name, members))
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(Source.read, found)) == list(members.values())


def test_a_tar_of_many_members_is_listed_in_flat_memory(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "p.tar.gz", {f"{n}.jpg": bytes(10_000) for n in range(1000)})
    listed = list_sources([str(path)], skips=SkipCounter())
    count, peak = with_peak(lambda: sum(len(source.read()) > 0 for source in listed))
    assert count == 1000
    assert peak < 2_000_000  # of 10 MB
