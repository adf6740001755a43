"""Colours of images with ICC profiles, as a viewer that manages colours shows them."""

from __future__ import annotations

import io
import struct
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageCms, features

from nasnet_cli.images import color
from nasnet_cli.images.decode import decode
from nasnet_cli.images.isolated import DecoderPool
from nasnet_cli.images.load import decode_and_preprocess, load
from nasnet_cli.images.preprocess import Preprocessing, preprocess
from nasnet_cli.images.source import Source
from support.icc import (
    DISPLAY_P3,
    PROPHOTO,
    SRGB,
    cmyk_profile,
    grey_profile,
    linear_to_srgb,
    rgb_profile,
    rgb_to_srgb,
    srgb_profile,
    srgb_to_linear,
)

COLORS = np.array(
    [[[200, 30, 60], [30, 160, 90], [250, 240, 200], [90, 90, 90], [0, 0, 0], [255, 255, 255]]],
    np.uint8,
)
P3 = rgb_profile(DISPLAY_P3, 2.2)
RGB = Preprocessing((24, 24), crop_fraction=1.0)


def made_noise(width: int, height: int) -> Image.Image:
    random = np.random.default_rng([5, width, height])
    return Image.fromarray(random.integers(0, 256, (height, width, 3), dtype=np.uint8))


def saved(image: Image.Image, format: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format, **options)  # type: ignore[arg-type]
    return stream.getvalue()


def srgb(data: bytes) -> NDArray[np.uint8]:
    image = color.to_srgb(decode(data))
    assert image.mode == "RGB"
    return np.asarray(image)


def difference(actual: NDArray[np.uint8], expected: NDArray[np.float64]) -> float:
    return float(np.abs(actual - expected).max())


@pytest.mark.parametrize("format", ["PNG", "TIFF", "WEBP", "AVIF", "JPEG"])
@pytest.mark.parametrize(("primaries", "gamma"), [(DISPLAY_P3, 2.2), (PROPHOTO, 1.8)])
def test_rgb_profiles_are_converted_to_srgb(
    format: str, primaries: NDArray[np.float64], gamma: float
) -> None:
    if format == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow was built without AVIF")
    # Large areas of one colour, which lossy formats keep; no saturated ones, where ProPhoto is so
    # wide that a level is several in sRGB.
    colors = np.array([[[120, 100, 90], [90, 110, 95], [200, 190, 180], [60, 60, 60]]], np.uint8)
    image = Image.fromarray(colors.repeat(32, 0).repeat(32, 1))
    options: dict[str, object] = {"icc_profile": rgb_profile(primaries, gamma)}
    options |= {"quality": 100, "subsampling": "4:4:4"} if format in ("JPEG", "AVIF") else {}
    options |= {"lossless": True} if format == "WEBP" else {}
    actual = srgb(saved(image, format, **options))[16:17, 16::32]
    assert difference(actual, rgb_to_srgb(colors, primaries, gamma)) <= 4


def test_saturated_colours_are_converted_by_the_formula() -> None:
    data = saved(Image.fromarray(COLORS), "PNG", icc_profile=P3)
    assert difference(srgb(data), rgb_to_srgb(COLORS, DISPLAY_P3, 2.2)) <= 2


def parametric(kind: int, *parameters: float) -> bytes:
    values = (round(value * 65536) for value in parameters)
    return struct.pack(f">4s4xH2x{len(parameters)}i", b"para", kind, *values)


Curve = Callable[[NDArray[np.float64]], NDArray[np.float64]]
CURVES: dict[str, tuple[bytes, Curve]] = {
    "identity": (struct.pack(">4s4xI", b"curv", 0), lambda x: x),
    "gamma": (struct.pack(">4s4xIH", b"curv", 1, 512), lambda x: x**2),
    "table": (
        struct.pack(">4s4xI3H", b"curv", 3, 0, 16384, 65535),
        lambda x: np.interp(x, [0, 0.5, 1], [0, 16384 / 65535, 1]),
    ),
    "parametric gamma": (parametric(0, 2), lambda x: x**2),
    "linear start": (
        parametric(3, 2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045),
        srgb_to_linear,
    ),
    "other parameters": (parametric(1, 2, 1, 0), lambda x: x**2),
}


