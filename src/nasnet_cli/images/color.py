"""Colours: from an image's mode and ICC profile to sRGB."""

from __future__ import annotations

import functools
import io
import threading
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from nasnet_cli.images import tiff

if TYPE_CHECKING:
    from PIL.ImageCms import ImageCmsTransform

_PROFILE = "icc_profile"
_MAX_PROFILE_BYTES = 1 << 24
# Display, scanner, printer and colour space profiles; the others join or name colours.
_CLASSES = frozenset((b"mntr", b"scnr", b"prtr", b"spac"))
_MODES = {b"RGB ": "RGB", b"GRAY": "L", b"CMYK": "CMYK"}
# Pillow's modes by the colours that they are made of.
_COLORS = {"RGB": "RGB", "P": "RGB", "PA": "RGB", "RGBA": "RGB", "RGBa": "RGB", "RGBX": "RGB"} | {
    "1": "L", "L": "L", "LA": "L", "La": "L", "I": "L", "F": "L", "CMYK": "CMYK",
}  # fmt: skip

# A profile that changes no colour by more levels than this is sRGB, in whatever form.
_SRGB_TOLERANCE = 1

_transform_lock = threading.Lock()


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert a loaded image to RGB, or as far as its ICC profile asks for.

    An image whose profile isn't sRGB stays in the profile's colours, in mode RGB, L or CMYK, with
    the profile in its info: to_srgb converts it, which costs less after the resize. Alpha is
    composited on white.
    """
    profile_mode = _profile_mode(image)
    if profile_mode is None:
        image.info.pop(_PROFILE, None)
    if image.mode.startswith("I;16"):
        grey = _16_bit_to_grey(image)
    elif image.mode == "I" and image.format == "PPM":
        # Pillow scales every PGM of more than 8 bits to 0..65535.
        grey = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    elif image.mode in ("I", "F"):
        grey = _range_to_grey(image)
    elif image.has_transparency_data:
        return _on_white(image, profile_mode)
    else:
        return _convert(image, profile_mode or "RGB")
    if profile_mode is not None:
        grey.info[_PROFILE] = image.info[_PROFILE]
    return _convert(grey, profile_mode or "RGB")


def to_srgb(image: Image.Image) -> Image.Image:
    """Convert what to_rgb returned to an RGB image in sRGB."""
    profile = image.info.get(_PROFILE)
    transform = _transform(profile, image.mode) if profile else None
    return image if transform is None else transform.apply(image)


def _convert(image: Image.Image, mode: str) -> Image.Image:
    return image if image.mode == mode else image.convert(mode)


def _on_white(image: Image.Image, profile_mode: str | None) -> Image.Image:
    rgba = _convert(image, "RGBA")
    white = Image.new("RGB", image.size, "white")
    if profile_mode is None:
        white.paste(rgba, (0, 0), rgba)
    else:
        # Blending is done in sRGB, as viewers do.
        opaque = rgba.convert("RGB").convert(profile_mode)
        white.paste(to_srgb(opaque), mask=rgba.getchannel("A"))
    return white


def _profile_mode(image: Image.Image) -> str | None:
    """Return the mode that an image's profile is for; None without one that changes its colours."""
    profile = image.info.get(_PROFILE)
    if not isinstance(profile, bytes) or not 128 <= len(profile) <= _MAX_PROFILE_BYTES:
        return None
    mode = _MODES.get(profile[16:20])
    if (
        profile[12:16] not in _CLASSES
        or mode is None
        or mode != _COLORS.get(image.mode.split(";")[0])
    ):
        return None
    return mode if _transform(profile, mode) else None


def _transform(profile: bytes, mode: str) -> ImageCmsTransform | None:
    """Return the transform from a profile to sRGB; None where it is sRGB or broken.

    A transform may be used by several threads at once.
    """
    with _transform_lock:  # threads that meet a profile at once would each make its transform
        return _cached_transform(profile, mode)


@functools.lru_cache(maxsize=32)
def _cached_transform(profile: bytes, mode: str) -> ImageCmsTransform | None:
    from PIL import ImageCms

    try:
        transform = ImageCms.ImageCmsTransform(
            ImageCms.ImageCmsProfile(io.BytesIO(profile)),
            ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")),
            mode,
            "RGB",
        )
        if mode == "CMYK":
            return transform
        levels = np.arange(0, 256, 15, dtype=np.uint8)
        grid = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(len(levels), -1, 3)
        sample = Image.fromarray(grid).convert(mode)
        converted = transform.apply(sample)
    except (OSError, ValueError, ImageCms.PyCMSError):
        return None
    change = np.asarray(converted, int) - np.asarray(sample.convert("RGB"))
    return transform if np.abs(change).max() > _SRGB_TOLERANCE else None


def _16_bit_to_grey(image: Image.Image) -> Image.Image:
    values = np.asarray(image)
    tags = getattr(image, "tag_v2", {})  # of a TIFF
    bits = tags.get(tiff.BITS, (16,))[0]
    grey = (values >> (max(bits, 8) - 8)).astype(np.uint8)
    if tags.get(tiff.PHOTOMETRIC) == tiff.WHITE_IS_ZERO:
        grey = 255 - grey
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        grey[values == transparent] = 255
    return Image.fromarray(grey)


def _range_to_grey(image: Image.Image) -> Image.Image:
    """Scale 32-bit integers or floats to grey levels. NaN becomes the darkest."""
    values = np.asarray(image)
    tags = getattr(image, "tag_v2", {})
    if tags and image.mode == "I" and tags.get(tiff.SAMPLE_FORMAT, (1,)) == (tiff.UNSIGNED,):
        values = values.view(np.uint32)  # Pillow's are signed
    low, high = _finite_range(values)
    if low >= 0 and high <= 255:
        low, high = 0.0, 1.0 if image.mode == "F" and high <= 1 else 255.0
    grey = np.empty(values.shape, np.uint8)
    # In doubles, which hold every 32-bit integer and any float's range; row by row, since a whole
    # image in doubles can be gigabytes.
    for row, grey_row in zip(values, grey, strict=True):
        exact = np.nan_to_num(row.astype(np.float64), nan=low, posinf=high, neginf=low)
        grey_row[:] = np.rint((exact - low) * (255 / ((high - low) or 1)))
    return Image.fromarray(255 - grey if tags.get(tiff.PHOTOMETRIC) == tiff.WHITE_IS_ZERO else grey)


def _finite_range(
    values: NDArray[np.int32] | NDArray[np.uint32] | NDArray[np.float32],
) -> tuple[float, float]:
    """Return the lowest and the highest finite value; (0, 0) when there is none."""
    if values.dtype.kind in "iu":
        return float(values.min()), float(values.max())
    finite = np.isfinite(values)
    if not finite.any():
        return 0.0, 0.0
    low = values.min(where=finite, initial=np.inf)
    return float(low), float(values.max(where=finite, initial=-np.inf))
