"""Decoding: from a file's bytes to the RGB image that a viewer would show."""

from __future__ import annotations

import contextlib
import ctypes
import io
import logging
import math
import re
import threading
import warnings
from collections.abc import Callable
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError, features

from nasnet_cli.errors import InputError
from nasnet_cli.images.formats import HEAD_BYTES, signature

MAX_PIXELS = 200_000_000
"""Default limit: images with more pixels are too_large."""

DRAFT_MARGIN = 2
"""A JPEG is decoded at 1/2, 1/4 or 1/8 of its size only where each side stays at least this many
times as long as the caller needs. The resampling that follows then still averages over several
pixels, and the result doesn't change visibly."""

# The tables of a resampling take gigabytes beyond this length, which no real image has.
_MAX_SIDE = 1_000_000

# Never tried: formats of Pillow's that run a program or aren't images (EPS, WMF, HDF5, GRIB, MPEG,
# FITS), and rare ones that random bytes may look like.
_FORMATS_WITHOUT_SIGNATURE = ("PPM", "ICO", "CUR", "PCX", "SGI", "XPM", "XBM", "DIB", "TGA")
_CODECS = {"AVIF": "avif", "WEBP": "webp", "JPEG2000": "jpg_2000"}
_LAST_BYTES = {"JPEG": b"\xff\xd9", "PNG": b"IEND", "GIF": b";"}

_TIFF_BITS_PER_SAMPLE, _TIFF_PHOTOMETRIC, _WHITE_IS_ZERO = 258, 262, 0

_TRANSPOSES = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SIDEWAYS = frozenset((5, 6, 7, 8))

# The entry that warnings.filterwarnings("ignore", module=...) adds.
_PILLOW_FILTER = ("ignore", None, Warning, re.compile(r"PIL\."), 0)

# mallopt's parameter. Pillow allocates images in blocks of up to 16 MB.
_M_MMAP_THRESHOLD, _LARGE_BLOCK_BYTES = -3, 8 << 20

_register_lock = threading.Lock()


def _return_freed_memory() -> None:
    """Make glibc return large blocks to the system as soon as they are freed.

    Otherwise the first large image raises its threshold, and each thread keeps its freed blocks:
    a gigabyte for eight threads.
    """
    with contextlib.suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, _LARGE_BLOCK_BYTES)


_return_freed_memory()
logging.getLogger("PIL").addHandler(logging.NullHandler())  # keeps errors off the terminal
Image.preinit()  # register the common formats before threads start

Size = tuple[int, int]
"""Width and height in pixels."""


def decode(
    data: bytes | BinaryIO,
    *,
    max_pixels: int = MAX_PIXELS,
    needed_size: Callable[[Size], Size] | None = None,
    reserve: Callable[[int], object] = lambda pixels: None,
) -> Image.Image:
    """Decode an image to an upright Image in mode RGB, as a viewer would show it.

    data is a file's content or a seekable stream of it, which stays open. Decodes the first frame
    of an animation and applies the EXIF orientation. Palette, grey, CMYK, YCbCr, LAB and 1-bit
    images become RGB; alpha is composited on white; 16-bit grey keeps its high byte. 32-bit
    integer and float images are scaled from their own range when it goes beyond 0..255, floats
    within 0..1 from that range, and values within 0..255 are kept.

    needed_size maps the upright image's (width, height) to the smallest size that serves the
    caller. With it, a large JPEG is decoded at a fraction of its size (see DRAFT_MARGIN), several
    times faster, and the returned image is smaller than the one in the file.

    reserve is called before decoding with the number of pixels that decoding holds in memory, and
    may wait until there is room.

    Thread-safe. Sets Pillow's pixel limit, a global of the process, to max_pixels: it guards
    images within images, such as those in icons.

    Raises InputError: not_an_image, truncated, too_large (the header's size is over max_pixels;
    nothing is decoded), unsupported, decode_failed, or unreadable when the stream fails.
    """
    stream = io.BytesIO(data) if isinstance(data, bytes) else data
    _silence_pillow_warnings()
    Image.MAX_IMAGE_PIXELS = max_pixels
    name = None
    try:
        head = stream.read(HEAD_BYTES)
        if not head:
            raise InputError("not_an_image", "The file is empty.")
        name = signature(head)
        with Image.open(stream, formats=_pillow_formats(name)) as image:
            return _upright_rgb(image, max_pixels, needed_size, reserve)
    except InputError:
        raise
    # Decoders raise many types on damaged bytes: OSError, SyntaxError, ValueError, struct.error,
    # zlib.error, OverflowError, IndexError and more. One bad file must not stop a job.
    except Exception as error:
        raise _describe_failure(error, name, stream, max_pixels) from error


