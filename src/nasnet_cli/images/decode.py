"""Decoding: from a file's bytes to the RGB image that a viewer would show."""

from __future__ import annotations

import hashlib
import io
import logging
import math
import re
import threading
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, BinaryIO, cast

from PIL import ExifTags, Image, UnidentifiedImageError, features

from nasnet_cli.errors import InputError
from nasnet_cli.images import jpeg, png, tiff
from nasnet_cli.images.color import to_rgb
from nasnet_cli.images.formats import HEAD_BYTES, packer, signature
from nasnet_cli.images.tiff import TiffReader
from nasnet_cli.systems import return_freed_memory

if TYPE_CHECKING:
    from PIL.ImageFile import ImageFile
    from PIL.TiffImagePlugin import TiffImageFile

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
_PSD_BITS = 22  # the position of their number in the header
_LAST_BYTES = {"JPEG": b"\xff\xd9", "PNG": b"IEND", "GIF": b";"}

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

_register_lock = threading.Lock()


return_freed_memory()
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
    """Decode an image to an upright Image as a viewer would show it.

    The Image is in mode RGB. Only where it has an ICC profile that isn't sRGB, it stays in the
    profile's colours, in mode RGB, L or CMYK with info["icc_profile"], which color.to_srgb
    converts: preprocess does so after the resize, where it costs little.

    data is a file's content or a seekable stream of it, which stays open. Decodes the first frame
    of an animation, or a RAW file's largest JPEG preview, and applies the EXIF orientation.
    Palette, grey, CMYK, YCbCr, LAB and 1-bit images become RGB; alpha is composited on white;
    16-bit samples keep their high byte. 32-bit integer and float images are scaled from their own
    range when it goes beyond 0..255, floats within 0..1 from that range, and values within 0..255
    are kept.

    Like viewers, ignores that a JPEG lacks its end marker, and damaged or very large chunks of a
    PNG that have nothing to do with its pixels.

    needed_size maps the upright image's (width, height) to the smallest size that serves the
    caller. With it, a large JPEG is decoded at a fraction of its size (see DRAFT_MARGIN), several
    times faster, and the returned image is smaller than the one in the file.

    reserve is called before each attempt to decode with the number of pixels that it holds in
    memory, and may wait until there is room.

    Thread-safe. Sets Pillow's pixel limit, a global of the process, to max_pixels: it guards
    images within images, such as those in icons.

    Raises InputError: not_an_image, truncated, too_large (the header's size is over max_pixels;
    nothing is decoded), unsupported, decode_failed, or unreadable when the stream fails.
    """
    stream = io.BytesIO(data) if isinstance(data, bytes) else data
    _silence_pillow_warnings()
    Image.MAX_IMAGE_PIXELS = max_pixels
    decoder = _Decoder(max_pixels, needed_size, reserve)
    name = None
    try:
        head = stream.read(HEAD_BYTES)
        if not head:
            raise InputError("not_an_image", "The file is empty.")
        name = signature(head)
        return decoder.decode(name, stream)
    except InputError:
        raise
    # Decoders raise many types on damaged bytes: OSError, SyntaxError, ValueError, struct.error,
    # zlib.error, OverflowError, IndexError and more. One bad file must not stop a job.
    except Exception as error:
        failure = describe_failure(error, name, stream, max_pixels)
        image = _decode_repaired(decoder, name, stream, failure)
        if image is None:
            failure.cause = type(error).__name__
            raise failure from error
        return image


def upright(image: Image.Image) -> Image.Image:
    """Convert an image in memory as decode does a file's; the given one stays as it is.

    Raises what Pillow raises when it reads the pixels of a file that is only open yet.
    """
    _check_size(image.size, MAX_PIXELS)
    own = image.copy()
    transpose = _TRANSPOSES.get(_exif_orientation(own))
    for name in ("format", "tag_v2"):  # which a copy forgets, and to_rgb asks for
        if hasattr(image, name):
            setattr(own, name, getattr(image, name))
    rgb = to_rgb(own)
    return rgb if transpose is None else rgb.transpose(transpose)


