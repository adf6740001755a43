"""Preprocessing: crop and resize an RGB image to the array that a model takes."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from nasnet_cli.errors import InputError
from nasnet_cli.images.decode import decode
from nasnet_cli.images.listing import list_sources
from nasnet_cli.images.load import Limits, load
from nasnet_cli.images.preprocess import Preprocessing, needed_size, preprocess
from nasnet_cli.images.source import SkipCounter, Source


def noise(width: int, height: int) -> Image.Image:
    random = np.random.default_rng([11, width, height])
    return Image.fromarray(random.integers(0, 256, (height, width, 3), dtype=np.uint8))


def columns(width: int, height: int) -> Image.Image:
    """Return an image whose red is the column and whose green is the row."""
    y, x = np.mgrid[:height, :width].astype(np.uint8)
    return Image.fromarray(np.stack([x, y, np.zeros_like(x)], axis=2))


# Settings


@pytest.mark.parametrize(
    "wrong",
    [
        {"size": (224,)},
        {"size": (224, 0)},
        {"size": (224, 224.0)},
        {"size": (224, 224), "resize": "fit"},
        {"size": (224, 224), "resample": "cubic"},
        {"size": (224, 224), "crop_fraction": 0},
        {"size": (224, 224), "crop_fraction": 1.01},
        {"size": (224, 224), "crop_fraction": float("nan")},
        {"size": (224, 224), "mean": 0.5},
        {},
    ],
)
def test_invalid_settings_raise_value_error(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        Preprocessing.from_dict(wrong)


def test_settings_survive_json() -> None:
    whole = Preprocessing((331, 300), "pad", 0.9, "lanczos")
    assert Preprocessing.from_dict(json.loads(json.dumps(whole.to_dict()))) == whole


def test_digest_depends_on_the_settings_alone() -> None:
    base = Preprocessing((224, 224), crop_fraction=1.0)
    assert (
        base.digest() == Preprocessing.from_dict({"size": [224, 224], "crop_fraction": 1}).digest()
    )
    others = (
        Preprocessing((224, 225), crop_fraction=1.0),
        Preprocessing((224, 224), "crop", 1.0),
        Preprocessing((224, 224)),
        Preprocessing((224, 224), crop_fraction=1.0, resample="tf1"),
    )
    assert len({base.digest(), *(other.digest() for other in others)}) == 5
    # Files of earlier runs hold the digest: it must not change between versions.
    assert Preprocessing((224, 224)).digest() == (
        "e16cf1a1fec2aac8d514317f15d93e50a16c1c76a29bcab430c021c99b9e772e"
    )


# Crop and resize


@pytest.mark.parametrize(
    "resample", ["bilinear", "bicubic", "box", "lanczos", "hamming", "nearest"]
)
@pytest.mark.parametrize("resize", ["stretch", "crop", "pad"])
def test_pillow_filters_return_bytes_of_the_given_size(resample: str, resize: str) -> None:
    p = Preprocessing.from_dict({"size": (20, 30), "resize": resize, "resample": resample})
    array = preprocess(noise(97, 41), p)
    assert (array.shape, array.dtype) == ((20, 30, 3), np.uint8)


@pytest.mark.parametrize("resize", ["stretch", "crop", "pad"])
@pytest.mark.parametrize("resample", ["bilinear", "tf1"])
@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (5000, 1), (2, 3)])
def test_images_of_any_shape_are_preprocessed(
    resize: str, resample: str, size: tuple[int, int]
) -> None:
    p = Preprocessing.from_dict({"size": (8, 8), "resize": resize, "resample": resample})
    assert preprocess(noise(*size), p).shape == (8, 8, 3)


def test_stretch_keeps_the_central_part_of_each_side() -> None:
    array = preprocess(columns(160, 80), Preprocessing((70, 140)))
    # 160 x 80 without a sixteenth at each end is 140 x 70: nothing is resampled.
    assert array[0, 0].tolist() == [10, 5, 0]
    assert array[-1, -1].tolist() == [149, 74, 0]


def test_crop_keeps_the_largest_central_part_of_the_aspect_ratio() -> None:
    array = preprocess(columns(160, 80), Preprocessing((40, 40), "crop", 0.5))
    assert array[0, 0].tolist() == [60, 20, 0]
    assert array[-1, -1].tolist() == [99, 59, 0]


@pytest.mark.parametrize(("resample", "grey"), [("bilinear", 128), ("tf1", 0.5)])
def test_pad_keeps_the_aspect_ratio_and_fills_with_mid_grey(resample: str, grey: float) -> None:
    white = Image.new("RGB", (160, 80), "white")
    p = Preprocessing.from_dict(
        {"size": (40, 40), "resize": "pad", "crop_fraction": 1.0, "resample": resample}
    )
    array = preprocess(white, p)
    assert (array[:10] == grey).all()
    assert (array[30:] == grey).all()
    assert (array[10:30] == (255 if resample == "bilinear" else 1)).all()


def test_pillow_bilinear_averages_and_tf1_does_not() -> None:
    stripes = Image.fromarray(np.tile(np.array([0, 255], np.uint8), (64, 32))).convert("RGB")
    averaged = preprocess(stripes, Preprocessing((8, 8), crop_fraction=1.0))
    picked = preprocess(stripes, Preprocessing((8, 8), crop_fraction=1.0, resample="tf1"))
    assert abs(averaged[2:-2, 2:-2].astype(float) - 127.5).max() <= 1
    assert (picked == 0).all()


# TensorFlow 1's bilinear


def tf1_reference(image: NDArray[np.uint8], height: int, width: int) -> NDArray[np.float64]:
    """Crop 87.5 % and resize, pixel by pixel, as TensorFlow's documentation describes it."""
    h, w = image.shape[:2]
    top, left = int((h - h * 0.875) / 2), int((w - w * 0.875) / 2)
    crop = image[top : h - top, left : w - left] / 255.0
    h, w = crop.shape[:2]
    result = np.zeros((height, width, 3))
    for i in range(height):
        for j in range(width):
            y, x = i * h / height, j * w / width
            y0, x0 = int(y), int(x)
            y1, x1 = min(y0 + 1, h - 1), min(x0 + 1, w - 1)
            dy, dx = y - y0, x - x0
            result[i, j] = (1 - dy) * ((1 - dx) * crop[y0, x0] + dx * crop[y0, x1]) + dy * (
                (1 - dx) * crop[y1, x0] + dx * crop[y1, x1]
            )
    return result


