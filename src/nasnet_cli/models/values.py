"""The values that a model takes for pixels: their range, and the order of the channels.

A range says how a channel's byte, 0 to 255, becomes the model's value: (byte - mean) / std. It is
called by a name in RANGES, or written out as "mean R,G,B std R,G,B".
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

Factors = tuple[tuple[float, ...], tuple[float, ...]]
"""The mean and the std of red, green and blue, in 0 to 255."""

RANGES: dict[str, Factors] = {
    "0..1": ((0.0,) * 3, (255.0,) * 3),
    "-1..1": ((127.5,) * 3, (127.5,) * 3),
    "0..255": ((0.0,) * 3, (1.0,) * 3),
    "imagenet": ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375)),
}
UNIT, BYTES = "0..1", "0..255"
CHANNELS = ("rgb", "bgr")

_NUMBER = r"-?\d+(?:\.\d+)?(?:e[+-]?\d+)?"
_WRITTEN = re.compile(rf"mean ({_NUMBER}(?:,{_NUMBER}){{2}}) std ({_NUMBER}(?:,{_NUMBER}){{2}})")
# The relative difference of two ranges that mean the same: 127.5 is written as 127 or 128 too.
_CLOSE = 0.01


class InputValues(NamedTuple):
    """Knowledge of a model's input: its range, its channels ("rgb" or "bgr"), and the place
    that says so. None is unknown."""

    range: str | None = None
    channels: str | None = None
    source: str = "assumed"


def factors(name: str) -> Factors:
    """Return the factors of a range. Raises ValueError for what is none."""
    if name in RANGES:
        return RANGES[name]
    match = _WRITTEN.fullmatch(name)
    mean, std = (
        (tuple(map(float, part.split(","))) for part in match.groups()) if match else ((),) * 2
    )
    if not std or not all(std):
        raise ValueError(f"input_range must be one of {', '.join(RANGES)}, not {name!r}")
    return mean, std


def range_of(mean: Sequence[float], std: Sequence[float]) -> str:
    """Return the name of the range with this mean and std, of one channel or of three."""
    mean, std = (tuple(map(float, part)) * (1 if len(part) == 3 else 3) for part in (mean, std))
    for name, known in RANGES.items():
        ends = zip(*(_ends(*given) for given in ((mean, std), known)), strict=True)
        if all(_is_close(a, b) for a, b in ends):
            return name
    numbers = (",".join(f"{value:.9g}" for value in part) for part in (mean, std))
    return "mean {} std {}".format(*numbers)


def limits(name: str) -> tuple[float, float]:
    """Return the smallest and the largest value of a range."""
    ends = [value for pair in _ends(*factors(name)) for value in pair]
    return min(ends), max(ends)


def _ends(mean: Sequence[float], std: Sequence[float]) -> list[tuple[float, float]]:
    return [(-m / s, (255 - m) / s) for m, s in zip(mean, std, strict=True)]


def _is_close(one: tuple[float, float], two: tuple[float, float]) -> bool:
    width = abs(two[1] - two[0])
    return all(abs(a - b) <= _CLOSE * width for a, b in zip(one, two, strict=True))


def whole_range(dtype: str, scale: float, zero_point: int) -> str:
    """Return the range of all numbers that a quantized type holds."""
    bits = int(dtype.lstrip("uint"))
    low = 0 if dtype.startswith("u") else -(2 ** (bits - 1))
    first, last = ((end - zero_point) * scale for end in (low, low + 2**bits - 1))
    std = 255 / (last - first)
    return range_of([-first * std], [std])


def nearest(name: str) -> str:
    """Return the named range that has about the limits of another, or that one itself.

    A range that was measured on images ends somewhat before the one that was meant.
    """
    low, high = limits(name)
    for known in RANGES:
        first, last = limits(known)
        if max(abs(first - low), abs(last - high)) <= 0.1 * (last - first):
            return known
    return name


def stated_by_scaling(scale: Sequence[float], offset: Sequence[float]) -> str | None:
    """Return the range that a graph takes which begins with value * scale + offset; None if that
    doesn't tell.

    A factor such as 1/255, and a mean of some hundred, are for bytes; a standard deviation of a
    quarter, and 2 * value - 1, for values of 0 to 1.
    """
    steepest, farthest = max(map(abs, scale)), max(map(abs, offset))
    if not steepest:
        return None
    if steepest <= 0.05 or (steepest <= 1.5 and 50 <= farthest <= 200):
        return BYTES
    if steepest > 1.5 and 0.4 <= farthest <= 5 and steepest <= 10:
        return UNIT
    return None
