"""Decoding: from a file's bytes to the RGB image that a viewer would show."""

from __future__ import annotations

import bz2
import errno
import gzip
import io
import lzma
import struct
import subprocess
import sys
import threading
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pillow_heif
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, features
from PIL.PngImagePlugin import PngInfo

from nasnet_cli.errors import InputError
from nasnet_cli.images.decode import decode
from nasnet_cli.images.load import load
from nasnet_cli.images.pixel_budget import PixelBudget
from nasnet_cli.images.preprocess import Preprocessing
from nasnet_cli.images.source import Source
from support.icc import DISPLAY_P3, rgb_profile

NOISE = Image.fromarray(np.random.default_rng(7).integers(0, 256, (24, 32, 3), dtype=np.uint8))
SMOOTH = Image.linear_gradient("L").convert("RGB").resize((32, 24))


def saved(image: Image.Image, format: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format, **options)  # type: ignore[arg-type]
    return stream.getvalue()


def pixels(data: bytes) -> NDArray[np.uint8]:
    image = decode(data)
    assert image.mode == "RGB"
    return np.asarray(image)


def decode_error(data: bytes, **options: int) -> InputError:
    with pytest.raises(InputError) as caught:
        decode(data, **options)
    assert caught.value.message.count("\n") == 0
    assert " at 0x" not in caught.value.message
    return caught.value