@pytest.mark.parametrize("size", [(50, 37), (9, 7), (16, 16), (101, 13)])
@pytest.mark.parametrize("target", [(7, 11), (24, 24)])
def test_tf1_equals_the_formula(size: tuple[int, int], target: tuple[int, int]) -> None:
    image = noise(*size)
    array = preprocess(image, Preprocessing(target, resample="tf1"))
    assert (array.dtype, array.shape) == (np.float32, (*target, 3))
    assert np.allclose(array, tf1_reference(np.asarray(image), *target), atol=2e-5)


def test_tf1_aligns_corners_of_pixels_not_centres() -> None:
    ramp = Image.fromarray(np.array([[0, 51, 102, 153]], np.uint8).repeat(4, 0)).convert("RGB")
    shrunk = preprocess(ramp, Preprocessing((2, 2), crop_fraction=1.0, resample="tf1"))
    assert np.allclose(shrunk[0, :, 0], [0, 0.4])
    enlarged = preprocess(ramp, Preprocessing((8, 8), crop_fraction=1.0, resample="tf1"))
    assert np.allclose(enlarged[0, :, 0], [0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.6])


@pytest.mark.parametrize("size", [(500, 375), (333, 500), (64, 64), (31, 257)])
@pytest.mark.parametrize("target", [(224, 224), (32, 48)])
def test_tf1_equals_tensorflow(size: tuple[int, int], target: tuple[int, int]) -> None:
    """Slow, as it imports TensorFlow, which the mode claims to equal."""
    tf = pytest.importorskip("tensorflow")
    image = noise(*size)
    unit = tf.image.convert_image_dtype(np.asarray(image), tf.float32)
    cropped = tf.image.central_crop(unit, 0.875)
    theirs = tf.compat.v1.image.resize_bilinear(cropped[None], target)[0].numpy()
    ours = preprocess(image, Preprocessing(target, resample="tf1"))
    # Fused multiply-adds, where the processor has them, differ in the last bit.
    assert np.abs(ours - theirs).max() <= 2e-7


# Decoding and preprocessing together


@pytest.mark.parametrize(
    ("resize", "resample", "expected"),
    [
        ("stretch", "bilinear", (256, 128)),
        ("crop", "bilinear", (512, 128)),
        ("pad", "bilinear", (256, 64)),
        ("stretch", "box", (384, 192)),
        ("stretch", "tf1", (2000, 500)),
        ("stretch", "nearest", (2000, 500)),
    ],
)
def test_needed_size(resize: str, resample: str, expected: tuple[int, int]) -> None:
    p = Preprocessing.from_dict({"size": (112, 224), "resize": resize, "resample": resample})
    assert needed_size((2000, 500), p) == expected


def jpeg(image: Image.Image) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=95)
    return stream.getvalue()


@pytest.mark.parametrize("resize", ["stretch", "crop", "pad"])
def test_draft_decoding_hardly_changes_the_model_input(tmp_path: Path, resize: str) -> None:
    file = tmp_path / "a.jpg"
    file.write_bytes(jpeg(noise(40, 30).resize((1600, 1200), Image.Resampling.BICUBIC)))
    p = Preprocessing.from_dict({"size": (64, 64), "resize": resize})
    draft = load(Source(str(file), file=str(file)), p)
    full = preprocess(decode(file.read_bytes()), p)
    assert np.abs(draft.astype(int) - full).max() <= 12
    assert np.abs(draft.astype(int) - full).mean() <= 1


def test_tf1_disables_draft_decoding(tmp_path: Path) -> None:
    file = tmp_path / "a.jpg"
    file.write_bytes(jpeg(noise(800, 600)))
    p = Preprocessing((32, 32), resample="tf1")
    loaded = load(Source(str(file), file=str(file)), p)
    assert np.array_equal(loaded, preprocess(decode(file.read_bytes()), p))


def test_load_respects_the_limits(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(jpeg(noise(80, 60)))
    (tmp_path / "b.jpg").write_bytes(b"no image")
    good, bad = list_sources([str(tmp_path)], skips=SkipCounter())
    p = Preprocessing((16, 16))
    assert load(good, p).shape == (16, 16, 3)
    for source, limits, kind in (
        (bad, Limits(), "not_an_image"),
        (good, Limits(max_pixels=100), "too_large"),
        (good, Limits(max_bytes=100), "too_large"),
    ):
        with pytest.raises(InputError) as caught:
            load(source, p, limits)
        assert caught.value.kind == kind
