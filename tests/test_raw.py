"""RAW files: decoded by their largest JPEG preview. All files here are made, none by a camera."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from PIL import Image

from nasnet_cli.errors import InputError
from nasnet_cli.images.decode import decode
from nasnet_cli.images.formats import has_image_suffix, has_raw_suffix, signature
from nasnet_cli.images.isolated import DecoderPool
from nasnet_cli.images.load import load
from nasnet_cli.images.preprocess import Preprocessing
from nasnet_cli.images.source import Source

CFA = 32803
SHORTS = (258, 259, 262, 274, 277)
Entries = dict[int, int | list[int] | bytes]


def jpeg(color: str, width: int, height: int, orientation: int = 0) -> bytes:
    """Return a JPEG whose upper left quarter is white."""
    image = Image.new("RGB", (width, height), color)
    image.paste("white", (0, 0, width // 2, height // 2))
    stream = io.BytesIO()
    exif = Image.Exif()
    if orientation:
        exif[0x0112] = orientation
    image.save(stream, "JPEG", exif=exif)
    return stream.getvalue()


SMALL, MIDDLE, LARGE = jpeg("red", 16, 12), jpeg("lime", 64, 48), jpeg("blue", 160, 120)
# A lossless JPEG, as sensors' samples are compressed: larger, and not to be decoded.
SENSOR = b"\xff\xd8\xff\xc3\0\x0b\x0e\x0f\xa0\x17\x70\x01\x00\x11\x00" + bytes(200)


class Tiff:
    """A writer of TIFF directories. A value is a number, a list of offsets, or bytes elsewhere."""

    def __init__(self, order: str, start: bytes, base: int = 8) -> None:
        self.order, self.data, self.base = order, bytearray(start.ljust(base, b"\0")), base

    def put(self, content: bytes) -> int:
        """Append content, and return its offset."""
        self.data += bytes(len(self.data) % 2)
        self.data += content
        return len(self.data) - len(content)

    def directory(self, entries: Entries, following: int = 0) -> int:
        """Append a directory, and return its offset."""
        packed = b""
        for tag, value in sorted(entries.items()):
            if isinstance(value, bytes):
                inline = struct.pack(self.order + "I", self.put(value))
                packed += struct.pack(self.order + "HHI", tag, 7, len(value)) + inline
            elif isinstance(value, list):
                values = struct.pack(f"{self.order}{len(value)}I", *value)
                inline = (
                    values if len(value) == 1 else struct.pack(self.order + "I", self.put(values))
                )
                packed += struct.pack(self.order + "HHI", tag, 4, len(value)) + inline
            elif tag in SHORTS:
                packed += struct.pack(self.order + "HHIHxx", tag, 3, 1, value)
            else:
                packed += struct.pack(self.order + "HHII", tag, 4, 1, value)
        count = struct.pack(self.order + "H", len(entries))
        return self.put(count + packed + struct.pack(self.order + "I", following))

    def file(self, first: int) -> bytes:
        self.data[4:8] = struct.pack(self.order + "I", first)
        return bytes(self.data)

    def preview(self, content: bytes) -> Entries:
        return {513: self.put(content), 514: len(content)}

    def strip(self, content: bytes) -> Entries:
        return {273: self.put(content), 279: len(content)}

    def sensor(self) -> Entries:
        size = {256: 6000, 257: 4000, 258: 14, 259: 34713, 262: CFA, 277: 1}
        return {**size, **self.strip(SENSOR)}


def nef(order: str = ">", orientation: int = 8) -> bytes:
    """Return a file like Nikon's and Samsung's: a thumbnail, and subdirectories."""
    tiff = Tiff(order, b"MM\0*" if order == ">" else b"II*\0")
    subdirectories = [tiff.directory(tiff.preview(LARGE)), tiff.directory(tiff.sensor())]
    thumbnail = {256: 8, 257: 6, 258: 8, 259: 1, 262: 2, 277: 3, **tiff.strip(bytes(8 * 6 * 3))}
    return tiff.file(tiff.directory({**thumbnail, 274: orientation, 330: subdirectories}))


def dng() -> bytes:
    """Return a file like Adobe's: previews as images of their own, compressed by JPEG."""
    tiff = Tiff("<", b"II*\0")
    full = {254: 1, 256: 160, 257: 120, 259: 7, 262: 6, 277: 3, **tiff.strip(LARGE)}
    subdirectories = [tiff.directory({**tiff.sensor(), 259: 7}), tiff.directory(full)]
    first = {256: 16, 257: 12, 259: 7, 262: 6, 277: 3, 50706: 0x00000401, **tiff.strip(SMALL)}
    return tiff.file(tiff.directory({**first, 274: 8, 330: subdirectories}))