def png(width: int, height: int, rows: bytes = b"", depth: int = 8, colour: int = 2) -> bytes:
    """Return a PNG with this header, whatever follows."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


# Colours


@pytest.mark.parametrize("format", ["PNG", "BMP", "TIFF", "PPM", "TGA", "PCX", "SGI", "QOI"])
def test_lossless_formats_keep_every_pixel(format: str) -> None:
    assert np.array_equal(pixels(saved(NOISE, format)), np.asarray(NOISE))


@pytest.mark.parametrize("format", ["JPEG", "WEBP", "AVIF", "JPEG2000", "MPO", "GIF"])
def test_lossy_formats_come_close(format: str) -> None:
    if format == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow was built without AVIF")
    difference = pixels(saved(SMOOTH, format)).astype(int) - np.asarray(SMOOTH)
    assert abs(difference).mean() < 8


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA"])
@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_grey_palette_and_1_bit_images_become_rgb(mode: str, format: str) -> None:
    image = NOISE.convert(mode)
    assert np.array_equal(pixels(saved(image, format)), np.asarray(image.convert("RGB")))


@pytest.mark.parametrize(("mode", "format"), [("CMYK", "JPEG"), ("CMYK", "TIFF"), ("LAB", "TIFF")])
def test_other_colour_spaces_become_rgb(mode: str, format: str) -> None:
    image = Image.new("RGB", (16, 16), (200, 30, 60))
    if mode == "LAB":
        from PIL import ImageCms

        srgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
        image = ImageCms.profileToProfile(image, srgb, lab, outputMode="LAB")  # type: ignore[assignment]
    else:
        image = image.convert(mode)
    assert abs(pixels(saved(image, format)).astype(int) - (200, 30, 60)).max() <= 6


@pytest.mark.parametrize("format", ["PNG", "TIFF", "WEBP"])
def test_alpha_is_composited_on_white(format: str) -> None:
    image = Image.new("RGBA", (3, 1), (100, 0, 200, 255))
    image.putpixel((1, 0), (100, 0, 200, 128))
    image.putpixel((2, 0), (100, 0, 200, 0))
    options = {"lossless": True} if format == "WEBP" else {}
    result = pixels(saved(image, format, **options))
    assert result[0, 0].tolist() == [100, 0, 200]
    assert abs(result[0, 1].astype(int) - (177, 127, 227)).max() <= 1
    assert result[0, 2].tolist() == [255, 255, 255]


def test_transparent_palette_entries_and_colours_become_white() -> None:
    palette = Image.new("P", (2, 1), 0)
    palette.putpalette([10, 20, 30, 40, 50, 60])
    palette.putpixel((1, 0), 1)
    rgb = Image.new("RGB", (2, 1), (10, 20, 30))
    rgb.putpixel((1, 0), (40, 50, 60))
    grey = Image.new("L", (2, 1), 10)
    grey.putpixel((1, 0), 40)
    for data, opaque in (
        (saved(palette, "PNG", transparency=0), [40, 50, 60]),
        (saved(palette, "PNG", transparency=b"\x00\xff"), [40, 50, 60]),
        (saved(palette, "GIF", transparency=0), [40, 50, 60]),
        (saved(rgb, "PNG", transparency=(10, 20, 30)), [40, 50, 60]),
        (saved(grey, "PNG", transparency=10), [40, 40, 40]),
    ):
        assert pixels(data)[0].tolist() == [[255, 255, 255], opaque]


@pytest.mark.parametrize(
    ("format", "order"), [("PNG", "<u2"), ("PPM", "<u2"), ("TIFF", "<u2"), ("TIFF", ">u2")]
)
def test_16_bit_grey_keeps_its_high_byte(format: str, order: str) -> None:
    values = np.array([[0, 255, 256, 0x1234, 0xFFFF]], dtype=order)
    result = pixels(saved(Image.fromarray(values), format))
    assert result[0, :, 0].tolist() == [0, 0, 1, 0x12, 255]


def test_transparent_16_bit_grey_becomes_white() -> None:
    data = png(2, 1, b"\0\x12\x34\x56\x78", depth=16, colour=0)
    body = b"tRNS\x12\x34"
    chunk = struct.pack(">I", 2) + body + struct.pack(">I", zlib.crc32(body))
    at = data.index(b"IDAT") - 4
    assert pixels(data[:at] + chunk + data[at:])[0, :, 0].tolist() == [255, 0x56]


def test_transparent_16_bit_colour_becomes_white() -> None:
    transparent, near, other = (0x1234, 0x5678, 0x9ABC), (0x1234, 0x5678, 0x9ABD), (1, 2, 3)
    rows = b"\0" + struct.pack(">9H", *transparent, *near, *other)
    data = inserted(
        png(3, 1, rows, depth=16, colour=2), chunk(b"tRNS", struct.pack(">3H", *transparent))
    )
    assert pixels(data)[0].tolist() == [[255, 255, 255], [0x12, 0x56, 0x9A], [0, 0, 0]]


def test_16_bit_grey_where_white_is_zero_is_inverted() -> None:
    values = Image.fromarray(np.array([[0, 0xFFFF]], dtype=np.uint16))
    assert pixels(saved(values, "TIFF", tiffinfo={262: 0}))[0, :, 0].tolist() == [255, 0]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.array([[0, 10, 255]], np.int32), [0, 10, 255]),
        (np.array([[-100, 0, 300]], np.int32), [0, 64, 255]),
        (np.array([[2**31 - 3, 2**31 - 2, 2**31 - 1]], np.int32), [0, 128, 255]),
        (np.array([[0, 99.6, 255]], np.float32), [0, 100, 255]),
        (np.array([[0, 0.5, 1]], np.float32), [0, 128, 255]),
        (np.array([[-1, 0, 1]], np.float32), [0, 128, 255]),
        (np.array([[-3e38, 0, 3e38]], np.float32), [0, 128, 255]),
        (np.array([[np.nan, -np.inf, 7, np.inf]], np.float32), [0, 0, 7, 255]),
        (np.array([[np.nan, 1000, 2000]], np.float32), [0, 0, 255]),
        (np.full((1, 3), np.nan, np.float32), [0, 0, 0]),
        (np.full((1, 3), 5000, np.float32), [0, 0, 0]),
    ],
)
def test_integers_and_floats_are_scaled_from_their_own_range(
    values: NDArray[np.int32 | np.float32], expected: list[int]
) -> None:
    assert pixels(saved(Image.fromarray(values), "TIFF"))[0, :, 0].tolist() == expected


# Frames and orientation


@pytest.mark.parametrize("format", ["GIF", "WEBP", "PNG", "TIFF"])
def test_first_frame_of_an_animation_is_decoded(format: str) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue", "green")]
    data = saved(frames[0], format, save_all=True, append_images=frames[1:])
    assert abs(pixels(data).astype(int) - (255, 0, 0)).max() <= 5


def corners(image: Image.Image) -> list[int]:
    grey = np.asarray(image.convert("L")) // 64
    return [int(grey[y, x]) for y in (4, -4) for x in (4, -4)]


ORIENTATIONS = {
    1: [0, 1, 2, 3],
    2: [1, 0, 3, 2],
    3: [3, 2, 1, 0],
    4: [2, 3, 0, 1],
    5: [0, 2, 1, 3],
    6: [2, 0, 3, 1],
    7: [3, 1, 2, 0],
    8: [1, 3, 0, 2],
    9: [0, 1, 2, 3],  # not one of EXIF's, so ignored
}


@pytest.mark.parametrize(
    ("format", "orientation"),
    [
        (format, orientation)
        for format in ("JPEG", "PNG", "WEBP", "TIFF", "AVIF")
        for orientation in ORIENTATIONS
        if (format, orientation) != ("AVIF", 9)  # AVIF cannot store it
    ],
)
def test_exif_orientation_is_applied(format: str, orientation: int) -> None:
    if format == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow was built without AVIF")
    quarters = np.array([[32, 96], [160, 224]], np.uint8).repeat(16, 0).repeat(24, 1)
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = decode(saved(Image.fromarray(quarters).convert("RGB"), format, exif=exif))
    assert image.size == ((32, 48) if 5 <= orientation <= 8 else (48, 32))
    assert corners(image) == ORIENTATIONS[orientation]


def test_damaged_exif_is_ignored() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    whole = exif.tobytes()
    for at in range(6, len(whole)):
        broken = whole[:at] + b"\xff" + whole[at + 1 :]
        for format in ("JPEG", "PNG", "WEBP"):
            assert sorted(decode(saved(SMOOTH, format, exif=broken)).size) == [24, 32]


XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf tiff:Orientation="6"/></x:xmpmeta>'


@pytest.mark.parametrize("format", ["JPEG", "WEBP", "AVIF", "PNG"])
def test_orientation_in_xmp_is_ignored(format: str) -> None:
    if format == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow was built without AVIF")
    options: dict[str, object] = {"xmp": XMP}
    if format == "PNG":
        options = {"pnginfo": PngInfo()}
        options["pnginfo"].add_itxt("XML:com.adobe.xmp", XMP.decode())  # type: ignore[attr-defined]
    data = saved(SMOOTH, format, **options)
    assert decode(data).size == SMOOTH.size
    assert decode(data, needed_size=lambda size: size).size == SMOOTH.size


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_heic_is_decoded_upright(mode: str) -> None:
    image = SMOOTH.resize((64, 48)).convert(mode)
    exif = Image.Exif()
    exif[0x0112] = 6
    heif = pillow_heif.from_pillow(image)
    stream = io.BytesIO()
    heif.save(stream, quality=100, exif=exif.tobytes())
    actual = decode(stream.getvalue())
    expected = image.convert("RGB").transpose(Image.Transpose.ROTATE_270)
    assert abs(np.asarray(actual).astype(int) - np.asarray(expected)).max() <= 6


def test_profile_of_heic_is_kept() -> None:
    profile = rgb_profile(DISPLAY_P3, 2.2)
    stream = io.BytesIO()
    pillow_heif.from_pillow(SMOOTH).save(stream, icc_profile=profile)
    assert decode(stream.getvalue()).info["icc_profile"] == profile


def test_damaged_heic_is_decode_failed() -> None:
    stream = io.BytesIO()
    pillow_heif.from_pillow(SMOOTH).save(stream)
    assert decode_error(stream.getvalue()[:300]).kind in ("decode_failed", "truncated")


# Draft decoding


def photo(width: int, height: int, orientation: int = 1) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = Image.radial_gradient("L").convert("RGB").resize((width, height))
    return saved(image, "JPEG", exif=exif)


@pytest.mark.parametrize(
    ("needed", "size"),
    [
        ((100, 75), (200, 150)),
        ((50, 30), (100, 75)),
        ((10, 10), (100, 75)),
        ((101, 75), (400, 300)),
        ((200, 150), (400, 300)),
        ((201, 10), (800, 600)),
        ((5000, 5000), (800, 600)),
    ],
)
def test_draft_decoding_keeps_twice_the_needed_size(
    needed: tuple[int, int], size: tuple[int, int]
) -> None:
    assert decode(photo(800, 600), needed_size=lambda _: needed).size == size


def test_draft_decoding_respects_the_orientation() -> None:
    sizes: list[tuple[int, int]] = []

    def needed(size: tuple[int, int]) -> tuple[int, int]:
        sizes.append(size)
        return 200, 10

    assert decode(photo(800, 400, orientation=6), needed_size=needed).size == (400, 800)
    assert decode(photo(400, 800, orientation=6), needed_size=needed).size == (400, 200)
    assert sizes == [(400, 800), (800, 400)]


def test_other_formats_are_decoded_at_full_size() -> None:
    assert decode(saved(SMOOTH, "PNG"), needed_size=lambda _: (1, 1)).size == SMOOTH.size


# Errors


@pytest.mark.parametrize(
    "data",
    [
        b"hello, this is a text and not an image at all\n" * 20,
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\nshowpage\n",
        b"%PDF-1.7\n" + bytes(100),
        b"\x89HDF\r\n\x1a\n" + bytes(100),
        b"SIMPLE  =                    T" + b" " * 2880,
        bytes(1000),
    ],
)
def test_other_files_are_not_an_image(data: bytes) -> None:
    assert decode_error(data).kind == "not_an_image"


@pytest.mark.parametrize(("module", "name"), [(gzip, "gzip"), (bz2, "bzip2"), (lzma, "xz")])
def test_compressed_image_is_unsupported(module: Any, name: str) -> None:
    error = decode_error(module.compress(saved(SMOOTH, "JPEG")))
    assert (error.kind, error.message) == (
        "unsupported",
        f"It is packed by {name}. Unpack it first.",
    )


def test_empty_file_is_not_an_image() -> None:
    error = decode_error(b"")
    assert (error.kind, error.message) == ("not_an_image", "The file is empty.")


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "PPM"])
@pytest.mark.parametrize("fraction", [0.1, 0.5, 0.9])
def test_incomplete_file_is_truncated(format: str, fraction: float) -> None:
    data = saved(NOISE, format)
    assert decode_error(data[: int(len(data) * fraction)]).kind == "truncated"


def test_damaged_file_is_decode_failed() -> None:
    data = bytearray(saved(NOISE, "PNG"))
    data[len(data) // 2] ^= 0xFF
    error = decode_error(bytes(data))
    assert (error.kind, error.message) == ("decode_failed", "The PNG image is damaged.")


def test_heic_without_its_decoder_names_the_package() -> None:
    code = "import sys; sys.modules['pi_heif'] = None\n"
    code += "from nasnet_cli.images.decode import decode\n"
    code += r"decode(b'\0\0\0\x1cftypmif1\0\0\0\0mif1heicmiaf' + bytes(100))"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "HEIC images need a package that is missing: pip install pi-heif." in answer.stderr


@pytest.mark.parametrize("bits", [16, 32])
def test_psd_of_more_than_8_bits_is_unsupported(bits: int) -> None:
    head = struct.pack(">4sH6xHIIHH", b"8BPS", 1, 3, 4, 4, bits, 3)
    error = decode_error(head + bytes(12) + b"\0\0" + bytes(3 * 4 * 4 * bits // 8))
    assert (error.kind, error.message) == (
        "unsupported",
        f"PSD images with {bits} bits are not supported.",
    )


def test_jpeg_of_12_bits_and_lossless_jpeg_are_unsupported() -> None:
    values = np.random.default_rng(7).integers(0, 4096, (16, 16), dtype=np.uint16)
    for data, message in (
        (imagecodecs.jpeg8_encode(values, bitspersample=12), "kind SOF1 with 12 bits"),
        (imagecodecs.ljpeg_encode(values, bitspersample=12), "kind SOF3 with 12 bits"),
    ):
        error = decode_error(data)
        assert error.kind == "unsupported" and message in error.message


# Files that viewers show although they are damaged


def jpegs() -> list[bytes]:
    """Return JPEGs of all kinds whose last rows matter."""
    options: list[dict[str, object]] = [
        {"quality": 90},
        {"quality": 20, "subsampling": "4:2:0"},
        {"quality": 90, "progressive": True},
        {"quality": 50, "restart_marker_rows": 1},
        {"quality": 30, "optimize": True},
    ]
    noise = np.random.default_rng(8).integers(0, 256, (40, 56, 3), dtype=np.uint8)
    noise = Image.fromarray(noise)
    files = [saved(noise, "JPEG", **each) for each in options]
    files += [saved(noise.convert(mode), "JPEG", quality=80) for mode in ("L", "CMYK")]
    # Of one colour, as missing parts are shown.
    return [*files, saved(Image.new("RGB", (40, 56), (128, 128, 128)), "JPEG")]


def test_jpeg_without_its_end_marker_is_decoded() -> None:
    for data in jpegs():
        expected = pixels(data)
        for cut in (1, 2):
            assert np.array_equal(pixels(data[:-cut]), expected)
        small = decode(data[:-2], needed_size=lambda _: (5, 5))
        assert small.size == decode(data, needed_size=lambda _: (5, 5)).size


def test_jpeg_without_its_last_pixels_is_truncated() -> None:
    for data in jpegs()[:-1]:
        for cut in (4, 6, 10, len(data) // 3):
            assert decode_error(data[:-cut]).kind == "truncated"


@pytest.mark.parametrize(
    ("marker", "data"),
    [
        (0xEE, b"Adobe"),
        (0xE0, b"JFIF\0\1"),
        (0xED, b"Photoshop 3.0\0008BIM\4\4"),
        (0xE2, b"MPF\0II*\0"),
        (0xE1, b"Exif\0\0"),
    ],
)
def test_jpeg_with_segments_cut_short_is_decoded(marker: int, data: bytes) -> None:
    damaged = struct.pack(">BBH", 0xFF, marker, len(data) + 2) + data
    exif = Image.Exif()
    exif[0x0112] = 6
    for image in jpegs():
        start = image[:2] + damaged + image[2:]
        assert np.array_equal(pixels(start), pixels(image))
    turned = saved(Image.open(io.BytesIO(image)), "JPEG", exif=exif, comment=b"x")
    assert np.array_equal(pixels(turned[:2] + damaged + turned[2:]), pixels(turned))


def test_pixels_are_reserved_once_for_a_damaged_file(tmp_path: Path) -> None:
    held: list[int] = []

    class Budget(PixelBudget):
        def hold(self, pixels: int) -> AbstractContextManager[None]:
            held.append(pixels)
            return super().hold(pixels)

    file = tmp_path / "cut.jpg"
    file.write_bytes(jpegs()[0][:-2])
    load(Source("cut.jpg", file=str(file)), Preprocessing((40, 56)), budget=Budget())
    assert held == [40 * 56]


def chunk(name: bytes, data: bytes, damage: int = 0) -> bytes:
    checksum = zlib.crc32(name + data) ^ damage
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", checksum)


def inserted(data: bytes, added: bytes, before: bytes = b"IDAT") -> bytes:
    """Return a PNG with a chunk before another."""
    at = data.index(before) - 4
    return data[:at] + added + data[at:]


@pytest.mark.parametrize("before", [b"IDAT", b"IEND"])
@pytest.mark.parametrize(
    "added",
    [
        chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(1_800_000))),
        chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(40_000_000))),
        chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(15_000_000))) * 5,
        chunk(b"iTXt", b"Comment\0\1\0\0\0" + zlib.compress(b"x" * 30_000_000)),
        chunk(b"tEXt", b"Comment\0text", damage=1),
        chunk(b"gAMA", b"\0\0\xb1\x8f", damage=1),
        chunk(b"eXIf", b"damaged", damage=1),
        chunk(b"iCCP", b"name\0\0" + zlib.compress(bytes(2_000_000))),
        chunk(b"iCCP", b"name\0\0" + zlib.compress(bytes(30_000_000))),
        chunk(b"iCCP", b"name\0\0damaged"),
        chunk(b"iCCP", b"name\0\0" + zlib.compress(bytes(500)), damage=1),
    ],
    ids=range(11),
)
def test_other_chunks_of_a_png_do_not_matter(added: bytes, before: bytes) -> None:
    data = inserted(saved(NOISE, "PNG"), added, before)
    assert np.array_equal(pixels(data), np.asarray(NOISE))


@pytest.mark.parametrize("behind", [b"\n", bytes(40)])
def test_bytes_behind_the_end_of_a_damaged_png_do_not_matter(behind: bytes) -> None:
    data = inserted(saved(NOISE, "PNG"), chunk(b"gAMA", b"\0\0\xb1\x8f", damage=1))
    assert np.array_equal(pixels(data + behind), np.asarray(NOISE))


def test_damaged_chunks_of_pixels_matter() -> None:
    data = bytearray(saved(NOISE, "PNG"))
    data[data.index(b"IHDR") + 20] ^= 1  # its checksum
    assert decode_error(bytes(data)).kind == "decode_failed"


def test_large_profile_of_a_png_is_converted() -> None:
    profile = rgb_profile(DISPLAY_P3, 2.2)
    profile = struct.pack(">I", 2_000_000) + profile[4:].ljust(2_000_000 - 4, b"\0")
    data = inserted(
        saved(NOISE, "PNG"), chunk(b"iCCP", b"P3\0\0" + zlib.compress(profile)), b"IDAT"
    )
    assert decode(data).info["icc_profile"] == profile


def test_format_without_a_decoder_is_unsupported() -> None:
    assert decode_error(b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(100)).kind == "unsupported"


@pytest.mark.parametrize("size", [(100_000, 100_000), (15_000, 15_000), (2**31 - 1, 2**31 - 1)])
def test_too_many_pixels_are_too_large(size: tuple[int, int]) -> None:
    assert decode_error(png(*size)).kind == "too_large"


def test_max_pixels_is_respected() -> None:
    data = saved(SMOOTH, "PNG")
    assert decode(data, max_pixels=32 * 24).size == (32, 24)
    error = decode_error(data, max_pixels=32 * 24 - 1)
    assert (error.kind, error.message) == (
        "too_large",
        "It has 32 x 24 pixels, more than 767 in all.",
    )


def test_extremely_long_side_is_too_large() -> None:
    assert decode_error(png(2_000_000, 1)).kind == "too_large"


def test_huge_image_within_an_icon_is_too_large() -> None:
    inner = png(50_000, 50_000, colour=6)
    entry = struct.pack("<BBBBHHII", 32, 32, 0, 0, 1, 32, len(inner), 22)
    assert decode_error(b"\0\0\1\0\1\0" + entry + inner).kind == "too_large"


def test_failing_stream_is_unreadable() -> None:
    class Broken(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            if self.tell() > 40_000:
                raise OSError(errno.EIO, "Input/output error")
            return super().read(size)

    with pytest.raises(InputError) as caught:
        decode(Broken(saved(Image.effect_noise((400, 400), 100), "JPEG", quality=95)))
    assert caught.value.kind == "unreadable"


# Side effects, threads and damaged files


@pytest.mark.linux
def test_decoding_prints_nothing() -> None:
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\xff\xff\xff\xff\0\0\0\0"
    code = f"""
