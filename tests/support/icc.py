"""ICC profiles made by hand, of the 2.4 specification, with known colours."""

from __future__ import annotations

import itertools
import struct
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

D50 = (0.9642, 1.0, 0.8249)
# The primaries' XYZ, adapted to D50, one a column.
SRGB = np.array(
    [[0.43607, 0.38515, 0.14307], [0.22249, 0.71687, 0.06061], [0.01392, 0.09708, 0.7141]]
)
DISPLAY_P3 = np.array(
    [[0.51512, 0.29198, 0.1571], [0.2412, 0.69225, 0.06657], [-0.00105, 0.04189, 0.78407]]
)
PROPHOTO = np.array([[0.79767, 0.13519, 0.03134], [0.28804, 0.71188, 0.00009], [0.0, 0.0, 0.82491]])


def rgb_profile(primaries: NDArray[np.float64], *curves: float | bytes) -> bytes:
    """Return an RGB profile with these primaries, one a column.

    The curves are one for all channels or one each: gammas, or curves as tags.
    """
    tags = {b"wtpt": _xyz(D50)}
    for i, (name, column) in enumerate(zip((b"r", b"g", b"b"), primaries.T, strict=True)):
        curve = curves[i % len(curves)]
        tag = curve if isinstance(curve, bytes) else _gamma(curve)
        tags |= {name + b"XYZ": _xyz(column), name + b"TRC": tag}
    return _profile(b"mntr", b"RGB ", b"XYZ ", tags)


def srgb_profile() -> bytes:
    """Return sRGB as a profile with its curve as a table, as most files have it."""
    table = np.round(srgb_to_linear(np.linspace(0, 1, 1024)) * 65535).astype(">u2").tobytes()
    tags = {b"wtpt": _xyz(D50)}
    for name, column in zip((b"r", b"g", b"b"), SRGB.T, strict=True):
        curve = b"curv\0\0\0\0" + struct.pack(">I", 1024) + table
        tags |= {name + b"XYZ": _xyz(column), name + b"TRC": curve}
    return _profile(b"mntr", b"RGB ", b"XYZ ", tags)


def grey_profile(gamma: float) -> bytes:
    return _profile(b"mntr", b"GRAY", b"XYZ ", {b"wtpt": _xyz(D50), b"kTRC": _gamma(gamma)})


def cmyk_profile(lightness: Callable[[int, int, int, int], float]) -> bytes:
    """Return a CMYK profile that is neutral, with this L* (0..100) where inks are 0 or 1."""
    values = [
        channel
        for inks in itertools.product((0, 1), repeat=4)
        for channel in (round(lightness(*inks) * 65280 / 100), 0x8000, 0x8000)
    ]
    identity = struct.pack(">9i", *(65536 if i % 4 == 0 else 0 for i in range(9)))
    lut = b"mft2\0\0\0\0" + bytes((4, 3, 2, 0)) + identity + struct.pack(">HH", 2, 2)
    lut += struct.pack(">HH", 0, 65535) * 4 + struct.pack(f">{len(values)}H", *values)
    lut += struct.pack(">HH", 0, 65535) * 3
    return _profile(b"prtr", b"CMYK", b"Lab ", {b"wtpt": _xyz(D50), b"A2B0": lut})


def srgb_to_linear(encoded: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)


def linear_to_srgb(linear: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return sRGB levels, 0..255, by the standard's formula."""
    linear = np.clip(linear, 0, 1)
    encoded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return encoded * 255


def rgb_to_srgb(
    levels: NDArray[np.uint8], primaries: NDArray[np.float64], gamma: float
) -> NDArray[np.float64]:
    """Return the sRGB levels of [..., 3] levels in the profile of rgb_profile, by the formulas."""
    linear = (levels / 255.0) ** gamma
    return linear_to_srgb(linear @ primaries.T @ np.linalg.inv(SRGB).T)


def _profile(class_: bytes, space: bytes, connection: bytes, tags: Mapping[bytes, bytes]) -> bytes:
    start = 128 + 4 + 12 * len(tags)
    table, data = struct.pack(">I", len(tags)), b""
    for name, tag in tags.items():
        table += name + struct.pack(">II", start + len(data), len(tag))
        data += tag + bytes(-len(tag) % 4)
    head = struct.pack(">I4xI4s4s4s", start + len(data), 0x02400000, class_, space, connection)
    head += struct.pack(">6H4s", 2026, 1, 1, 0, 0, 0, b"acsp")
    head = head.ljust(68, b"\0") + struct.pack(">3i", *(round(v * 65536) for v in D50))
    return head.ljust(128, b"\0") + table + data


def _xyz(values: tuple[float, ...] | NDArray[np.float64]) -> bytes:
    return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(float(v) * 65536) for v in values))


def _gamma(gamma: float) -> bytes:
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256))