def cr2() -> bytes:
    """Return a file like Canon's: four directories in a row, the full-size JPEG in the first."""
    tiff = Tiff("<", b"II*\0\0\0\0\0CR\x02\0", 16)
    sensor = tiff.directory({259: 6, **tiff.strip(SENSOR)})
    thumbnail = tiff.directory(tiff.preview(SMALL), sensor)
    image = {256: 160, 257: 120, 259: 6, 274: 8, **tiff.strip(LARGE)}
    return tiff.file(tiff.directory(image, thumbnail))


def arw() -> bytes:
    """Return a file like Sony's and Pentax': previews in the chain, sensor data beside."""
    tiff = Tiff("<", b"II*\0")
    last = tiff.directory(tiff.preview(LARGE))
    second = tiff.directory(tiff.preview(SMALL), last)
    first = {**tiff.preview(MIDDLE), 274: 8, 330: tiff.directory(tiff.sensor())}
    return tiff.file(tiff.directory(first, second))


def rw2() -> bytes:
    """Return a file like Panasonic's: a header of its own, the JPEG as a tag's bytes."""
    tiff = Tiff("<", b"IIU\0", 24)
    return tiff.file(tiff.directory({2: 4000, 3: 3000, 0x2E: LARGE, 274: 8}))


def orf(start: bytes = b"OLYMPUS\0II\x03\0") -> bytes:
    """Return a file like Olympus' and OM System's: the preview's place is in the maker note."""
    # The note's directory follows its header; it has one entry, the place of the settings.
    note = Tiff("<", start, len(start) + 18)
    preview = note.put(LARGE)
    settings = note.directory({0x101: preview, 0x102: len(LARGE)})
    entry = struct.pack("<HHHIII", 1, 0x2020, 13, 1, settings, 0)
    note.data[len(start) : len(start) + 18] = entry
    tiff = Tiff("<", b"IIRO")
    exif = tiff.directory({0x927C: bytes(note.data)})
    return tiff.file(
        tiff.directory({256: 4000, 257: 3000, 274: 8, 0x8769: exif, **tiff.strip(SENSOR)})
    )


def raf() -> bytes:
    """Return a file like Fujifilm's: a table of offsets, and a JPEG with EXIF."""
    preview = jpeg("blue", 160, 120, orientation=8)
    head = b"FUJIFILMCCD-RAW 0201".ljust(84, b"\0") + struct.pack(">II", 160, len(preview))
    return head.ljust(160, b"\0") + preview + bytes(300)


def box(kind: bytes, *contents: bytes) -> bytes:
    body = b"".join(contents)
    return struct.pack(">I4s", len(body) + 8, kind) + body


def cr3() -> bytes:
    """Return a file like Canon's newer ones: tracks with a JPEG and with sensor data."""
    tiff = Tiff("<", b"II*\0")
    cmt1 = tiff.file(tiff.directory({256: 6000, 257: 4000, 274: 8}))
    uuid = bytes.fromhex("85c0b687820f11e08111f4ce462b6a48")

    def track(offset: int, size: int, is_large: bool) -> bytes:
        sizes = box(b"stsz", struct.pack(">IIII", 0, 0, 1, size))
        if is_large:
            offsets = box(b"co64", struct.pack(">IIQ", 0, 1, offset))
        else:
            offsets = box(b"stco", struct.pack(">III", 0, 1, offset))
        return box(b"trak", box(b"mdia", box(b"minf", box(b"stbl", sizes, offsets))))

    def head(at: int) -> bytes:
        tracks = [track(at, len(LARGE), True), track(at + len(LARGE), len(SENSOR), True)]
        tracks.append(track(at + len(LARGE) + len(SENSOR), len(MIDDLE), False))
        movie = box(b"moov", box(b"uuid", uuid, box(b"CMT1", cmt1)), *tracks)
        return box(b"ftyp", b"crx \0\0\0\x01crx isom") + movie

    at = len(head(0)) + 16
    data = LARGE + SENSOR + MIDDLE
    return head(at) + struct.pack(">I4sQ", 1, b"mdat", len(data) + 16) + data