import io, sys, warnings
warnings.simplefilter("error")
from PIL import Image
from nasnet_cli.errors import InputError
from nasnet_cli.images.source import Source
from nasnet_cli.images.load import load
from nasnet_cli.images.preprocess import Preprocessing
image = Image.linear_gradient("L").convert("RGB")
def saved(format, **options):
    stream = io.BytesIO()
    image.save(stream, format, **options)
    return stream.getvalue()
def decode(data):
    load(Source("a", member=lambda _: data), Preprocessing((32, 32)))
decode(saved("JPEG", exif={exif!r}))
damaged = bytearray(saved("TIFF", compression="tiff_lzw"))
damaged[100:3000] = bytes(2900)
for data in (damaged, b"II*\\0\\x08\\0\\0\\0\\x01\\0" + b"\\x15\\x01\\x03\\0\\x01\\0\\0\\0\\xff\\xff\\0\\0" + bytes(4)):
    try:
        decode(bytes(data))
    except InputError:
        pass
"""
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True)
    assert (answer.returncode, answer.stdout, answer.stderr) == (0, b"", b"")


def test_pillow_warnings_are_silenced_whatever_the_filters() -> None:
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\xff\xff\xff\xff\0\0\0\0"
    data = saved(SMOOTH, "JPEG", exif=exif)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        decode(data)
        warnings.simplefilter("error")
        decode(data)


def test_passed_stream_stays_open() -> None:
    stream = io.BytesIO(saved(SMOOTH, "JPEG"))
    assert decode(stream).size == SMOOTH.size
    assert not stream.closed


def test_threads_decode_the_same_pixels() -> None:
    files = [saved(NOISE, f) for f in ("JPEG", "PNG", "GIF", "TIFF", "WEBP", "BMP")] * 10
    files.append(b"no image")
    expected = [pixels(data) for data in files[:-1]]
    barrier = threading.Barrier(4)

    def work(_: int) -> bool:
        barrier.wait()
        assert decode_error(files[-1]).kind == "not_an_image"
        return all(
            np.array_equal(pixels(data), want)
            for data, want in zip(files[:-1], expected, strict=True)
        )

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(work, range(4)))


SEEDS = [
    saved(NOISE.convert(mode), format)
    for format, mode in (
        ("JPEG", "RGB"),
        ("JPEG", "CMYK"),
        ("PNG", "P"),
        ("PNG", "RGBA"),
        ("GIF", "P"),
        ("WEBP", "RGB"),
        ("TIFF", "RGB"),
        ("TIFF", "F"),
        ("BMP", "RGB"),
        ("ICO", "RGBA"),
        ("TGA", "RGB"),
        ("PPM", "RGB"),
        ("JPEG2000", "RGB"),
    )
]


@settings(max_examples=200, deadline=None)
@given(
    seed=st.sampled_from(SEEDS),
    changes=st.lists(st.tuples(st.integers(0, 2**16), st.integers(0, 255)), max_size=8),
    length=st.floats(0, 1),
)
def test_damaged_images_raise_only_input_errors(
    seed: bytes, changes: list[tuple[int, int]], length: float
) -> None:
    data = bytearray(seed)
    for at, value in changes:
        data[at % len(data)] = value
    if not changes:
        del data[int(length * len(data)) :]
    try:
        image = decode(bytes(data), max_pixels=10_000_000, needed_size=lambda _: (8, 8))
    except InputError:
        return
    assert image.mode == "RGB"


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200))
def test_random_bytes_raise_only_input_errors(data: bytes) -> None:
    try:
        decode(data, max_pixels=10_000_000)
    except InputError:
        return


def with_scans(count: int, **options: object) -> bytes:
    """Return a JPEG of 32x24 pixels whose last scan comes so many more times."""
    data = saved(SMOOTH, "JPEG", **options)
    last = data.rindex(b"\xff\xda")
    return data[:-2] + data[last:-2] * count + b"\xff\xd9"


def test_jpeg_with_too_many_scans_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nasnet_cli.images.jpeg._MAX_SCANNED_PIXELS", 32 * 24 * 30)
    assert decode_error(with_scans(30, progressive=True)).kind == "too_large"
    assert decode(with_scans(5, progressive=True)).size == (32, 24)
