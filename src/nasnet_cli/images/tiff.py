"""TIFF directories, and which TIFF images Pillow decodes correctly.

RAW files of most cameras are made of TIFF directories too.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from nasnet_cli.errors import InputError

if TYPE_CHECKING:
    from PIL.TiffImagePlugin import TiffImageFile

BITS, PHOTOMETRIC, STRIP_OFFSETS, ORIENTATION, STRIP_BYTES = 258, 262, 273, 274, 279
SAMPLE_FORMAT = 339
WHITE_IS_ZERO, UNSIGNED = 0, 1
_WIDTH, _HEIGHT, _COMPRESSION, _SAMPLES, _PLANAR, _PREDICTOR = 256, 257, 259, 277, 284, 317
_TILE_OFFSETS, _SUBDIRECTORIES = 324, 330
_SIGNED, _FLOAT = 2, 3
_OLD_JPEG, _JPEG, _PACKBITS, _WEBP = 6, 7, 32773, 50001

Directory = dict[int, tuple[int, ...]]
"""Integer values by tag. A value of bytes is given as its offset in the file and its length."""

# struct's codes by TIFF type. Other types are skipped, and bytes (7) located.
_CODES = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i", 13: "I", 16: "Q", 17: "q", 18: "Q"}
_BYTES = 7
_MAX_VALUES, _MAX_DIRECTORIES = 1 << 16, 64

# Pillow keeps the file's byte order here, but libtiff returns the machine's.
_NATIVE_RAW_MODES = {"F;32BF": "F;32NF", "I;16BS": "I;16NS", "I;32BS": "I;32NS"}


class TiffReader:
    """A reader of the directories of a TIFF file, or of a part of a file that is written like one.

    base is the position that offsets count from; order is struct's, from the header unless given.
    """

    def __init__(self, stream: BinaryIO, base: int = 0, order: str = "") -> None:
        self._stream, self._base = stream, base
        stream.seek(base)
        self._header = stream.read(16)
        self._order = order or (">" if self._header[:2] == b"MM" else "<")
        self._is_big = self._header[2:4] in (b"+\0", b"\0+")
        self._offset_code = self._order + ("Q" if self._is_big else "I")

    def directories(self) -> list[Directory]:
        """Return all directories, each followed by its subdirectories, without damaged ones."""
        try:
            pending = list(
                struct.unpack_from(self._offset_code, self._header, 8 * self._is_big or 4)
            )
        except struct.error:
            return []
        directories: list[Directory] = []
        visited: set[int] = set()
        while pending and len(directories) < _MAX_DIRECTORIES:
            offset = pending.pop(0)
            if offset and offset not in visited:
                visited.add(offset)
                directory, following = self.directory(offset)
                directories.append(directory)
                pending = [*directory.get(_SUBDIRECTORIES, ()), following, *pending]
        return directories

    def directory(self, offset: int) -> tuple[Directory, int]:
        """Return the directory at an offset, and the next one's offset (0: none, or damaged)."""
        directory: Directory = {}
        count_code, entry_code = ("Q", "HHQ8s") if self._is_big else ("H", "HHI4s")
        try:
            self._stream.seek(self._base + offset)
            (count,) = self._unpack(self._order + count_code)
            entry_size = struct.calcsize("=" + entry_code)
            entries = self._stream.read(min(count, _MAX_VALUES) * entry_size)
            tail = self._stream.read(struct.calcsize(self._offset_code))
            for tag, *entry in struct.iter_unpack(self._order + entry_code, entries):
                if values := self._values(*entry):
                    directory[tag] = values
            (following,) = struct.unpack(self._offset_code, tail)
        except (struct.error, ValueError, OverflowError):
            return directory, 0
        return directory, following

    def _values(self, type_: int, count: int, inline: bytes) -> tuple[int, ...]:
        if type_ == _BYTES and count > len(inline):
            return self._base + struct.unpack(self._offset_code, inline)[0], count
        code = _CODES.get(type_)
        if code is None or count > _MAX_VALUES:
            return ()
        values_code = f"{self._order}{count}{code}"
        if struct.calcsize(values_code) <= len(inline):
            return struct.unpack_from(values_code, inline)
        self._stream.seek(self._base + struct.unpack(self._offset_code, inline)[0])
        return self._unpack(values_code)

    def _unpack(self, code: str) -> tuple[int, ...]:
        return struct.unpack(code, self._stream.read(struct.calcsize(code)))


def check_supported(directory: Directory) -> None:
    """Raise InputError (unsupported) for an image that Pillow would decode wrongly."""
    compression = directory.get(_COMPRESSION, (1,))[0]
    bits, samples = max(directory.get(BITS, (1,))), directory.get(_SAMPLES, (1,))[0]
    is_planar, is_grey = directory.get(_PLANAR) == (2,), directory.get(PHOTOMETRIC) in ((0,), (1,))
    if (
        (compression == _PACKBITS and directory.get(_PREDICTOR, (1,)) != (1,))  # is not undone
        or (compression in (_OLD_JPEG, _JPEG) and bits > 8)
        or compression == _WEBP
        or (is_planar and (samples > 4 or (is_grey and samples > 1)))
        or (is_grey and bits == 8 and directory.get(SAMPLE_FORMAT) == (_SIGNED,))  # as unsigned
    ):
        raise unsupported(directory)


def is_complete(directory: Directory) -> bool:
    """Return whether a directory has what every image needs: a size, and where its pixels are."""
    return {_WIDTH, _HEIGHT} <= directory.keys() and (
        STRIP_OFFSETS in directory or _TILE_OFFSETS in directory
    )


def unsupported(directory: Directory) -> InputError:
    """Return the error for an image of a kind that Pillow can't decode."""
    kind = " (float)" if _FLOAT in directory.get(SAMPLE_FORMAT, ()) else ""
    bits, samples = max(directory.get(BITS, (1,))), directory.get(_SAMPLES, (1,))[0]
    compression, photometric = (
        directory.get(_COMPRESSION, (1,))[0],
        directory.get(PHOTOMETRIC, (1,))[0],
    )
    return InputError(
        "unsupported",
        f"TIFF images with {samples} x {bits} bits{kind}, compression {compression} and "
        f"photometric interpretation {photometric} are not supported.",
    )


def correct_tiles(image: TiffImageFile) -> None:
    """Correct how Pillow is about to decode an image, where it would get the samples wrong."""
    from PIL import TiffImagePlugin

    if image.use_load_libtiff:
        tile = image.tile[0]
        raw_mode, *others = cast(tuple[Any, ...], tile.args)
        image.tile = [tile._replace(args=(_NATIVE_RAW_MODES.get(raw_mode, raw_mode), *others))]
    elif image.tag_v2.get(_PLANAR) == 2:
        # Pillow takes each plane for 8 bits, and knows no plane of premultiplied alpha. The switch
        # is for the whole process; libtiff reads other images that see it as well.
        TiffImagePlugin.READ_LIBTIFF = True
        try:
            image._setup()
        finally:
            TiffImagePlugin.READ_LIBTIFF = False