FILES = {
    "nef": nef(),
    "little-endian nef": nef("<"),
    "dng": dng(),
    "cr2": cr2(),
    "cr3": cr3(),
    "arw": arw(),
    "rw2": rw2(),
    "orf": orf(),
    "newer orf": orf(b"OM SYSTEM\0\0\0II\x04\0"),
    "raf": raf(),
}


@pytest.mark.parametrize("name", FILES)
def test_largest_preview_is_decoded_and_turned(name: str) -> None:
    image = decode(FILES[name])
    assert image.size == (120, 160)  # orientation 8: a quarter to the left
    pixels = np.asarray(image).astype(int)
    assert abs(pixels[140, 20] - (255, 255, 255)).max() < 8  # the upper left is the lower left now
    assert abs(pixels[20, 20] - (0, 0, 255)).max() < 8


def test_preview_is_decoded_at_a_fraction_of_its_size() -> None:
    sizes = []

    def needed(size: tuple[int, int]) -> tuple[int, int]:
        sizes.append(size)
        return 14, 20

    assert decode(FILES["nef"], needed_size=needed).size == (30, 40)
    assert sizes == [(120, 160)]


def test_orientation_of_the_raw_file_wins_over_the_previews_own() -> None:
    tiff = Tiff("<", b"II*\0")
    first = {**tiff.preview(jpeg("blue", 160, 120, orientation=3)), 274: 1}
    sensor = tiff.directory(tiff.sensor())
    image = decode(tiff.file(tiff.directory({**first, 330: sensor})))
    assert np.asarray(image)[10, 10].min() > 247


def test_raw_files_are_decoded_by_a_worker() -> None:
    with DecoderPool() as decoders:
        for name, data in FILES.items():
            source = Source(name, member=lambda _, data=data: data)
            array = load(source, Preprocessing((20, 20), crop_fraction=1.0), decoders=decoders)
            assert abs(array[2, 2].astype(int) - (0, 0, 255)).max() < 8


def test_no_preview_is_unsupported() -> None:
    tiff = Tiff("<", b"II*\0")
    files = [tiff.file(tiff.directory(tiff.sensor())), b"FUJIFILMCCD-RAW " + bytes(200)]
    files += [b"IIU\0" + bytes(100), cr3()[:200], b"FUJIFILMCCD-RAW", b"IIRO"]
    for data in files:
        with pytest.raises(InputError) as caught:
            decode(data)
        assert caught.value.kind == "unsupported"


@pytest.mark.parametrize("name", FILES)
def test_damaged_raw_files_raise_only_input_errors(name: str) -> None:
    rng = np.random.default_rng(8)
    for _ in range(100):
        data = bytearray(FILES[name])
        for _ in range(4):
            data[rng.integers(0, min(len(data), 600))] = rng.integers(0, 256)
        try:
            decode(bytes(data[: rng.integers(1, 2 * len(data))]), max_pixels=1_000_000)
        except InputError:
            continue


def test_raw_suffixes() -> None:
    assert has_raw_suffix("DSC_0001.NEF") and has_image_suffix("IMG_1.CR3")
    assert not has_raw_suffix("DSC_0001.JPG") and not has_raw_suffix(".nef")
    assert {signature(FILES[name][:64]) for name in ("cr2", "cr3", "rw2", "orf", "raf")} == {"RAW"}
