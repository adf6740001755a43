"""From a file's bytes to the RGB picture that a viewer would show."""

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
"""Pictures with more pixels are too_large, unless told otherwise."""

DRAFT_MARGIN = 2
"""A JPEG is decoded at 1/2, 1/4 or 1/8 of its size only where that leaves each side at least this
many times as long as the caller needs, so that the resampling which follows still averages over
several pixels and the result doesn't change visibly."""

# A side far beyond any picture's, where the tables of a resampling take gigabytes.
_MAX_SIDE = 1_000_000

# Pillow also reads what isn't a picture or runs a program (EPS, WMF, HDF5, GRIB, MPEG, FITS),
# and formats that hardly anybody has and random bytes may look like. Those are never tried.
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
_SIDES_SWAP = frozenset((5, 6, 7, 8))

# As warnings.filterwarnings("ignore", module=...) files it.
_QUIET = ("ignore", None, Warning, re.compile(r"PIL\."), 0)

# mallopt's name for it. Pillow takes blocks of 16 MB for pictures that are larger.
_M_MMAP_THRESHOLD, _LARGE_BLOCK_BYTES = -3, 8 << 20

_registering = threading.Lock()


def _give_memory_back() -> None:
    """Makes glibc return large blocks to the system as soon as they are freed.

    By itself it learns from the first large picture to keep such blocks, for each thread its own,
    until eight threads hold a gigabyte of nothing.
    """
    with contextlib.suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, _LARGE_BLOCK_BYTES)


_give_memory_back()
logging.getLogger("PIL").addHandler(logging.NullHandler())  # or it goes to the terminal
Image.preinit()  # the common formats now, not in whichever thread comes first

Size = tuple[int, int]
"""Width and height in pixels."""


def decode(
    data: bytes | BinaryIO,
    *,
    max_pixels: int = MAX_PIXELS,
    needed_size: Callable[[Size], Size] | None = None,
    reserve: Callable[[int], object] = lambda pixels: None,
) -> Image.Image:
    """The picture in a file's bytes, in mode RGB, upright, as a viewer would show it.

    data is the file's content or a seekable stream of it, which stays open. The first frame of an
    animation is taken and EXIF orientation applied. Palettes, grey, CMYK, YCbCr, LAB and 1-bit
    pictures become RGB; alpha lies on white; 16-bit grey is shown by its high byte. 32-bit
    integer and float pictures are scaled from their own range when it goes beyond 0..255, floats
    within 0..1 from that range, and the rest is taken as it is.

    needed_size maps the upright picture's (width, height) to the size that it may be shrunk to
    while it still serves; with it, a large JPEG is decoded at a fraction of its size (see
    DRAFT_MARGIN), several times faster. The result is then smaller than the picture in the file.

    reserve is called with the number of pixels that decoding will have in memory, before it begins,
    and may wait until there is room.

    Safe from any thread. Pillow's own pixel limit, which is one for the process, is set to
    max_pixels: it guards what the first header doesn't tell, such as pictures within icons.

    Raises InputError: not_an_image, truncated, too_large (max_pixels is compared with the header,
    before anything is decoded), unsupported, decode_failed, or unreadable when the stream fails.
    """
    stream = io.BytesIO(data) if isinstance(data, bytes) else data
    _quieten_pillow()
    Image.MAX_IMAGE_PIXELS = max_pixels
    name = None
    try:
        head = stream.read(HEAD_BYTES)
        if not head:
            raise InputError("not_an_image", "The file is empty.")
        name = signature(head)
        with Image.open(stream, formats=_formats(name)) as image:
            return _upright_rgb(image, max_pixels, needed_size, reserve)
    except InputError:
        raise
    # The boundary to the decoders. What they raise on damaged bytes is no closed list: OSError,
    # SyntaxError, ValueError, struct.error, zlib.error, OverflowError, IndexError and more; and
    # one bad file must not stop a job.
    except Exception as error:
        raise _explain(error, name, stream, max_pixels) from error


def _quieten_pillow() -> None:
    """Keeps Pillow's remarks on odd metadata from the user.

    The filter is a global of the process. It is looked for on each call, since others add filters
    before it or take it away; warnings.catch_warnings would not be safe in threads.
    """
    if not warnings.filters or warnings.filters[0] != _QUIET:
        warnings.filterwarnings("ignore", module=_QUIET[3].pattern)


def _formats(name: str | None) -> tuple[str, ...]:
    """The Pillow formats to try for a file of this signature."""
    if name is None:
        _register("PCX")
        return _FORMATS_WITHOUT_SIGNATURE
    _register(name)
    if name not in Image.OPEN:
        raise InputError("unsupported", f"{name} pictures can't be read here.")
    if name in _CODECS and not features.check(_CODECS[name]):
        raise InputError("unsupported", f"This Pillow was built without {name}.")
    return (name,)


