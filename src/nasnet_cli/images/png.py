"""PNG chunks: what decoding can do without, and 16-bit transparent colours."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
from PIL import Image, PngImagePlugin

if TYPE_CHECKING:
    from PIL.ImageFile import ImageFile

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_ANCILLARY = 0x20  # the bit of a chunk's first letter that makes it lower case
_TEXTS = (b"tEXt", b"zTXt", b"iTXt")

PngImagePlugin.MAX_TEXT_CHUNK = 1 << 24
"""Bytes of a text or a colour profile. Pillow's own limit, one million, is below real profiles."""


def essential_chunks(content: bytes) -> bytes:
    """Return a PNG without texts, and without ancillary chunks that are damaged or too large.

    Viewers ignore those; Pillow fails.
    """
    return _SIGNATURE + b"".join(
        chunk
        for chunk in _chunks(content)
        if not chunk[4] & _ANCILLARY or (chunk[4:8] not in _TEXTS and _is_sound(chunk))
    )


def _chunks(content: bytes) -> Iterator[bytes]:
    """Yield the chunks of a PNG up to its end, behind which viewers ignore anything."""
    position, kind = len(_SIGNATURE), b""
    while position < len(content) and kind != b"IEND":
        length, kind = struct.unpack_from(">I4s", content.ljust(position + 8, b"\0"), position)
        yield content[position : position + length + 12]
        position += length + 12


def _is_sound(chunk: bytes) -> bool:
    if zlib.crc32(chunk[4:-4]) != int.from_bytes(chunk[-4:], "big"):
        return False
    if chunk[4:8] != b"iCCP":
        return True
    _, _, compressed = chunk[8:-4].partition(b"\0")
    decompressor = zlib.decompressobj()
    try:
        decompressor.decompress(compressed[1:], PngImagePlugin.MAX_TEXT_CHUNK)
    except zlib.error:
        return False
    return not decompressor.unconsumed_tail


def has_16_bit_transparency(image: ImageFile) -> bool:
    """Return whether an image that isn't loaded yet has a transparent colour of 3 x 16 bits."""
    return (
        image.format == "PNG"
        and "transparency" in image.info
        and bool(image.tile)
        and image.tile[0].args == "RGB;16B"
    )


def whiten_16_bit_transparency(image: Image.Image, stream: BinaryIO) -> None:
    """Make the transparent colour of a loaded RGB image with 3 x 16 bits a pixel white.

    Pillow keeps the high bytes of 16-bit samples, and the low ones are compared too.
    """
    color = np.array(image.info.pop("transparency"))
    stream.seek(0)
    with Image.open(stream, formats=("PNG",)) as low:
        low.tile = [low.tile[0]._replace(args="RGB;16L")]  # the other byte comes last
        is_transparent = (np.asarray(low) == color & 255) & (np.asarray(image) == color >> 8)
    mask = Image.fromarray(is_transparent.all(axis=2))
    image.paste("white", mask=mask)
