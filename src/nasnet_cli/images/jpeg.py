"""JPEG markers: the frame header, and files that lack their end marker."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

_START, _END = b"\xff\xd8", b"\xff\xd9"
_END_OF_IMAGE, _START_OF_SCAN = 0xD9, 0xDA
# Huffman tables, extensions and arithmetic conditioning lie among the frame markers.
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
# Baseline, extended and progressive, by Huffman or arithmetic coding.
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
    stream.seek(position)
    if stream.read(2) != _START:
        return None
    while len(head := stream.read(4)) == 4 and head[0] == 0xFF:
        _, marker, length = struct.unpack(">BBH", head)
        if marker in _FRAMES:
            body = stream.read(5)
            return Frame(marker, *struct.unpack(">BHH", body)) if len(body) == 5 else None
        if marker in (_END_OF_IMAGE, _START_OF_SCAN):
            return None
        # A marker may be preceded by any number of fill bytes.
        stream.seek(-3 if marker == 0xFF else length - 2, io.SEEK_CUR)
    return None


def completions(content: bytes) -> Iterator[bytes]:
    """Yield a JPEG without its end marker, completed in different ways.

    The bytes before the end marker matter only if rows are missing: where all completions decode to
    the same pixels, the end marker is all that the file lacks.
    """
    content = content.rstrip(b"\xff")
    return (content + padding * 64 + _END for padding in (b"\x5a", b"\xa6", b""))
