"""TIFF images of every layout that tifffile writes: decoded right, or unsupported by name."""

from __future__ import annotations

import io
import itertools
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image

from nasnet_cli.errors import InputError
from nasnet_cli.images.decode import decode, upright
from nasnet_cli.images.tiff import TiffReader

HEIGHT, WIDTH = 36, 51
UNSUPPORTED_COMPRESSIONS = ("webp", "lerc", "jpeg2000", "jpegxl")
COMPRESSIONS = (
    None, "lzw", "deflate", "packbits", "zstd", "lzma", "jpeg", *UNSUPPORTED_COMPRESSIONS,
)  # fmt: skip
# Photometric interpretation, samples and extra samples.
LAYOUTS: dict[str, tuple[str, int, list[str]]] = {
    "grey": ("minisblack", 1, []),
    "white is zero": ("miniswhite", 1, []),
    "grey and alpha": ("minisblack", 2, ["unassalpha"]),
    "RGB": ("rgb", 3, []),
    "RGB and alpha": ("rgb", 4, ["unassalpha"]),
    "RGB and premultiplied alpha": ("rgb", 4, ["assocalpha"]),
    "RGB and another": ("rgb", 4, ["unspecified"]),
    "RGB, alpha and another": ("rgb", 5, ["unassalpha", "unspecified"]),
    "CMYK": ("separated", 4, []),
}


def gradient(dtype: str, samples: int) -> NDArray[Any]:
    """Return [HEIGHT, WIDTH, samples], each sample another gradient over the type's range."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    levels = [3 * y + 2 * x, 5 * x, 7 * y, 255 - x - y, 4 * x]
    values = np.stack(levels[:samples], axis=-1) % 256
    kind, size = np.dtype(dtype).kind, np.dtype(dtype).itemsize
    if kind == "f":
        return (values / 255).astype(dtype)
    factor = (256**size - 1) // 255  # 255 becomes the type's greatest value
    return (values * factor - (256**size // 2 if kind == "i" else 0)).astype(dtype)


def shown(values: NDArray[Any], layout: str) -> NDArray[np.float64]:
    """Return the RGB levels that a viewer would show, by the definitions."""
    kind, size = values.dtype.kind, values.dtype.itemsize
    if kind == "f" or size == 4 or kind == "i":  # by their own range
        low, high = float(values.min()), float(values.max())
        low, high = (0.0, 1.0) if kind == "f" and low >= 0 and high <= 1 else (low, high)
        levels = np.rint((values.astype(np.float64) - low) * 255 / (high - low))
    else:
        levels = (values >> 8 * (size - 1)).astype(np.float64)
    if layout == "white is zero":
        levels = 255 - levels
    if layout == "CMYK":
        return np.asarray(Image.fromarray(levels.astype(np.uint8), "CMYK").convert("RGB"), float)
    colors = levels[..., :1] if "RGB" not in layout else levels[..., :3]
    if "alpha" in layout:
        alpha = levels[..., colors.shape[-1], None] / 255
        is_premultiplied = "premultiplied" in layout
        colors = (colors if is_premultiplied else colors * alpha) + 255 * (1 - alpha)
    return np.minimum(np.broadcast_to(colors, (*colors.shape[:2], 3)), 255)


def written(values: NDArray[Any], layout: str, **options: Any) -> bytes | None:
    """Return the values as a TIFF file, or None where tifffile can't write or read back these."""
    photometric, samples, extra = LAYOUTS[layout]
    is_planar = options.get("planarconfig") == "separate"
    pixels = np.moveaxis(values, -1, 0) if is_planar else values
    if samples == 1:
        pixels, options = values[..., 0], {**options, "planarconfig": None}
    stream = io.BytesIO()
    options = {name: value for name, value in options.items() if value is not None}
    if extra:
        options["extrasamples"] = extra
    try:
        tifffile.imwrite(stream, pixels, photometric=photometric, metadata=None, **options)
        tifffile.imread(io.BytesIO(stream.getvalue()))
    except Exception:  # of any type, from whichever codec
        return None
    return stream.getvalue()


def is_supported(dtype: str, layout: str, options: dict[str, Any]) -> bool:
    compression, is_big = options["compression"], options["byteorder"] == ">"
    _, samples, _ = LAYOUTS[layout]
    if compression in UNSUPPORTED_COMPRESSIONS:
        return False
    if compression == "packbits" and options["predictor"]:
        return False
    is_planar = samples > 1 and options["planarconfig"] == "separate"
    if is_planar and (layout == "grey and alpha" or samples > 4):
        return False
    if is_planar and layout == "RGB and another" and compression is None:
        return dtype == "u2"
    if dtype == "u1":
        return True
    if dtype == "u2":
        is_odd = layout in ("grey and alpha", "RGB, alpha and another")
        return not (is_odd or compression == "jpeg" or (layout == "white is zero" and is_big))
    if dtype == "u4":
        return layout == "grey" and not is_big
    return layout == "grey" or (layout == "white is zero" and dtype == "f4")


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", ["u1", "u2", "u4", "i2", "f4"])
def test_every_layout_is_decoded_right_or_unsupported(dtype: str, layout: str) -> None:
    values = gradient(dtype, LAYOUTS[layout][1])
    expected = shown(values, layout)
    count = 0
    for planar, tile, compression, predictor, order in itertools.product(
        ("contig", "separate"), (None, (16, 32)), COMPRESSIONS, (False, True), "<>"
    ):
        if compression in UNSUPPORTED_COMPRESSIONS and (tile or predictor or order == ">"):
            continue  # slow to write
        options: dict[str, Any] = {
            "planarconfig": planar,
            "tile": tile,
            "rowsperstrip": None if tile else 10,
            "compression": compression,
            "predictor": predictor,
            "byteorder": order,
        }
        data = written(values, layout, **options)
        if data is None:
            continue
        count += 1
        try:
            image = decode(data)
        except InputError as error:
            assert not is_supported(dtype, layout, options), options
            assert (error.kind, error.message.split()[-2:]) == (
                "unsupported",
                ["not", "supported."],
            )
            continue
        assert is_supported(dtype, layout, options), options
        difference = np.abs(np.asarray(image, float) - expected)
        if compression == "jpeg":
            assert difference.mean() <= 6, options
        else:
            assert difference.max() <= 2, options
    assert count > 10


