"""From a user's paths to inputs."""

from __future__ import annotations

import io
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from nasnet_cli.errors import InputError, NasnetError
from nasnet_cli.images import names as names_module
from nasnet_cli.images.listing import list_sources, read_list
from nasnet_cli.images.source import WHOLE_BYTES, SkipCounter, Source
from support.memory import with_peak

PNG_START = b"\x89PNG\r\n\x1a\n" + bytes(20)


def names(*paths: Path | str, recursive: bool = True) -> list[str]:
    found = list_sources([str(path) for path in paths], recursive=recursive, skips=SkipCounter())
    return [source.path for source in found]


def only(path: Path | str) -> Source:
    (source,) = list_sources([str(path)], skips=SkipCounter())
    return source


def failure(source: Source) -> tuple[str, str]:
    with pytest.raises(InputError) as caught:
        source.read()
    return caught.value.kind, caught.value.message


def test_folders_are_listed_in_byte_order(tmp_path: Path) -> None:
    for name in ("b/x.jpg", "b.jpg", "a/2.jpg", "a/10.jpg", "B.jpg", "é.jpg", "z.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    assert names(tmp_path) == [
        f"{tmp_path}/{name}"
        for name in ("B.jpg", "a/10.jpg", "a/2.jpg", "b/x.jpg", "b.jpg", "z.jpg", "é.jpg")
    ]


def test_paths_begin_as_the_user_wrote_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/a.jpg").write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    for written in ("photos/", "./photos/../photos/", f"{tmp_path}//photos/"):
        assert names(written) == [f"{written}a.jpg"]
    assert names(".") == ["./photos/a.jpg"]


def test_a_folder_is_walked_once_however_often_it_is_reached(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "photos/in").mkdir(parents=True)
    (tmp_path / "photos/in/a.jpg").write_bytes(b"")
    (tmp_path / "photos/b.jpg").write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    skips = SkipCounter()
    found = list_sources(["photos/in", "photos", "photos", "./photos/in"], skips=skips)
    assert [source.path for source in found] == ["photos/in/a.jpg", "photos/b.jpg"]
    assert skips.kinds == {"repeated folder": 3}


