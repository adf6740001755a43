"""The central directory of a zip: read as zipfile reads it, in less memory."""

from __future__ import annotations

import io
import struct
import tracemalloc
import zipfile
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nasnet_cli.errors import InputError
from nasnet_cli.images.zip_directory import Directory

FIELDS = (
    "orig_filename", "flag_bits", "compress_type", "CRC", "compress_size", "file_size",
    "external_attr", "header_offset", "extra",
)  # fmt: skip


def zipped(members: dict[str, bytes], *, comment: bytes = b"") -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.comment = comment
        for name, data in members.items():
            archive.writestr(name, data)
    return stream.getvalue()


def large() -> bytes:
    """A zip with the records and fields for large files, which none of it needs."""
    record = struct.pack(
        "<4s6H3I5H2I", b"PK\1\2", 45, 45, 0, 0, 0, 33, 0, 2**32 - 1, 2**32 - 1,
        1, 28, 0, 0, 0, 0, 2**32 - 1,
    ) + b"a" + struct.pack("<HH3Q", 1, 24, 0, 0, 0)  # fmt: skip
    local = struct.pack("<4s5H3I2H", b"PK\3\4", 45, 0, 0, 0, 33, 0, 0, 0, 1, 0) + b"a"
    end = struct.pack("<4sQ2H2I4Q", b"PK\6\6", 44, 45, 45, 0, 0, 1, 1, len(record), len(local))
    locator = struct.pack("<4sIQI", b"PK\6\7", 0, len(local + record), 1)
    return local + record + end + locator + b"PK\5\6" + b"\0" * 4 + b"\xff" * 12 + b"\0\0"


WHOLE = {
    "plain": zipped({"b.jpg": b"b" * 100, "a.jpg": b"a", "f/\N{SNOWMAN}.jpg": b""}),
    "empty": zipped({}),
    "comment": zipped({"a.jpg": b"a"}, comment=b"a comment that ends in NUL\0\0"),
    "before": b"#!/bin/sh\n" + zipped({"a.jpg": b"a", "b.jpg": b"b"}),
    "large": large(),
}


def ours(data: bytes) -> list[list[object]] | str:
    try:
        found = Directory(io.BytesIO(data))
    except InputError:
        return "refused"
    except Exception:
        return "damaged"
    infos = [info for _, info in found]
    assert found.expanded == sum(info.file_size for info in infos)
    return sorted([str(getattr(info, name)) for name in FIELDS] for info in infos)


def pythons(data: bytes) -> list[list[object]] | str:
    try:
        infos = zipfile.ZipFile(io.BytesIO(data)).infolist()
    except Exception:
        return "damaged"
    return sorted([str(getattr(info, name)) for name in FIELDS] for info in infos)


@pytest.mark.parametrize("name", WHOLE)
def test_a_directory_is_read_as_zipfile_reads_it(name: str) -> None:
    assert ours(WHOLE[name]) == pythons(WHOLE[name])
    assert ours(WHOLE[name]) not in ("damaged", "refused")


@pytest.mark.parametrize("name", WHOLE)
@given(data=st.data())
def test_a_damaged_one_as_well(name: str, data: st.DataObject) -> None:
    damaged = bytearray(WHOLE[name])
    for place in data.draw(st.lists(st.integers(0, len(damaged) - 1), max_size=3)):
        damaged[place] = data.draw(st.sampled_from([0, 1, 0x7F, 0x80, 0xFF]))
    end = data.draw(st.one_of(st.none(), st.integers(0, len(damaged))))
    found, expected = ours(bytes(damaged[:end])), pythons(bytes(damaged[:end]))
    if found == "damaged" and expected != "damaged":
        offsets = [int(str(fields[FIELDS.index("header_offset")])) for fields in expected]
        assert min(offsets) < 0  # which zipfile finds out when it opens the member
    elif found != "refused":  # members overlap
        assert found == expected


def test_names_are_sorted_by_their_bytes() -> None:
    names = ["\N{SNOWMAN}", "b", "a b", "a", "a/b", "a", "a\x01"]
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive, pytest.warns(UserWarning, match="Duplicate"):
        for number, name in enumerate(names):
            archive.writestr(name, b"x" * number)
    found = [(name, info.file_size) for name, info in Directory(stream)]
    assert found == [
        ("a", 3), ("a", 5), ("a\x01", 6), ("a b", 2), ("a/b", 4), ("b", 1), ("\N{SNOWMAN}", 0),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda end: end[:12] + struct.pack("<I", 2**31) + end[16:], "longer than the file"),
        (lambda end: end[:4] + b"\xff" * 17, "no directory"),
    ],
)
def test_what_is_wrong_with_the_end(change: Callable[[bytes], bytes], sentence: str) -> None:
    data = WHOLE["plain"]
    with pytest.raises(zipfile.BadZipFile, match=sentence):
        Directory(io.BytesIO(data[:-22] + change(data[-22:])))


def test_a_member_takes_few_bytes() -> None:
    count = 20_000
    stream = io.BytesIO(zipped({f"photos/{number:07}.jpg": b"" for number in range(count)}))
    assert np  # imported before it is measured
    tracemalloc.start()
    try:
        directory = Directory(stream)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert sum(1 for _ in directory) == count
    assert peak < 300 * count
