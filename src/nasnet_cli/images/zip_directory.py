"""The central directory of a zip archive, held as the bytes that it has, and parsed on demand.

zipfile's own reading keeps an object of 600 bytes for each member, which a zip may have millions
of.
"""

from __future__ import annotations

import os
import struct
import zipfile
import zlib
from array import array
from collections.abc import Iterator
from contextlib import suppress
from typing import BinaryIO

from nasnet_cli.errors import InputError

_UTF8 = 0x800
_ZIP64, _UNICODE_PATH = 1, 0x7075
_LOCAL_HEADER_BYTES = 30
_MAX_VERSION = 63
_MAX_DIRECTORY_BYTES = 1 << 30

# PKWARE's APPNOTE, 4.3.12 to 4.3.16. The fields of the record of a member, beginning with the
# version to extract; of the two ends, the length and the offset of the directory.
_RECORD = struct.Struct("<4s2xBxHH4xIIIHHH4xII")
_END, _END_SIGNATURE, _MAX_COMMENT_BYTES = struct.Struct("<4s8xIIH"), b"PK\5\6", 0xFFFF
_END64, _END64_SIGNATURE = struct.Struct("<4s36xQQ"), b"PK\6\6"
_LOCATOR, _LOCATOR_SIGNATURE = struct.Struct("<4sI8xI"), b"PK\6\7"


class Directory:
    """The members of the zip that stream holds.

    expanded is the number of bytes that they say they expand to. Raises zipfile.BadZipFile,
    ValueError, OverflowError or NotImplementedError where it is damaged, InputError: archive where
    members overlap, which no packer makes, or are too many.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._records, self._shift = _read(stream)
        # The name of each member, NUL and the position of its record: less than half of a pair.
        self._names: list[bytes] = []
        self.expanded = 0
        starts, ends = array("Q"), array("Q")
        position = 0
        while position < len(self._records):
            info, following = self._parse(position)
            name = os.fsencode(name_of(info))
            self._names.append(name + b"\0" + position.to_bytes(8, "big"))
            self.expanded += info.file_size
            starts.append(info.header_offset)
            ends.append(info.header_offset + _LOCAL_HEADER_BYTES + info.compress_size)
            position = following
        _check_apart(starts, ends)
        self._names.sort()

    def __iter__(self) -> Iterator[tuple[str, zipfile.ZipInfo]]:
        """Yield members with their names, sorted by the bytes of these."""
        for entry in self._names:
            info, _ = self._parse(int.from_bytes(entry[-8:], "big"))
            yield os.fsdecode(entry[:-9]), info

    def _parse(self, position: int) -> tuple[zipfile.ZipInfo, int]:
        """Return the member whose record is at position, and where the next one is."""
        names = position + _RECORD.size
        if names > len(self._records):
            raise zipfile.BadZipFile("the directory is cut short")
        record = _RECORD.unpack_from(self._records, position)
        if record[0] != b"PK\1\2":
            raise zipfile.BadZipFile("a record has no signature")
        if record[1] > _MAX_VERSION:
            raise NotImplementedError(f"version {record[1]} of the format")
        name_bytes, extra_bytes, comment_bytes = record[7:10]
        extra = names + name_bytes
        info = zipfile.ZipInfo(
            self._records[names:extra].decode("utf-8" if record[2] & _UTF8 else "cp437")
        )
        info.extra = self._records[extra : extra + extra_bytes]
        info.flag_bits, info.compress_type, info.CRC = record[2:5]
        info.compress_size, info.file_size = record[5:7]
        info.external_attr, info.header_offset = record[10:12]
        _apply_zip64(info)
        info.header_offset += self._shift
        return info, extra + extra_bytes + comment_bytes


def _read(stream: BinaryIO) -> tuple[bytes, int]:
    """Return the directory's bytes, and by how much its offsets are too small.

    That is where the archive has something before it, a program that unpacks it for instance.
    """
    size = stream.seek(0, os.SEEK_END)
    before = _END64.size + _LOCATOR.size
    tail_at = max(0, size - _MAX_COMMENT_BYTES - _END.size - before)
    stream.seek(tail_at)
    tail = stream.read()
    end = len(tail) - _END.size
    if end < 0 or not (tail.startswith(_END_SIGNATURE, end) and tail.endswith(b"\0\0")):
        end = tail.rfind(_END_SIGNATURE, max(0, end - _MAX_COMMENT_BYTES))
    if end < 0 or end + _END.size > len(tail):
        raise zipfile.BadZipFile("it has no directory")
    _, length, offset, _ = _END.unpack_from(tail, end)
    if end >= before and tail.startswith(_LOCATOR_SIGNATURE, end - _LOCATOR.size):
        _, disk, disks = _LOCATOR.unpack_from(tail, end - _LOCATOR.size)
        if disk or disks > 1:
            raise zipfile.BadZipFile("it is one of several volumes")
        if tail.startswith(_END64_SIGNATURE, end - before):
            end -= before
            _, length, offset = _END64.unpack_from(tail, end)
    start = tail_at + end - length
    if start < 0:
        raise zipfile.BadZipFile("its directory is longer than the file")
    if length > _MAX_DIRECTORY_BYTES:
        raise InputError(
            "archive", f"The list of the archive's members is too long ({length:,} bytes)."
        )
    stream.seek(start)
    return stream.read(length), start - offset


def _fields(extra: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the extra fields of a record."""
    while len(extra) >= 4:
        field, size = struct.unpack_from("<HH", extra)
        if 4 + size > len(extra):
            raise zipfile.BadZipFile("an extra field is longer than all of them")
        yield field, extra[4 : 4 + size]
        extra = extra[4 + size :]


def _apply_zip64(info: zipfile.ZipInfo) -> None:
    """Take sizes and offset from the field for large files, where the record has none."""
    for field, data in _fields(info.extra):
        if field == _ZIP64:
            for name in ("file_size", "compress_size", "header_offset"):
                if getattr(info, name) == 0xFFFFFFFF:
                    if len(data) < 8:
                        raise zipfile.BadZipFile(f"the field for large files has no {name}")
                    setattr(info, name, int.from_bytes(data[:8], "little"))
                    data = data[8:]


def _check_apart(starts: array[int], ends: array[int]) -> None:
    """Raise InputError where members overlap, so that few bytes would expand to many."""
    import numpy as np

    begins, stops = np.frombuffer(starts, np.uint64), np.frombuffer(ends, np.uint64)
    order = np.argsort(begins, kind="stable")
    if (begins[order[1:]] < stops[order[:-1]]).any():
        raise InputError("archive", "Members of the archive overlap; it may be an attack.")


def name_of(info: zipfile.ZipInfo) -> str:
    """Return a member's name as a path.

    It comes from the Unicode path field where that is of this name (PKWARE's APPNOTE, 4.6.9). Most
    names that are not marked as UTF-8 are UTF-8 all the same; others are in code page 437.
    """
    is_utf8 = bool(info.flag_bits & _UTF8)
    raw = info.orig_filename.encode("utf-8" if is_utf8 else "cp437")
    name = _unicode_path(info.extra, raw)
    if name is None:
        name = info.orig_filename
        if not is_utf8:
            with suppress(UnicodeDecodeError):
                name = raw.decode()
    return name.partition("\0")[0]


def _unicode_path(extra: bytes, raw_name: bytes) -> str | None:
    for field, data in _fields(extra):
        is_path = field == _UNICODE_PATH and data[:1] == b"\1"
        if is_path and int.from_bytes(data[1:5], "little") == zlib.crc32(raw_name):
            with suppress(UnicodeDecodeError):
                return data[5:].decode() or None
    return None