def test_links_to_what_a_named_folder_holds_are_skipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("one/a.jpg", "two/b.jpg", "two/in/c.jpg", "two/.annex/d.jpg", "far/e.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    monkeypatch.chdir(tmp_path)
    for link, target in {
        "same.jpg": "a.jpg",
        "other.jpg": "../two/b.jpg",
        "folder": "../two/in",
        "whole": "../two",
        "up": "..",
        "hidden.jpg": "../two/.annex/d.jpg",
        "far.jpg": "../far/e.jpg",
    }.items():
        Path("one", link).symlink_to(target)
    os.link("one/a.jpg", "one/hard.jpg")
    skips = SkipCounter()
    named = ["one", "two", "one/same.jpg"]
    found = [s.path for s in list_sources(named, folders=named, skips=skips)]
    assert found == [
        "one/a.jpg",
        "one/far.jpg",
        "one/hard.jpg",
        "one/hidden.jpg",
        "one/up/far/e.jpg",
        "one/up/two/b.jpg",
        "one/up/two/in/c.jpg",
        "one/same.jpg",
    ]
    assert skips.kinds == {"link": 4, "hidden": 1, "repeated folder": 2}


def test_a_link_has_a_row_where_the_walk_would_not_find_its_file(tmp_path: Path) -> None:
    for name in ("in/a.jpg", "in/a.dat", "@eaDir/a.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    links = {"deep.jpg": "in/a.jpg", "bare.jpg": "in/a.dat", "thumb.jpg": "@eaDir/a.jpg"}
    for link, target in links.items():
        (tmp_path / link).symlink_to(target)
    flat = [f"{tmp_path}/{name}" for name in ("bare.jpg", "deep.jpg", "thumb.jpg")]
    assert names(tmp_path, recursive=False) == flat
    assert names(tmp_path) == [flat[0], f"{tmp_path}/in/a.jpg", flat[2]]


def test_raw_files_beside_a_jpeg_of_the_same_name_are_skipped(tmp_path: Path) -> None:
    (tmp_path / "dir.jpg").mkdir()
    for name in ("a.NEF", "A.jpg", "b.cr2", "b.JPEG", "c.CR3", "d.DNG", "d.png", ".e.jpg", "e.nef"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "dir.ARW").write_bytes(b"")
    skips = SkipCounter()
    found = [Path(s.path).name for s in list_sources([str(tmp_path)], skips=skips)]
    assert found == ["A.jpg", "b.JPEG", "c.CR3", "d.DNG", "d.png", "dir.ARW", "e.nef"]
    assert skips.kinds == {"NEF": 1, "CR2": 1, "hidden": 1}
    assert names(tmp_path / "a.NEF") == [f"{tmp_path}/a.NEF"]
    excluding = list_sources([str(tmp_path)], exclude=["*.jpg"], skips=SkipCounter())
    assert f"{tmp_path}/a.NEF" in [source.path for source in excluding]


def test_thumbnails_and_bins_of_file_servers_are_skipped(tmp_path: Path) -> None:
    skipped = ("@eaDir", "#recycle", "$RECYCLE.BIN", "node_modules", "__MACOSX")
    for folder in (*skipped, "ok"):
        (tmp_path / "top" / folder).mkdir(parents=True)
        (tmp_path / "top" / folder / "a.jpg").write_bytes(b"")
    skips = SkipCounter()
    found = [s.path for s in list_sources([str(tmp_path)], skips=skips)]
    assert found == [f"{tmp_path}/top/ok/a.jpg"]
    assert skips.kinds == dict.fromkeys(sorted(skipped), 1)
    assert names(tmp_path / "top/@eaDir") == [f"{tmp_path}/top/@eaDir/a.jpg"]


@pytest.mark.parametrize(
    ("exclude", "kept"),
    [
        (["*.png"], ["a.jpg", "raw/b.jpg", "raw/in/c.jpg"]),
        (["raw"], ["a.jpg", "d.png"]),
        (["raw/"], ["a.jpg", "d.png"]),
        (["raw/*.jpg"], ["a.jpg", "d.png"]),
        (["raw/in"], ["a.jpg", "d.png", "raw/b.jpg"]),
        (["in", "[ad].*"], ["raw/b.jpg"]),
        (["a.jpg/", "RAW"], ["a.jpg", "d.png", "raw/b.jpg", "raw/in/c.jpg"]),
    ],
)
def test_excluded_names_are_skipped_in_folders(
    tmp_path: Path, exclude: list[str], kept: list[str]
) -> None:
    for name in ("a.jpg", "d.png", "raw/b.jpg", "raw/in/c.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    skips = SkipCounter()
    found = [s.path for s in list_sources([str(tmp_path)], exclude=exclude, skips=skips)]
    assert found == [f"{tmp_path}/{name}" for name in kept]
    assert set(skips.kinds) <= {"excluded"}


def test_what_must_be_read_to_know_it_and_cannot_has_a_row(
    public_path: Path, as_nobody: Callable[[], None]
) -> None:
    for name in ("bare", "notes.txt"):
        (public_path / name).write_bytes(PNG_START)
        (public_path / name).chmod(0)
    as_nobody()
    skips = SkipCounter()
    (source,) = list_sources([str(public_path)], skips=skips)
    assert source.path == f"{public_path}/bare"
    assert failure(source)[0] == "unreadable"
    assert skips.kinds == {"TXT": 1}


@pytest.mark.parametrize("name", ["~/photos", "*.jpg"])
def test_names_that_a_shell_would_expand_are_told(name: str) -> None:
    kind, message = failure(only(name))
    assert kind == "not_found"
    assert "outside quotes" in message


def test_without_recursion_only_the_folder_itself_is_listed(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/b.jpg").write_bytes(b"")
    (tmp_path / "a.jpg").write_bytes(b"")
    assert names(tmp_path, recursive=False) == [f"{tmp_path}/a.jpg"]


def test_images_are_detected_by_suffix_or_first_bytes(tmp_path: Path) -> None:
    (tmp_path / "by-suffix.JPEG").write_bytes(b"not really")
    (tmp_path / "by-bytes").write_bytes(PNG_START)
    (tmp_path / "odd.dat").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    (tmp_path / "notes.txt").write_bytes(b"BM is how this text begins, and it is no bitmap")
    (tmp_path / "empty").write_bytes(b"")
    skips = SkipCounter()
    found = [Path(s.path).name for s in list_sources([str(tmp_path)], skips=skips)]
    assert found == ["by-bytes", "by-suffix.JPEG", "odd.dat"]
    assert skips.count == 2


def test_hidden_entries_archives_and_pipes_in_folders_are_skipped(tmp_path: Path) -> None:
    (tmp_path / ".hidden").mkdir()
    (tmp_path / ".hidden/a.jpg").write_bytes(PNG_START)
    (tmp_path / ".a.jpg").write_bytes(PNG_START)
    (tmp_path / "photos.zip").write_bytes(b"PK\3\4")
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "device.jpg").symlink_to("/dev/zero")
    (tmp_path / "b.jpg").write_bytes(PNG_START)
    skips = SkipCounter()
    found = [s.path for s in list_sources([str(tmp_path)], skips=skips)]
    assert found == [f"{tmp_path}/b.jpg"]
    assert skips.count == 5


def test_symbolic_links_are_followed_but_loops_end(tmp_path: Path) -> None:
    (tmp_path / "top/in").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/b.jpg").write_bytes(b"")
    (tmp_path / "top/in/a.jpg").write_bytes(b"")
    (tmp_path / "top/in/loop").symlink_to(tmp_path / "top")
    (tmp_path / "top/link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "top/same.jpg").symlink_to(tmp_path / "elsewhere/b.jpg")
    top = tmp_path / "top"
    assert names(top) == [f"{top}/in/a.jpg", f"{top}/link/b.jpg", f"{top}/same.jpg"]


def test_a_deep_tree_is_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    deep = "/".join(["d"] * 1500)
    subprocess.run(["mkdir", "-p", deep], check=True)
    Path(deep, "a.jpg").write_bytes(b"")
    found = names("d")
    subprocess.run(["rm", "-r", "d"], check=True)  # Python's own rmtree would recurse
    assert found == [f"{deep}/a.jpg"]


def test_a_large_folder_takes_little_memory(tmp_path: Path) -> None:
    count = 20_000
    for number in range(count):
        (tmp_path / f"IMG_{number:08}.jpg").touch()
    found = list_sources([str(tmp_path)], skips=SkipCounter())
    first, peak = with_peak(lambda: next(found))
    assert first.path.endswith("IMG_00000000.jpg")
    assert peak / count < 100
    assert sum(1 for _ in found) == count - 1


def test_a_named_file_is_always_an_input_each_time_it_is_named(
    tmp_path: Path,
) -> None:
    file = tmp_path / ".notes.txt"
    file.write_bytes(b"hello")
    assert names(file, file) == [str(file), str(file)]
    assert only(file).read() == b"hello"


def test_a_missing_path_has_a_row(tmp_path: Path) -> None:
    for path in (tmp_path / "none.jpg", "", "a\0b", "\ud800.jpg", tmp_path / "x.jpg/none"):
        (tmp_path / "x.jpg").write_bytes(b"")
        assert failure(only(path))[0] == "not_found"


def test_a_named_pipe_or_device_has_a_row_and_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", "/dev/null"):
        assert failure(only(path)) == (
            "unreadable",
            "It is a pipe, a socket or a device, not a file.",
        )


def test_a_file_that_vanishes_or_becomes_a_pipe_before_it_is_read_has_an_error(
    tmp_path: Path,
) -> None:
    file = tmp_path / "a.jpg"
    file.write_bytes(b"")
    source = only(file)
    file.unlink()
    assert failure(source)[0] == "not_found"
    os.mkfifo(file)
    assert failure(source)[0] == "unreadable"


def test_dangling_links_have_rows_if_named_like_images(tmp_path: Path) -> None:
    (tmp_path / "gone.jpg").symlink_to(tmp_path / "nothing")
    (tmp_path / "gone").symlink_to(tmp_path / "nothing")
    (tmp_path / "self.jpg").symlink_to(tmp_path / "self.jpg")
    skips = SkipCounter()
    found = list(list_sources([str(tmp_path)], skips=skips))
    assert [(Path(s.path).name, failure(s)[0]) for s in found] == [
        ("gone.jpg", "not_found"),
        ("self.jpg", "unreadable"),
    ]
    assert skips.count == 1


def test_unreadable_files_and_folders_have_rows(
    public_path: Path, monkeypatch: pytest.MonkeyPatch, as_nobody: Callable[[], None]
) -> None:
    (public_path / "locked").mkdir(mode=0)
    (public_path / "locked.jpg").write_bytes(b"")
    (public_path / "locked.jpg").chmod(0)
    (public_path / "open.jpg").write_bytes(b"")
    monkeypatch.chdir(public_path)
    as_nobody()
    found = list(list_sources([".", "locked"], skips=SkipCounter()))
    assert [s.path for s in found] == ["./locked", "./locked.jpg", "./open.jpg", "locked"]
    assert found[2].read() == b""
    for source in (found[0], found[1], found[3]):
        assert failure(source) == ("unreadable", "It cannot be read: Permission denied.")


def test_a_folder_that_cannot_be_entered_has_one_row(
    public_path: Path, as_nobody: Callable[[], None]
) -> None:
    (public_path / "closed").mkdir()
    for name in ("a.jpg", "b.jpg", "notes"):
        (public_path / "closed" / name).write_bytes(b"")
    (public_path / "closed").chmod(0o744)
    (public_path / "z.jpg").write_bytes(b"")
    as_nobody()
    found = list(list_sources([str(public_path)], skips=SkipCounter()))
    assert [s.path for s in found] == [f"{public_path}/closed", f"{public_path}/z.jpg"]
    assert failure(found[0]) == ("unreadable", "It cannot be read: Permission denied.")


def test_a_path_longer_than_the_system_allows_has_a_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    name = "d" * 200
    for _ in range(20):  # 4,019 characters: the 21st folder cannot be named from the first
        os.mkdir(name)  # noqa: PTH102
        os.chdir(name)
    Path("e" * 200).mkdir()
    os.chdir(tmp_path)
    (source,) = list_sources([name], skips=SkipCounter())
    subprocess.run(["rm", "-r", name], check=True)
    assert failure(source) == ("unreadable", "It cannot be read: File name too long.")


def test_names_that_are_not_utf8_become_surrogate_escapes(tmp_path: Path) -> None:
    raw = os.fsencode(tmp_path) + b"/\xff\xfe.jpg"
    Path(os.fsdecode(raw)).write_bytes(b"x")
    (source,) = list_sources([str(tmp_path)], skips=SkipCounter())
    assert os.fsencode(source.path) == raw
    assert source.read() == b"x"


def test_a_file_over_the_limit_is_too_large(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(bytes(100))
    source = only(tmp_path / "a.jpg")
    assert len(source.read(max_bytes=100)) == 100
    with pytest.raises(InputError, match="more than 99 bytes") as caught:
        source.open(max_bytes=99)
    assert caught.value.kind == "too_large"


def test_a_file_without_a_size_is_read_to_its_end() -> None:
    source = only(Path("/proc/self/status"))
    assert Path(source.path).stat().st_size == 0
    with source.open() as stream:
        assert stream.read(5) == b"Name:"
        stream.seek(0)
        assert len(stream.read()) > 500
    assert source.read().startswith(b"Name:")


def test_a_large_file_is_not_held_in_memory(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(bytes(WHOLE_BYTES))
    with only(path).open() as stream:
        assert isinstance(stream, io.BytesIO)
    with path.open("ab") as grown:
        grown.write(b"x")
    with only(path).open() as stream:
        assert not isinstance(stream, io.BytesIO)
        assert stream.read()[-1:] == b"x"


def test_sources_are_listed_while_paths_still_arrive(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"")

    def paths() -> Iterator[str]:
        yield str(tmp_path)
        raise AssertionError("nobody asked for a second path")

    assert next(list_sources(paths(), skips=SkipCounter())).path == f"{tmp_path}/a.jpg"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"", []),
        (b"a.jpg", ["a.jpg"]),
        (b"a.jpg\nb c.jpg\n", ["a.jpg", "b c.jpg"]),
        (b"a.jpg\r\n\r\n\nb.jpg\r\n", ["a.jpg", "b.jpg"]),
        (b"a\nb.jpg\0c\r\0\0", ["a\nb.jpg", "c\r"]),
        (b" spaced .jpg \n", [" spaced .jpg "]),
        (b"BMW.jpg\nGIF89a.jpg\n", ["BMW.jpg", "GIF89a.jpg"]),
        (b"BM.jpg\0", ["BM.jpg"]),
        (b".\0a\0b\0c\0", [".", "a", "b", "c"]),
        (b"\xff.jpg\n", ["\udcff.jpg"]),
        (b"\xef\xbb\xbfa.jpg\nb.jpg\n", ["a.jpg", "b.jpg"]),
    ],
)
def test_lists_are_separated_by_newlines_or_nuls(text: bytes, expected: list[str]) -> None:
    assert list(read_list(io.BytesIO(text))) == expected


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_a_utf16_list_is_an_error(encoding: str) -> None:
    with pytest.raises(NasnetError, match="UTF-16"):
        list(read_list(io.BytesIO("\ufeffa.jpg\n/\n".encode(encoding))))
    for path in ("é.jpg", "/home/me/photos", "C:\\photos\\写真 1.jpg\r\n", "a.jpg\nb.jpg\n"):
        with pytest.raises(NasnetError, match="UTF-16"):
            list(read_list(io.BytesIO(path.encode(encoding))))


@pytest.mark.parametrize("format", ["JPEG", "PNG", "TIFF", "BMP", "GIF", "WEBP"])
def test_an_image_is_no_list(format: str) -> None:
    stream = io.BytesIO()
    Image.new("RGB", (300, 200)).save(stream, format)
    with pytest.raises(NasnetError, match="is an image"):
        list(read_list(io.BytesIO(stream.getvalue())))


def test_a_list_is_read_as_it_arrives() -> None:
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as stream, os.fdopen(writing, "wb", buffering=0) as sink:
        found = read_list(stream)
        sink.write(b"a.jpg\nb.j")
        assert next(found) == "a.jpg"
        sink.write(b"pg\n")
        assert next(found) == "b.jpg"


class Trickle(io.BytesIO):
    """A stream that returns a few bytes at a time, as a pipe may."""

    def read1(self, size: int | None = -1, /) -> bytes:
        return super().read1(3)


@given(st.lists(st.binary(min_size=1, max_size=12).filter(lambda name: b"\0" not in name)))
def test_every_name_survives_a_nul_separated_list(raw: list[bytes]) -> None:
    text = b"".join(name + b"\0" for name in raw)
    assert [os.fsencode(name) for name in read_list(io.BytesIO(text))] == raw


@given(
    st.lists(st.binary(min_size=1, max_size=12).filter(lambda name: not set(name) & set(b"\0\n\r")))
)
def test_every_name_survives_a_newline_separated_list_in_pieces(raw: list[bytes]) -> None:
    text = b"".join(name + b"\n" for name in raw)
    assert [os.fsencode(name) for name in read_list(Trickle(text))] == raw


@pytest.mark.parametrize("room", [True, False])
@pytest.mark.parametrize("held", [1, 3, 7, 12, 1000])
def test_a_folder_of_many_names_is_sorted_in_parts(held, room, tmp_path, monkeypatch):
    names = [b"%d.jpg" % i for i in range(9)] + [b"a\nb.jpg", b"\xff.jpg", b"x" * 250]
    for name in names:
        (tmp_path / os.fsdecode(name)).touch()
    monkeypatch.setattr(names_module, "_NAMES_IN_MEMORY", held)
    if not room:
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "gone"))
    assert list(names_module.sorted_names(os.fsencode(tmp_path))) == sorted(names)


def test_memory_never_holds_all_names(tmp_path, monkeypatch):
    for i in range(20_000):
        (tmp_path / f"{i:08}{'n' * 200}").touch()
    monkeypatch.setattr(names_module, "_NAMES_IN_MEMORY", 5000)
    found = names_module.sorted_names(os.fsencode(tmp_path))
    count, peak = with_peak(lambda: sum(1 for _ in found))
    assert count == 20_000
    assert peak < 0.9 * 20_000 * 208  # their bytes alone are more