def _silence_pillow_warnings() -> None:
    """Keep Pillow's warnings about odd metadata from the user.

    The filters are a global of the process that others change too, so each call checks for ours;
    warnings.catch_warnings is not thread-safe.
    """
    if not warnings.filters or warnings.filters[0] != _PILLOW_FILTER:
        warnings.filterwarnings("ignore", module=_PILLOW_FILTER[3].pattern)


def _pillow_formats(name: str | None) -> tuple[str, ...]:
    """Return the Pillow formats to try for a file with this signature."""
    if name is None:
        _register("PCX")
        return _FORMATS_WITHOUT_SIGNATURE
    _register(name)
    if name not in Image.OPEN:
        raise InputError("unsupported", f"{name} images are not supported.")
    if name in _CODECS and not features.check(_CODECS[name]):
        raise InputError("unsupported", f"This Pillow was built without {name}.")
    return (name,)


def _register(name: str) -> None:
    """Register the uncommon formats with Pillow, which takes a while, when one is needed."""
    if name in Image.OPEN:
        return
    with _register_lock:
        Image.init()
        if name != "HEIF" or "HEIF" in Image.OPEN:
            return
        try:
            from pillow_heif import register_heif_opener
        except ImportError as error:
            raise InputError(
                "unsupported", "HEIC images need the extra: pip install 'nasnet-cli[heif]'."
            ) from error
        register_heif_opener()


def _upright_rgb(
    image: Image.Image,
    max_pixels: int,
    needed_size: Callable[[Size], Size] | None,
    reserve: Callable[[int], object],
) -> Image.Image:
    width, height = image.size
    if width * height > max_pixels:
        raise InputError(
            "too_large", f"It has {width:,} x {height:,} pixels, more than {max_pixels:,} in all."
        )
    if max(width, height) > _MAX_SIDE:
        raise InputError("too_large", f"One side has more than {_MAX_SIDE:,} pixels.")
    if needed_size is not None and image.format in ("JPEG", "MPO"):
        is_sideways = _orientation(image) in _SIDEWAYS
        needed = needed_size((height, width) if is_sideways else (width, height))
        draft_width, draft_height = (math.ceil(side * DRAFT_MARGIN) for side in needed)
        image.draft(
            None, (draft_height, draft_width) if is_sideways else (draft_width, draft_height)
        )
    # A progressive JPEG is in memory at its full size, at whatever size it is decoded.
    is_progressive = "progressive" in image.info
    reserve(width * height if is_progressive else image.width * image.height)
    image.load()
    # Read after loading: TIFF and HEIC apply the orientation themselves and remove it, and a
    # PNG's EXIF may follow its pixels.
    transpose = _TRANSPOSES.get(_orientation(image))
    rgb = _to_rgb(image)
    return rgb if transpose is None else rgb.transpose(transpose)


def _orientation(image: Image.Image) -> int:
    """Return the EXIF orientation, 1 (upright) to 8; 1 where there is none or it is damaged."""
    try:
        value = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # as with pixels, damage raises many types; the pixels are still good
        return 1
    return value if isinstance(value, int) else 1


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):
        return _16_bit_to_rgb(image)
    if image.mode == "I" and image.format == "PPM":
        # Pillow scales every PGM of more than 8 bits to 0..65535.
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        return _range_to_rgb(image)
    if image.has_transparency_data:
        rgba = image if image.mode == "RGBA" else image.convert("RGBA")
        white = Image.new("RGB", image.size, "white")
        white.paste(rgba, (0, 0), rgba)
        return white
    return image if image.mode == "RGB" else image.convert("RGB")