@pytest.mark.parametrize(("curve", "function"), CURVES.values(), ids=CURVES.keys())
def test_curves_of_all_kinds_are_converted(curve: bytes, function: Curve) -> None:
    for curves, gammas in (([curve], (1, 1, 1)), ([2.0, curve, 2.0], (0, 1, 0))):
        linear = np.where(gammas, function(COLORS / 255.0), (COLORS / 255.0) ** 2)
        expected = linear_to_srgb(linear @ DISPLAY_P3.T @ np.linalg.inv(SRGB).T)
        profile = rgb_profile(DISPLAY_P3, *curves)
        actual = srgb(saved(Image.fromarray(COLORS), "PNG", icc_profile=profile))
        assert difference(actual, expected) <= 2


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("gamma", [-1, -1000, 1000])
def test_absurd_curves_fail_no_run(gamma: int) -> None:
    profile = rgb_profile(DISPLAY_P3, parametric(0, gamma))
    assert srgb(saved(Image.fromarray(COLORS), "PNG", icc_profile=profile)).shape == COLORS.shape


def test_large_images_are_converted_as_small_ones() -> None:
    image = made_noise(70, 300)
    rows = [image.crop((0, y, 70, y + 1)) for y in range(300)]
    whole, *parts = (srgb(saved(each, "PNG", icc_profile=P3)) for each in (image, *rows))
    assert np.array_equal(whole, np.concatenate(parts))


def test_grey_profiles_are_converted_to_srgb() -> None:
    levels = np.array([[0, 50, 128, 200, 255]], np.uint8)
    expected = linear_to_srgb((levels / 255.0) ** 1.8)[..., None]
    profile = grey_profile(1.8)
    assert (
        difference(srgb(saved(Image.fromarray(levels), "PNG", icc_profile=profile)), expected) <= 1
    )
    high = Image.fromarray(levels.astype(np.uint16) << 8)
    assert difference(srgb(saved(high, "PNG", icc_profile=profile)), expected) <= 1


def test_cmyk_profiles_are_converted_after_the_resize() -> None:
    # L* of 100, 50 and 0 are these levels of sRGB.
    profile = cmyk_profile(lambda c, m, y, k: 100 - 50 * c - 50 * k)
    inks = np.zeros((1, 3, 4), np.uint8)
    inks[0, 1:, 0], inks[0, 2, 3] = 255, 255
    image = Image.fromarray(inks, "CMYK")
    actual = srgb(saved(image, "TIFF", icc_profile=profile))
    assert difference(actual, np.array([255, 119, 0])[None, :, None]) <= 1
    # The resize averages inks: half of both inks is L* 50, where the colours' average is 158.
    stripes = Image.fromarray(inks[:, [0, 2]].repeat(32, 0).repeat(32, 1), "CMYK")
    data = saved(stripes, "JPEG", icc_profile=profile, quality=100)
    middle = preprocess(decode(data), Preprocessing((1, 1), crop_fraction=1.0))
    assert difference(middle, np.array([119.0])) <= 3


def test_transparency_is_blended_in_srgb() -> None:
    rgba = Image.fromarray(COLORS).convert("RGBA")
    rgba.putalpha(128)
    actual = srgb(saved(rgba, "PNG", icc_profile=P3))
    opaque = rgb_to_srgb(COLORS, DISPLAY_P3, 2.2)
    assert difference(actual, opaque * 128 / 255 + 127) <= 2


def test_palettes_are_converted() -> None:
    palette = Image.fromarray(COLORS).quantize(6)
    expected = rgb_to_srgb(np.asarray(palette.convert("RGB")), DISPLAY_P3, 2.2)
    assert difference(srgb(saved(palette, "PNG", icc_profile=P3)), expected) <= 2


def test_turned_images_are_converted() -> None:
    exif = Image.Exif()
    exif[0x0112] = 3
    data = saved(Image.fromarray(COLORS), "PNG", icc_profile=P3, exif=exif)
    assert difference(srgb(data)[:, ::-1], rgb_to_srgb(COLORS, DISPLAY_P3, 2.2)) <= 2


