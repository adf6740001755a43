"""RAW files of cameras: the largest JPEG preview in them, which most cameras make full-size.

Structure: TIFF directories in NEF, CR2, ARW, DNG, PEF, ORF, RW2 and others; boxes in CR3; a table
of offsets in RAF. Sources: the TIFF 6.0 and DNG 1.7 specifications, ExifTool's tag names, and
github.com/lclevy/canon_cr3 for CR3.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from nasnet_cli.errors import InputError
from nasnet_cli.images import jpeg, tiff
from nasnet_cli.images.tiff import TiffReader

_CFA, _LINEAR_RAW = 32803, 34892
_PANASONIC_JPEG, _JPEG_OFFSET, _JPEG_BYTES = 0x2E, 513, 514
_EXIF_DIRECTORY, _MAKER_NOTE, _DNG_VERSION = 0x8769, 0x927C, 0xC612
# Olympus keeps the preview's place in a directory of its maker note.
_OLYMPUS_SETTINGS, _OLYMPUS_OFFSET, _OLYMPUS_BYTES = 0x2020, 0x101, 0x102
_OLYMPUS_HEADERS = {b"OLYMPUS\0": 12, b"OM SYSTEM\0": 16}

_CONTAINERS = frozenset((b"moov", b"trak", b"mdia", b"minf", b"stbl"))
_CANON_METADATA = bytes.fromhex("85c0b687820f11e08111f4ce462b6a48")

Extent = tuple[int, int]
"""A part of a file: offset and length in bytes."""


@dataclass(frozen=True, slots=True)
class Preview:
    """A RAW file's JPEG preview, and the orientation (1 to 8) where the RAW file states it."""

    offset: int
    length: int
    orientation: int | None


def is_raw_tiff(stream: BinaryIO) -> bool:
    """Return whether a TIFF file is a RAW file: it has a sensor's samples, or is a DNG."""
    return any(
        _DNG_VERSION in directory
        or directory.get(tiff.PHOTOMETRIC, ())[:1] in ((_CFA,), (_LINEAR_RAW,))
        for directory in TiffReader(stream).directories()
    )


def find_preview(stream: BinaryIO) -> Preview:
    """Find the largest JPEG preview of a RAW file. Raises InputError: unsupported."""
    stream.seek(0)
    head = stream.read(92)
    orientation = None
    if head.startswith(b"FUJIFILM"):  # the preview's own EXIF has the orientation
        extents = [struct.unpack_from(">II", head, 84)] if len(head) == 92 else []
    elif head[4:8] == b"ftyp":
        extents, orientation = _read_cr3(stream)
    else:
        reader = TiffReader(stream)
        directories = reader.directories()
        orientation = next(
            (d[tiff.ORIENTATION][0] for d in directories if tiff.ORIENTATION in d), 1
        )
        extents = [extent for d in directories for extent in _find_extents(stream, reader, d)]
    largest = max(extents, key=lambda extent: _jpeg_pixels(stream, extent), default=(0, 0))
    if not _jpeg_pixels(stream, largest):
        raise InputError("unsupported", "This RAW file has no JPEG preview that nasnet can read.")
    return Preview(largest[0], largest[1], orientation)


def _find_extents(
    stream: BinaryIO, reader: TiffReader, directory: tiff.Directory
) -> Iterator[Extent]:
    """Yield where a TIFF directory says that there may be a JPEG."""
    for offset_tag, length_tag in (
        (_JPEG_OFFSET, _JPEG_BYTES),
        (tiff.STRIP_OFFSETS, tiff.STRIP_BYTES),
    ):
        offsets, lengths = directory.get(offset_tag, ()), directory.get(length_tag, ())
        if len(offsets) == len(lengths) == 1:
            yield offsets[0], lengths[0]
    if len(jpeg := directory.get(_PANASONIC_JPEG, ())) == 2:
        yield jpeg[0], jpeg[1]
    for offset in directory.get(_EXIF_DIRECTORY, ()):
        if len(note := reader.directory(offset)[0].get(_MAKER_NOTE, ())) == 2:
            yield from _find_olympus_extent(stream, note[0])


def _find_olympus_extent(stream: BinaryIO, position: int) -> Iterator[Extent]:
    stream.seek(position)
    head = stream.read(16)
    for start, length in _OLYMPUS_HEADERS.items():
        if head.startswith(start):
            order = ">" if head[length - 4 : length - 2] == b"MM" else "<"
            note = TiffReader(stream, position, order)
            for offset in note.directory(length)[0].get(_OLYMPUS_SETTINGS, ())[:1]:
                settings = note.directory(offset)[0]
                if _OLYMPUS_OFFSET in settings and _OLYMPUS_BYTES in settings:
                    yield position + settings[_OLYMPUS_OFFSET][0], settings[_OLYMPUS_BYTES][0]


def _read_cr3(stream: BinaryIO) -> tuple[list[Extent], int]:
    """Return where a CR3's tracks have their first samples, and its orientation."""
    extents, orientation, size, offset = list[Extent](), 1, 0, 0
    for kind, start in _boxes(stream, 0, stream.seek(0, io.SEEK_END), 0):
        stream.seek(start)
        if kind == b"CMT1":
            for directory in TiffReader(stream, start).directories()[:1]:
                orientation = directory.get(tiff.ORIENTATION, (1,))[0]
        elif kind == b"stsz":
            # A size for all samples, their number, or else the size of each.
            common, _, first = struct.unpack(">4xII4s", stream.read(16).ljust(16, b"\0"))
            size = common or int.from_bytes(first, "big")
        elif kind in (b"stco", b"co64"):
            width = 8 if kind == b"co64" else 4
            offset = int.from_bytes(stream.read(8 + width)[8:], "big")
            extents.append((offset, size))
    return extents, orientation


def _boxes(stream: BinaryIO, start: int, end: int, depth: int) -> Iterator[tuple[bytes, int]]:
    """Yield the kinds and the contents' positions of the boxes in a part of an ISO media file."""
    while start + 8 <= end:
        stream.seek(start)
        length, kind, large = struct.unpack(">I4sQ", stream.read(16).ljust(16, b"\0"))
        head = 16 if length == 1 else 8
        length = large if length == 1 else length or end - start
        if length < head or start + length > end:
            return
        if kind == b"uuid":
            stream.seek(start + head)
            is_container = stream.read(16) == _CANON_METADATA
            head += 16
        else:
            is_container = kind in _CONTAINERS
        yield kind, start + head
        if is_container and depth < 8:
            yield from _boxes(stream, start + head, start + length, depth + 1)
        start += length


def _jpeg_pixels(stream: BinaryIO, extent: Extent) -> int:
    """Return the number of pixels of the JPEG at an extent; 0 where none can be decoded."""
    frame = jpeg.read_frame(stream, extent[0]) if extent[1] else None
    return frame.width * frame.height if frame is not None and frame.is_decodable else 0
