"""The size of a WebP image, from its first bytes."""

from __future__ import annotations

LARGE_PIXELS = 16_000_000
"""Pixels over which a WebP is decoded in a process of its own: Pillow holds Python's lock as long
as it decodes one, several seconds for the largest, and no signal would be heard."""


def is_large(head: bytes) -> bool:
    """Return whether a WebP has more than LARGE_PIXELS, or does not say its size."""
    kind, data = head[12:16], head[20:30]
    if len(data) < 10:
        return True
    if kind == b"VP8X":
        width, height = (1 + int.from_bytes(data[i : i + 3], "little") for i in (4, 7))
    elif kind == b"VP8L":
        bits = int.from_bytes(data[1:5], "little")
        width, height = 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    elif kind == b"VP8 ":
        width, height = (int.from_bytes(data[i : i + 2], "little") & 0x3FFF for i in (6, 8))
    else:
        return True
    return width * height > LARGE_PIXELS