def _check_size(size: Size, max_pixels: int) -> None:
    """Raise InputError (too_large) for an image of more pixels, or with a very long side."""
    width, height = size
    if width * height > max_pixels:
        raise InputError(
            "too_large", f"It has {width:,} x {height:,} pixels, more than {max_pixels:,} in all."
        )
    if max(width, height) > _MAX_SIDE:
        raise InputError("too_large", f"One side has more than {_MAX_SIDE:,} pixels.")


def read_size(stream: BinaryIO, *, max_pixels: int = MAX_PIXELS) -> Size:
    """Return an image's width and height as stored, from its header; decode no pixel.

    A RAW file has the size of its preview. Raises InputError where the header cannot be read.
    """
    _silence_pillow_warnings()
    Image.MAX_IMAGE_PIXELS = max_pixels
    name = None
    try:
        name = signature(stream.read(HEAD_BYTES))
        if (preview := _raw_preview(name, stream)) is not None:
            name, stream = "JPEG", preview[0]
        stream.seek(0)
        with Image.open(stream, formats=_pillow_formats(name)) as image:
            return image.size
    except InputError:
        raise
    except Exception as error:  # of many types, as in decode
        raise describe_failure(error, name, stream, max_pixels) from error


def _raw_preview(name: str | None, stream: BinaryIO) -> tuple[BinaryIO, int | None] | None:
    """Return the JPEG in a RAW file and its orientation; None for other files."""
    if name in ("RAW", "TIFF"):
        from nasnet_cli.images import raw  # only for these: most runs start without it

        if name == "RAW" or raw.is_raw_tiff(stream):
            preview = raw.find_preview(stream)
            stream.seek(preview.offset)
            return io.BytesIO(stream.read(preview.length)), preview.orientation
    return None


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
            from pi_heif import register_heif_opener
        except ImportError as error:
            message = "HEIC images need a package that is missing: pip install pi-heif."
            raise InputError("unsupported", message) from error
        register_heif_opener(thumbnails=False)


class _Decoder:
    """A decoder of one file, in several attempts if need be."""

    def __init__(
        self,
        max_pixels: int,
        needed_size: Callable[[Size], Size] | None,
        reserve: Callable[[int], object],
    ) -> None:
        self._max_pixels, self._needed_size, self._reserve = max_pixels, needed_size, reserve

    def decode(
        self, name: str | None, stream: BinaryIO, orientation: int | None = None
    ) -> Image.Image:
        """Decode a stream with this signature, turned by its EXIF orientation unless one is given."""
        if (preview := _raw_preview(name, stream)) is not None:
            return self.decode("JPEG", *preview)
        if name == "TIFF":
            for directory in TiffReader(stream).directories()[:1]:
                tiff.check_supported(directory)
        stream.seek(0)
        with Image.open(stream, formats=_pillow_formats(name)) as image:
            return self._load(image, stream, orientation)

    def _load(self, image: ImageFile, stream: BinaryIO, orientation: int | None) -> Image.Image:
        width, height = image.size
        _check_size(image.size, self._max_pixels)
        if image.format in ("JPEG", "MPO"):
            position = stream.tell()
            jpeg.check_scans(stream, width * height)
            stream.seek(position)
        if self._needed_size is not None and image.format in ("JPEG", "MPO"):
            is_sideways = (orientation or _exif_orientation(image)) in _SIDEWAYS
            needed = self._needed_size((height, width) if is_sideways else (width, height))
            draft_width, draft_height = (math.ceil(side * DRAFT_MARGIN) for side in needed)
            image.draft(
                None, (draft_height, draft_width) if is_sideways else (draft_width, draft_height)
            )
        if image.format == "TIFF":
            tiff.correct_tiles(cast("TiffImageFile", image))
            image.info.pop("xmp", None)  # or Pillow would turn the image as XMP says
        has_16_bit_transparency = png.has_16_bit_transparency(image)
        # A progressive JPEG is in memory at its full size, at whatever size it is decoded.
        is_progressive = "progressive" in image.info
        self._reserve(width * height if is_progressive else image.width * image.height)
        image.load()
        # Read after loading: TIFF and HEIC apply the orientation themselves and remove it, and a
        # PNG's EXIF may follow its pixels.
        transpose = _TRANSPOSES.get(orientation or _exif_orientation(image))
        if has_16_bit_transparency:
            png.whiten_16_bit_transparency(image, stream)
        rgb = to_rgb(image)
        return rgb if transpose is None else rgb.transpose(transpose)