@pytest.mark.parametrize("dtype", ["f2", "f8", "i1", "u8"])
@pytest.mark.parametrize("layout", ["grey", "RGB"])
def test_other_types_are_unsupported(dtype: str, layout: str) -> None:
    data = written(gradient(dtype, LAYOUTS[layout][1]), layout)
    assert data is not None
    with pytest.raises(InputError) as caught:
        decode(data)
    assert caught.value.kind == "unsupported"


@pytest.mark.parametrize(
    ("dtype", "options"),
    [
        ("uint16", {"photometric": "miniswhite"}),
        ("uint16", {"bitspersample": 12}),
        ("uint32", {}),
    ],
)
def test_image_that_pillow_has_opened_is_shown_as_its_file(
    dtype: str, options: dict[str, Any]
) -> None:
    values = gradient(dtype, 1)[..., 0] >> (16 - options.get("bitspersample", 16))
    stream = io.BytesIO()
    tifffile.imwrite(stream, values, **{"photometric": "minisblack", **options})
    with Image.open(stream) as opened:
        in_memory = np.asarray(upright(opened))
    assert np.array_equal(in_memory, np.asarray(decode(stream.getvalue())))


def test_bilevel_palette_and_big_tiff_are_decoded() -> None:
    levels = gradient("u1", 1)[..., 0]
    palette = np.stack([np.arange(256), 255 - np.arange(256), np.arange(256) // 2]) * 257
    for compression in (None, "packbits", "deflate"):
        for image, options, expected in (
            (levels > 99, {"photometric": "minisblack"}, (levels > 99) * 255),
            (levels, {"photometric": "palette", "colormap": palette.astype(np.uint16)}, None),
            (levels, {"bigtiff": True}, levels),
        ):
            stream = io.BytesIO()
            tifffile.imwrite(stream, image, compression=compression, metadata=None, **options)
            actual = np.asarray(decode(stream.getvalue()))
            wanted = palette.T[levels] // 257 if expected is None else expected[..., None]
            assert np.array_equal(actual, np.broadcast_to(wanted, actual.shape))


@pytest.mark.parametrize("orientation", [3, 6])
def test_planar_images_are_turned(orientation: int) -> None:
    values = gradient("u2", 3)
    tags = [(274, "H", 1, orientation, True)]
    data = written(values, "RGB", planarconfig="separate", extratags=tags)
    assert data is not None
    turned = np.rot90(shown(values, "RGB"), {3: 2, 6: -1}[orientation])
    assert np.array_equal(np.asarray(decode(data)), turned)


def test_32_bit_unsigned_values_do_not_wrap() -> None:
    values = np.array([[0, 2**31 - 1, 2**31, 2**32 - 1]], np.uint32)
    stream = io.BytesIO()
    tifffile.imwrite(stream, values, byteorder="<", metadata=None)
    assert np.asarray(decode(stream.getvalue()))[0, :, 0].tolist() == [0, 127, 128, 255]


def test_sensor_data_without_a_preview_is_unsupported() -> None:
    stream = io.BytesIO()
    tifffile.imwrite(stream, gradient("u2", 1)[..., 0], photometric="cfa", metadata=None)
    with pytest.raises(InputError) as caught:
        decode(stream.getvalue())
    assert (caught.value.kind, caught.value.message) == (
        "unsupported",
        "This RAW file has no JPEG preview that nasnet can read.",
    )


def test_xmp_does_not_turn_an_image() -> None:
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf tiff:Orientation="6"/></x:xmpmeta>'
    stream = io.BytesIO()
    tags = [(700, "B", len(xmp), xmp, True)]
    tifffile.imwrite(stream, gradient("u1", 3), extratags=tags, metadata=None)
    assert decode(stream.getvalue()).size == (WIDTH, HEIGHT)


def test_damaged_directories_end() -> None:
    loop = b"II*\0\x08\0\0\0" + b"\x01\0" + b"\x4a\x01\x04\0\x01\0\0\0\x08\0\0\0" + b"\x08\0\0\0"
    assert len(TiffReader(io.BytesIO(loop)).directories()) == 1
    rng = np.random.default_rng(2)
    for _ in range(500):
        noise = rng.integers(0, 256, 200, dtype=np.uint8).tobytes()
        TiffReader(io.BytesIO(b"MM\0*\0\0\0\x08" + noise)).directories()