@pytest.mark.parametrize("resize", ["stretch", "crop", "pad"])
@pytest.mark.parametrize("resample", ["bilinear", "tf1"])
def test_conversion_after_the_resize_hardly_differs(resize: str, resample: str) -> None:
    noise = 80 + np.asarray(made_noise(9, 6)) % 96  # within sRGB
    image = Image.fromarray(noise).resize((90, 60), Image.Resampling.BICUBIC)
    p = Preprocessing.from_dict({"size": (20, 30), "resize": resize, "resample": resample})
    data = saved(image, "PNG", icc_profile=P3)
    after = preprocess(decode(data), p)
    before = preprocess(Image.fromarray(srgb(data)), p)
    assert after.dtype == p.dtype
    assert np.abs(after - before.astype(float)).max() <= (4 if resample == "bilinear" else 1e-6)


SRGB_PROFILES = [srgb_profile(), ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()]


@pytest.mark.parametrize("profile", SRGB_PROFILES)
def test_srgb_profiles_change_no_byte(profile: bytes) -> None:
    image = made_noise(24, 24)
    data = saved(image, "PNG", icc_profile=profile)
    assert "icc_profile" not in decode(data).info
    assert np.array_equal(preprocess(decode(data), RGB), np.asarray(image))


BROKEN = {
    "empty": b"",
    "zeros": bytes(500),
    "cut": P3[:200],
    "no tags": P3[:128] + bytes(4),
    "of another colour space": grey_profile(2.2),
    "device link": P3[:12] + b"link" + P3[16:],
    "damaged": P3[:132] + bytes(len(P3) - 132),
}


@pytest.mark.parametrize("profile", BROKEN.values(), ids=BROKEN.keys())
@pytest.mark.parametrize("format", ["PNG", "JPEG", "TIFF"])
def test_broken_profiles_are_ignored(profile: bytes, format: str) -> None:
    image = made_noise(24, 24)
    plain = decode(saved(image, format))
    with_profile = decode(saved(image, format, icc_profile=profile))
    assert np.array_equal(color.to_srgb(with_profile), plain)


def test_transforms_are_cached_and_shared_by_threads() -> None:
    profiles = [rgb_profile(DISPLAY_P3, gamma) for gamma in (1.9, 2.0, 2.1, 2.4)]
    image = made_noise(64, 64)
    files = [saved(image, "PNG", icc_profile=profile) for profile in profiles]
    expected = [srgb(data) for data in files]
    color._cached_transform.cache_clear()
    barrier = threading.Barrier(4)

    def work(_: int) -> bool:
        barrier.wait()
        return all(np.array_equal(srgb(files[i % 4]), expected[i % 4]) for i in range(40))

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(work, range(4)))
    cached = color._cached_transform.cache_info()
    assert cached.misses == cached.currsize == 4  # made once, though four threads want them at once


def test_workers_convert_colours_too() -> None:
    data = saved(Image.fromarray(COLORS.repeat(24, 0).repeat(4, 1)), "TIFF", icc_profile=P3)
    here = decode_and_preprocess(
        io.BytesIO(data), RGB, max_pixels=10_000, reserve=lambda pixels: None
    )
    with DecoderPool() as decoders:
        there = load(Source("a.tif", member=lambda _: data), RGB, decoders=decoders)
    assert np.array_equal(here, there)
    assert difference(here[:1, 2::4], rgb_to_srgb(COLORS, DISPLAY_P3, 2.2)) <= 2


def test_draft_decoding_keeps_the_profile() -> None:
    image = Image.new("RGB", (800, 600), (120, 100, 90))
    data = saved(image, "JPEG", icc_profile=P3, quality=100)
    small = decode(data, needed_size=lambda _: (50, 30))
    assert small.size == (100, 75)
    expected = rgb_to_srgb(np.array([[[120, 100, 90]]], np.uint8), DISPLAY_P3, 2.2)
    assert difference(np.asarray(color.to_srgb(small)), expected) <= 3
