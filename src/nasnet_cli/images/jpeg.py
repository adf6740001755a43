"""JPEG markers: the frame header, and files that viewers show although they are damaged."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from nasnet_cli.errors import InputError

_MAX_SCANNED_PIXELS = 6_000_000_000
"""Pixels of all scans together, which take about four seconds."""
_MIN_SCANS = 20
"""Usual progressive files have about ten scans."""
_BLOCK_BYTES = 1 << 20

_START, _END = b"\xff\xd8", b"\xff\xd9"
_END_OF_IMAGE, _START_OF_SCAN = 0xD9, 0xDA
_SCAN = b"\xff\xda"
_APPLICATIONS = frozenset(range(0xE0, 0xF0))
_COMMENT = 0xFE
_EXIF, _PROFILE = (0xE1, b"Exif\0\0"), (0xE2, b"ICC_PROFILE\0")
_JFIF, _ADOBE = (0xE0, b"JFIF\0"), (0xEE, b"Adobe")
# The bytes from which on libjpeg reads a segment.
_SEGMENT_BYTES = {_EXIF: 14, _PROFILE: 14, _JFIF: 14, _ADOBE: 12}
# Huffman tables, extensions and arithmetic conditioning lie among the frame markers.
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
# Baseline, extended and progressive, by Huffman or arithmetic coding.
_SEQUENTIAL = frozenset((0xC0, 0xC1, 0xC9))
_DECODABLE = frozenset((0xC0, 0xC1, 0xC2, 0xC9, 0xCA))


class Frame(NamedTuple):
    """A JPEG's frame header: its marker, bits a sample, and size in pixels."""

    marker: int
    bits: int
    height: int
    width: int

    @property
    def is_decodable(self) -> bool:
        """True where libjpeg decodes this kind: lossy, 8 bits a sample."""
        return self.marker in _DECODABLE and self.bits == 8


def read_frame(stream: BinaryIO, position: int = 0) -> Frame | None:
    """Return the frame header of the JPEG at a position, or None when it has none."""
    if _read_at(stream, position, 2) != _START:
        return None
    for marker, start, _ in _segments(stream, position):
        if marker in _FRAMES:
            body = _read_at(stream, start, 5)
            return Frame(marker, *struct.unpack(">BHH", body)) if len(body) == 5 else None
        if marker in (_END_OF_IMAGE, _START_OF_SCAN):
            return None
    return None


def _segments(stream: BinaryIO, position: int = 0) -> Iterator[tuple[int, int, int]]:
    """Yield the marker of each segment of the JPEG at a position, and where its data start and end.

    Goes on behind a scan's header as if it were a segment: the caller has to stop there.
    """
    position += len(_START)
    while len(head := _read_at(stream, position, 4)) == 4 and head[0] == 0xFF:
        _, marker, length = struct.unpack(">BBH", head)
        if marker == 0xFF:  # a marker may be preceded by any number of fill bytes
            position += 1
            continue
        yield marker, position + 4, position + 2 + length
        position += 2 + length


def _read_at(stream: BinaryIO, position: int, size: int) -> bytes:
    stream.seek(position)
    return stream.read(size)


def check_scans(stream: BinaryIO, pixels: int) -> None:
    """Raise InputError (too_large) when a JPEG has so many scans that decoding takes minutes.

    A scan of a few bytes can cover all of an image's pixels. They are counted only where libjpeg
    reads more than the first: in progressive files, and where not all components are in one scan.
    """
    if not _has_further_scans(stream):
        return
    most = max(_MIN_SCANS, _MAX_SCANNED_PIXELS // max(1, pixels))
    scans, last = 0, b""
    stream.seek(0)
    while block := stream.read(_BLOCK_BYTES):
        scans += block.count(_SCAN) + ((last + block[:1]) == _SCAN)
        last = block[-1:]
        if scans > most:
            raise InputError(
                "too_large",
                f"It has more than {most:,} scans of {pixels:,} pixels, which take too long.",
            )


def _has_further_scans(stream: BinaryIO) -> bool:
    """Return whether libjpeg may read more than one scan: also where the header is unclear."""
    components = None
    for marker, start, _ in _segments(stream):
        if marker == _START_OF_SCAN:
            count = _read_at(stream, start, 1)
            return not count or count[0] != components
        if marker in _FRAMES:
            body = _read_at(stream, start, 6)
            if marker not in _SEQUENTIAL or components is not None or len(body) < 6:
                return True
            components = body[5]
    return True


def essential_segments(content: bytes) -> bytes:
    """Return a JPEG without comments and those application segments that change no pixel.

    Those that do are left out where they are shorter than libjpeg reads them. Viewers ignore what
    is wrong in the others; Pillow fails.
    """
    kept, position = [_START], len(_START)
    for marker, start, end in _segments(io.BytesIO(content)):
        if marker == _START_OF_SCAN:
            break
        if marker != _COMMENT and (
            marker not in _APPLICATIONS
            or any(
                marker == application and end - start >= size and content.startswith(name, start)
                for (application, name), size in _SEGMENT_BYTES.items()
            )
        ):
            kept.append(content[start - 4 : end])
        position = end
    return b"".join(kept) + content[position:]


def completions(content: bytes) -> Iterator[bytes]:
    """Yield a JPEG without its end marker, completed in different ways.

    The bytes before the end marker matter only if rows are missing: where all completions decode to
    the same pixels, the end marker is all that the file lacks.
    """
    content = content.rstrip(b"\xff")
    return (content + padding * 64 + _END for padding in (b"\x5a", b"\xa6", b""))