def _16_bit_to_rgb(image: Image.Image) -> Image.Image:
    values = np.asarray(image)
    tags = getattr(image, "tag_v2", {})  # a TIFF's
    bits = tags.get(_TIFF_BITS_PER_SAMPLE, (16,))[0]
    grey = (values >> (max(bits, 8) - 8)).astype(np.uint8)
    if tags.get(_TIFF_PHOTOMETRIC) == _WHITE_IS_ZERO:
        grey = 255 - grey
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        grey[values == transparent] = 255
    return Image.fromarray(grey).convert("RGB")


def _range_to_rgb(image: Image.Image) -> Image.Image:
    """Scale 32-bit integers or floats to grey levels. NaN becomes the darkest."""
    values = np.asarray(image)
    low, high = _finite_range(values)
    if low >= 0 and high <= 255:
        low, high = 0.0, 1.0 if image.mode == "F" and high <= 1 else 255.0
    grey = np.empty(values.shape, np.uint8)
    # In doubles, which hold every 32-bit integer and any float's range; row by row, since a whole
    # image in doubles can be gigabytes.
    for row, grey_row in zip(values, grey, strict=True):
        exact = np.nan_to_num(row.astype(np.float64), nan=low, posinf=high, neginf=low)
        grey_row[:] = np.rint((exact - low) * (255 / ((high - low) or 1)))
    return Image.fromarray(grey).convert("RGB")


def _finite_range(values: NDArray[np.int32] | NDArray[np.float32]) -> tuple[float, float]:
    """Return the lowest and the highest finite value; (0, 0) when there is none."""
    if values.dtype.kind == "i":
        return float(values.min()), float(values.max())
    finite = np.isfinite(values)
    if not finite.any():
        return 0.0, 0.0
    low = values.min(where=finite, initial=np.inf)
    return float(low), float(values.max(where=finite, initial=-np.inf))


def _describe_failure(
    error: Exception, name: str | None, stream: BinaryIO, max_pixels: int
) -> InputError:
    """Return the row's error for what a decoder raised."""
    message = str(error).lower()
    subject = f"The {name} image" if name else "The image"
    if isinstance(error, MemoryError):
        return InputError("too_large", "There is not enough memory to decode it.")
    if isinstance(error, Image.DecompressionBombError):
        return InputError("too_large", f"It has more than {max_pixels:,} pixels.")
    if isinstance(error, UnidentifiedImageError) and name is None:
        return InputError("not_an_image", "This is not an image in a format that nasnet can read.")
    if isinstance(error, OSError) and error.errno is not None:
        return InputError("unreadable", f"It cannot be read: {error.strerror}.")
    if "truncated" in message or "end of file" in message or _is_cut_short(name, stream):
        return InputError("truncated", f"{subject} ends too early.")
    if isinstance(error, NotImplementedError) or any(
        words in message for words in ("unsupported", "not supported", "not available")
    ):
        return InputError("unsupported", f"{subject} is of a kind that is not supported.")
    return InputError("decode_failed", f"{subject} is damaged.")


def _is_cut_short(name: str | None, stream: BinaryIO) -> bool:
    """Return whether a file that failed to decode lacks its format's end."""
    try:
        size = stream.seek(0, io.SEEK_END)
        if name == "WEBP":
            stream.seek(4)
            return int.from_bytes(stream.read(4), "little") + 8 > size
        stream.seek(max(0, size - HEAD_BYTES))
        return name in _LAST_BYTES and _LAST_BYTES[name] not in stream.read()
    except (OSError, ValueError):  # the stream failed for good, or a decoder closed it
        return False
