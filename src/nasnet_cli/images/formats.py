"""Image file suffixes and signatures.

Does without Pillow, so that listing a folder stays light.
"""

from __future__ import annotations

HEAD_BYTES = 64
"""The number of leading bytes that `signature` needs."""

# Suffixes that nearly always mean an image. Pillow registers more, but .vst, .gbr, .msp, .ras and
# .im are as often something else; an image with such a suffix is recognised by its signature.
# fmt: off
IMAGE_SUFFIXES = frozenset((
    ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".webp", ".gif", ".bmp", ".dib",
    ".avif", ".avifs", ".heic", ".heif", ".hif", ".tif", ".tiff",
    ".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx", ".ppm", ".pgm", ".pbm", ".pnm", ".pfm",
    ".tga", ".ico", ".cur", ".icns", ".psd", ".pcx", ".dds", ".qoi", ".sgi", ".xbm", ".xpm",
))
RAW_SUFFIXES = frozenset((
    ".3fr", ".arw", ".cr2", ".cr3", ".dng", ".erf", ".fff", ".iiq", ".mef", ".mos", ".nef", ".nrw",
    ".orf", ".pef", ".raf", ".rw2", ".rwl", ".sr2", ".srf", ".srw",
))
# fmt: on
"""Suffixes of cameras' RAW files. Beside a JPEG of the same name, such a file is the same image."""

_SUFFIXES = IMAGE_SUFFIXES | RAW_SUFFIXES

_STARTS = (
    (b"IIRO", "RAW"),
    (b"IIRS", "RAW"),
    (b"MMOR", "RAW"),
    (b"IIU\0", "RAW"),
    (b"FUJIFILMCCD-RAW", "RAW"),
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),
    (b"MM\0+", "TIFF"),
    (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG2000"),
    (b"\xff\x4f\xff\x51", "JPEG2000"),
    (b"8BPS\0\x01", "PSD"),
    (b"qoif", "QOI"),
    (b"icns", "ICNS"),
    (b"DDS \x7c\0\0\0", "DDS"),
    (b"\xff\x0a", "JPEG XL"),
    (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
)
_PACKED = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ\0": "xz",
    b"\x28\xb5\x2f\xfd": "Zstandard",
    b"7z\xbc\xaf\x27\x1c": "7-Zip",
    b"Rar!\x1a\x07": "RAR",
}
# "BM" alone begins many a text file; a BMP also has one of these header sizes.
_BMP_HEADER_SIZES = frozenset((12, 40, 52, 56, 64, 108, 124))
_HEIF_BRANDS = frozenset((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx"))
_AVIF_BRANDS = frozenset((b"avif", b"avis"))


def has_image_suffix(name: str) -> bool:
    """Return whether a file name has the suffix of an image or a RAW file."""
    dot = name.rfind(".")
    return dot > 0 and name[dot:].lower() in _SUFFIXES


def has_raw_suffix(name: str) -> bool:
    """Return whether a file name has the suffix of a RAW file."""
    dot = name.rfind(".")
    return dot > 0 and name[dot:].lower() in RAW_SUFFIXES


def has_jpeg_suffix(name: str) -> bool:
    """Return whether a file name has the suffix of a JPEG."""
    return name.lower().endswith((".jpg", ".jpeg", ".jpe", ".jfif"))


def signature(head: bytes) -> str | None:
    """Return the format of a file that begins with head: Pillow's name for it, HEIF, JPEG XL or RAW.

    head is the file's first HEAD_BYTES bytes. None when no known signature matches; some formats
    (TGA, ICO, PPM and others) have none that is reliable.
    """
    if head[:4] == b"II*\0" and head[8:10] == b"CR":  # CR2; NEF, DNG and others look like TIFF
        return "RAW"
    for start, name in _STARTS:
        if head.startswith(start):
            return name
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
    if head[:2] == b"BM" and int.from_bytes(head[14:18], "little") in _BMP_HEADER_SIZES:
        return "BMP"
    if head[4:8] == b"ftyp":
        return _iso_media_format(head)
    return None


def packer(head: bytes) -> str | None:
    """Return what has compressed or packed a file that begins with head, as far as it is known."""
    return next((name for start, name in _PACKED.items() if head.startswith(start)), None)


def _iso_media_format(head: bytes) -> str | None:
    """Return HEIF, AVIF or RAW, by the major brand and then the compatible ones."""
    end = min(int.from_bytes(head[:4], "big"), len(head))
    for brand in (head[8:12], *(head[at : at + 4] for at in range(16, end, 4))):
        if brand in _HEIF_BRANDS:
            return "HEIF"
        if brand in _AVIF_BRANDS:
            return "AVIF"
        if brand == b"crx ":  # CR3
            return "RAW"
    return None