def _decode_repaired(
    decoder: _Decoder, name: str | None, stream: BinaryIO, failure: InputError
) -> Image.Image | None:
    """Decode a damaged file that viewers show all the same; return None for any other."""
    essential = {"JPEG": jpeg.essential_segments, "PNG": png.essential_chunks}.get(name or "")
    if essential is None or failure.kind not in ("truncated", "decode_failed"):
        return None
    try:
        stream.seek(0)
        content = stream.read()
        if failure.kind == "decode_failed":
            return decoder.decode(name, io.BytesIO(essential(content)))
        if name == "PNG":
            return None
        digests = set[bytes]()
        for candidate in jpeg.completions(content):
            image = decoder.decode(name, io.BytesIO(candidate))
            digests.add(hashlib.sha256(image.tobytes()).digest())
    except Exception:  # as in decode; the first failure is the one to report
        return None
    return image if len(digests) == 1 else None


def _exif_orientation(image: Image.Image) -> int:
    """Return the EXIF orientation, 1 (upright) to 8; 1 where there is none or it is damaged."""
    for key in ("xmp", "XML:com.adobe.xmp"):  # where Pillow looks too, and viewers don't
        image.info.pop(key, None)
    try:
        value = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # as with pixels, damage raises many types; the pixels are still good
        return 1
    return value if isinstance(value, int) else 1


def describe_failure(
    error: Exception, name: str | None, stream: BinaryIO, max_pixels: int = MAX_PIXELS
) -> InputError:
    """Return the row's error for what a decoder raised; name is the signature of its stream."""
    message = str(error).lower()
    subject = f"The {name} image" if name else "The image"
    if isinstance(error, MemoryError):
        return InputError("too_large", "There is not enough memory to decode it.")
    if isinstance(error, Image.DecompressionBombError):
        return InputError("too_large", f"It has more than {max_pixels:,} pixels.")
    if isinstance(error, UnidentifiedImageError) and name is None:
        return _describe_unknown(stream)
    if isinstance(error, OSError) and error.errno is not None:
        return InputError("unreadable", f"It cannot be read: {error.strerror}.")
    if (unsupported := _describe_unsupported(error, name, stream)) is not None:
        return unsupported
    if "truncated" in message or "end of file" in message or _is_cut_short(name, stream):
        return InputError("truncated", f"{subject} ends too early.")
    if isinstance(error, NotImplementedError) or any(
        words in message for words in ("unsupported", "not supported", "not available")
    ):
        return InputError("unsupported", f"{subject} is of a kind that is not supported.")
    return InputError("decode_failed", f"{subject} is damaged.")


def _describe_unknown(stream: BinaryIO) -> InputError:
    """Return the error for a file in none of the formats: named where it only has to be unpacked."""
    try:
        stream.seek(0)
        if name := packer(stream.read(HEAD_BYTES)):
            return InputError("unsupported", f"It is packed by {name}. Unpack it first.")
    except (OSError, ValueError):  # the stream failed for good, or a decoder closed it
        pass
    return InputError("not_an_image", "This is not an image in a format that nasnet can read.")


def _describe_unsupported(
    error: Exception, name: str | None, stream: BinaryIO
) -> InputError | None:
    """Return the error for an image of a kind that Pillow can't decode; None for other failures."""
    try:
        if name == "TIFF" and isinstance(error, UnidentifiedImageError):
            directory = next(iter(TiffReader(stream).directories()), {})
            return tiff.unsupported(directory) if tiff.is_complete(directory) else None
        if name == "JPEG":
            frame = jpeg.read_frame(stream)
            if frame is not None and not frame.is_decodable:
                return InputError(
                    "unsupported",
                    f"JPEG images of kind SOF{frame.marker - 0xC0} with {frame.bits} bits per sample "
                    "are not supported.",
                )
        if name == "PSD":
            stream.seek(_PSD_BITS)
            bits = int.from_bytes(stream.read(2), "big")
            if bits in (16, 32):
                return InputError("unsupported", f"PSD images with {bits} bits are not supported.")
    except (OSError, ValueError):  # the stream failed for good, or a decoder closed it
        pass
    return None


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