def _register(name: str) -> None:
    """Makes Pillow know a format that isn't among the common ones, which takes a while."""
    if name in Image.OPEN:
        return
    with _registering:
        Image.init()
        if name != "HEIF" or "HEIF" in Image.OPEN:
            return
        try:
            from pillow_heif import register_heif_opener
        except ImportError as error:
            raise InputError(
                "unsupported", "HEIC pictures need the extra: pip install 'nasnet-cli[heif]'."
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
        swap = _orientation(image) in _SIDES_SWAP
        needed = needed_size((height, width) if swap else (width, height))
        draft_width, draft_height = (math.ceil(side * DRAFT_MARGIN) for side in needed)
        image.draft(None, (draft_height, draft_width) if swap else (draft_width, draft_height))
    # A progressive JPEG is held whole, at whatever size it is decoded.
    is_whole = "progressive" in image.info
    reserve(width * height if is_whole else image.width * image.height)
    image.load()
    # Read after loading: TIFF and HEIC have turned the pixels by then and say so here, and a
    # PNG's EXIF may stand behind its pixels.
    transpose = _TRANSPOSES.get(_orientation(image))
    rgb = _rgb(image)
    return rgb if transpose is None else rgb.transpose(transpose)


def _orientation(image: Image.Image) -> int:
    """EXIF's orientation, 1 (upright) to 8, or 1 when there is none to be read."""
    try:
        value = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # metadata can be damaged in as many ways as pixels, and matters less
        return 1
    return value if isinstance(value, int) else 1


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):
        return _from_16_bit(image)
    if image.mode == "I" and image.format == "PPM":
        # Pillow scales every PGM of more than 8 bits to 0..65535.
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        return _from_own_range(image)
    if image.has_transparency_data:
        rgba = image if image.mode == "RGBA" else image.convert("RGBA")
        white = Image.new("RGB", image.size, "white")
        white.paste(rgba, (0, 0), rgba)
        return white
    return image if image.mode == "RGB" else image.convert("RGB")


def _from_16_bit(image: Image.Image) -> Image.Image:
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


def _from_own_range(image: Image.Image) -> Image.Image:
    """Shows 32-bit integers and floats; what is not a number is shown as the darkest."""
    values = np.asarray(image)
    low, high = _range(values)
    if low >= 0 and high <= 255:
        low, high = 0.0, 1.0 if image.mode == "F" and high <= 1 else 255.0
    grey = np.empty(values.shape, np.uint8)
    # In doubles, which hold every 32-bit integer and any float's range; a row at a time, since
    # the whole picture would be gigabytes.
    for row, shown in zip(values, grey, strict=True):
        exact = np.nan_to_num(row.astype(np.float64), nan=low, posinf=high, neginf=low)
        shown[:] = np.rint((exact - low) * (255 / ((high - low) or 1)))
    return Image.fromarray(grey).convert("RGB")


def _range(values: NDArray[np.int32] | NDArray[np.float32]) -> tuple[float, float]:
    """The least and the greatest finite value; 0 and 0 when there is none."""
    if values.dtype.kind == "i":
        return float(values.min()), float(values.max())
    finite = np.isfinite(values)
    if not finite.any():
        return 0.0, 0.0
    low = values.min(where=finite, initial=np.inf)
    return float(low), float(values.max(where=finite, initial=-np.inf))


def _explain(error: Exception, name: str | None, stream: BinaryIO, max_pixels: int) -> InputError:
    said = str(error).lower()
    what = f"The {name} picture" if name else "The picture"
    if isinstance(error, (MemoryError, Image.DecompressionBombError)):
        if isinstance(error, MemoryError):
            return InputError("too_large", "There is not enough memory to decode it.")
        return InputError("too_large", f"It has more than {max_pixels:,} pixels.")
    if isinstance(error, UnidentifiedImageError) and name is None:
        return InputError("not_an_image", "This is not a picture of a format that can be read.")
    if isinstance(error, OSError) and error.errno is not None:
        return InputError("unreadable", f"It cannot be read: {error.strerror}.")
    if "truncated" in said or "end of file" in said or _is_cut_short(name, stream):
        return InputError("truncated", f"{what} ends too early.")
    if isinstance(error, NotImplementedError) or any(
        word in said for word in ("unsupported", "not supported", "not available")
    ):
        return InputError("unsupported", f"{what} is of a kind that can't be read here.")
    return InputError("decode_failed", f"{what} is damaged.")


def _is_cut_short(name: str | None, stream: BinaryIO) -> bool:
    """Whether a file that couldn't be decoded lacks its format's end."""
    try:
        size = stream.seek(0, io.SEEK_END)
        if name == "WEBP":
            stream.seek(4)
            return int.from_bytes(stream.read(4), "little") + 8 > size
        stream.seek(max(0, size - HEAD_BYTES))
        return name in _LAST_BYTES and _LAST_BYTES[name] not in stream.read()
    except (OSError, ValueError):  # a stream that failed for good, or was closed by a decoder
        return False
