"""RGB profiles of three curves and a matrix, as most are, converted to sRGB with NumPy.

In half of LittleCMS' time, and nearer to the formulas.
"""

from __future__ import annotations

import struct

import numpy as np
from numpy.typing import NDArray
from PIL import Image

# The XYZ of sRGB's primaries, adapted to D50, one a column.
_SRGB = np.array(
    [[0.43607, 0.38515, 0.14307], [0.22249, 0.71687, 0.06061], [0.01392, 0.09708, 0.7141]]
)
_CHANNELS = (b"r", b"g", b"b")
_STEPS = 1 << 14
_PART_PIXELS = 1 << 13  # whose values fit into a processor's cache
_GAMMA, _LINEAR_START = 0, 3  # kinds of parametric curves


class MatrixTransform:
    """The transform from a matrix profile to sRGB.

    Raises ValueError for a profile of another kind or with a curve for each channel, and where
    curve or matrix are damaged.
    """

    def __init__(self, profile: bytes) -> None:
        try:
            tags = _read_tags(profile)
            columns = [struct.unpack_from(">3i", tags[c + b"XYZ"], 8) for c in _CHANNELS]
            curve, *others = (tags[c + b"TRC"] for c in _CHANNELS)
            with np.errstate(all="ignore"):
                self._curve = _read_curve(curve)
        except (KeyError, struct.error) as error:
            raise ValueError("not a matrix profile") from error
        if others != [curve, curve]:
            raise ValueError("curves that differ")
        if not np.all((self._curve >= 0) & (self._curve <= 1)):
            raise ValueError("values out of range")
        matrix = _STEPS / 65536 * np.linalg.inv(_SRGB) @ np.transpose(columns)
        self._matrix = matrix.astype(np.float32)

    def apply(self, image: Image.Image) -> Image.Image:
        """Convert an RGB image. Thread-safe."""
        levels = np.asarray(image).reshape(-1, 3).T
        converted = np.empty(levels.shape, np.uint8)
        for start in range(0, levels.shape[1], _PART_PIXELS):
            part = slice(start, start + _PART_PIXELS)
            linear = self._matrix @ self._curve.take(levels[:, part], mode="wrap")
            converted[:, part] = _ENCODED.take(linear.astype(np.intp), mode="clip")
        bands = converted.reshape(3, image.height, image.width)
        return Image.merge("RGB", [Image.fromarray(band) for band in bands])


def _encode(linear: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Return the levels of sRGB for linear values in [0, 1]."""
    curved = 1.055 * linear ** (1 / 2.4) - 0.055
    levels: NDArray[np.uint8] = np.rint(
        255 * np.where(linear <= 0.0031308, 12.92 * linear, curved)
    ).astype(np.uint8)
    return levels


_ENCODED = _encode((np.arange(_STEPS) + 0.5) / _STEPS)


def _read_tags(profile: bytes) -> dict[bytes, bytes]:
    (count,) = struct.unpack_from(">I", profile, 128)
    entries = (struct.unpack_from(">4sII", profile, 132 + 12 * i) for i in range(min(count, 100)))
    return {name: profile[start : start + length] for name, start, length in entries}


def _read_curve(tag: bytes) -> NDArray[np.float32]:
    """Return the linear values in [0, 1] of the levels 0..255."""
    levels = np.arange(256) / 255
    values: NDArray[np.float64]
    if tag[:4] == b"curv":
        (count,) = struct.unpack_from(">I", tag, 8)
        table = struct.unpack_from(f">{count}H", tag, 12)
        if count > 1:
            values = np.interp(levels, np.linspace(0, 1, count), np.divide(table, 65535))
        else:
            values = levels ** (table[0] / 256 if table else 1)
        return np.asarray(values, np.float32)
    kind, *parameters = struct.unpack_from(">H2x7i", tag.ljust(40, b"\0"), 8)
    gamma, a, b, c, d, *_ = (value / 65536 for value in parameters)
    if tag[:4] != b"para" or kind not in (_GAMMA, _LINEAR_START):
        raise ValueError("a curve of another kind")
    values = levels**gamma
    if kind == _LINEAR_START:
        values = np.where(levels >= d, np.maximum(0, a * levels + b) ** gamma, c * levels)
    return np.asarray(values, np.float32)
