"""The values that a model takes for pixels: their range, and the order of the channels.

A range says how a channel's byte, 0 to 255, becomes the model's value: (byte - mean) / std. It is
called by a name in RANGES, or written out as "mean R,G,B std R,G,B".
"""

from __future__ import annotations

import math
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
# The difference of two means of ImageNet, in bytes: 123, 117, 104 are written too.
_SAME_MEAN = 2.0


class InputValues(NamedTuple):
    """Knowledge of a model's input: its range, its channels ("rgb" or "bgr"), and the place
    that says so. None is unknown."""

    range: str | None = None
    channels: str | None = None
    source: str = "assumed"

    def or_stated(self, range_: str | None, channels: str | None) -> InputValues:
        """Return these values, with what a graph states where they are unknown."""
        channels = self.channels or channels
        if self.range is None and range_ is not None:
            return InputValues(range_, channels, "its graph")
        return self._replace(channels=channels)


def factors(name: str) -> Factors:
    """Return the factors of a range. Raises ValueError for what is none."""
    if name in RANGES:
        return RANGES[name]
    match = _WRITTEN.fullmatch(name)
    mean, std = (
        (tuple(map(float, part.split(","))) for part in match.groups()) if match else ((),) * 2
    )
    if not _are_usable(mean, std):
        raise ValueError(f"input_range must be one of {', '.join(RANGES)}, not {name!r}")
    return mean, std


def _are_usable(mean: Sequence[float], std: Sequence[float]) -> bool:
    """Return whether these are the mean and the std of one channel or of three."""
    is_whole = {len(mean), len(std)} <= {1, 3}
    return is_whole and all(std) and all(map(math.isfinite, (*mean, *std)))


def range_in_metadata(mean: Sequence[float], std: Sequence[float]) -> str | None:
    """Return range_of's answer, None for numbers that no range has."""
    return range_of(mean, std) if _are_usable(mean, std) else None


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


def nearest(name: str, *others: str) -> str:
    """Return the range of others, or with a name, that has about the limits of one; else that one.

    A range that was measured on images ends somewhat before the one that was meant.
    """
    low, high = limits(name)
    for known in others or RANGES:
        first, last = limits(known)
        if max(abs(first - low), abs(last - high)) <= 0.1 * (last - first):
            return known
    return name


class Scaling:
    """The first steps of a graph with the values of its images: value * scale + offset, for each
    channel in the order of the input."""

    def __init__(self) -> None:
        self.scale, self.offset = [1.0] * 3, [0.0] * 3
        self._is_scaled = False
        self._limits: tuple[float, float] | None = None
        self._order = 1  # -1 after the channels have been reversed

    def apply(self, kind: str, numbers: Sequence[float], *, is_first: bool = False) -> bool:
        """Add, Subtract, Multiply or Divide by one number, or one for each channel.

        is_first is for the numbers to be the first operand. Return False for what is no scaling.
        """
        if len(numbers) not in (1, 3) or (kind == "Divide" and (is_first or not all(numbers))):
            return False
        each = (list(numbers) * (3 // len(numbers)))[:: self._order]
        if kind in ("Multiply", "Divide"):
            factors = [1 / n for n in each] if kind == "Divide" else each
            self.scale = [s * f for s, f in zip(self.scale, factors, strict=True)]
            self.offset = [o * f for o, f in zip(self.offset, factors, strict=True)]
        else:
            if kind == "Subtract" and is_first:
                self.scale, self.offset = [-s for s in self.scale], [-o for o in self.offset]
            sign = -1 if kind == "Subtract" and not is_first else 1
            self.offset = [o + sign * n for o, n in zip(self.offset, each, strict=True)]
        self._is_scaled = True
        return True

    def quantize(self, limits: Sequence[float]) -> bool:
        """Map low..high to other_low..other_high, in steps; limits are these four numbers."""
        low, high, other_low, other_high = limits
        if not (low < high and math.isfinite(high - low)):
            return False
        if not self._is_scaled:
            self._limits = low, high
        self.apply("Subtract", [low])
        self.apply("Multiply", [(other_high - other_low) / (high - low)])
        return self.apply("Add", [other_low])

    def reverse(self) -> None:
        """Reverse the order of the channels."""
        self._order = -self._order

    def stated(self) -> tuple[str | None, str | None]:
        """Return the range and the channels that the input has by this; None for what it doesn't
        tell."""
        if not self._is_scaled or not all(self.scale):
            return None, None
        found = _between_ranges(self.scale, self.offset) or _by_size(self.scale, self.offset)
        return found if found[0] or self._limits is None else (_measured(*self._limits), None)


def _measured(low: float, high: float) -> str | None:
    """Return the range of images that were measured to quantize them.

    Integers are often as many below 0 as above, so that 0 to 1 and -1 to 1 look the same.
    """
    std = 255 / (high - low)
    found = nearest(range_of([-low * std], [std]))
    return found if found in (BYTES, "imagenet") else None


def _between_ranges(
    scale: Sequence[float], offset: Sequence[float]
) -> tuple[str, str | None] | None:
    """Return the range, with its channels, from which a scaling leads to another that is known."""
    for given, (means, stds) in RANGES.items():
        for other, (to_means, to_stds) in RANGES.items():
            for step, channels in ((1, "rgb"), (-1, "bgr")) if other != given else ():
                wanted = zip(
                    means, stds, to_means, to_stds, scale[::step], offset[::step], strict=True
                )
                if all(
                    abs(s - std / to_std) <= _CLOSE * std / to_std
                    and abs(o - (mean - to_mean) / to_std) <= _CLOSE * 255 / to_std
                    for mean, std, to_mean, to_std, s, o in wanted
                ):
                    is_told = "imagenet" in (given, other)
                    return given, channels if is_told else None
    return None


def _by_size(scale: Sequence[float], offset: Sequence[float]) -> tuple[str | None, str | None]:
    """Return the range that the size of a scaling is usual for, with the channels.

    A factor such as 1/255, and a mean of some hundred, are for bytes; a standard deviation of a
    quarter, and 2 * value - 1, for values of 0 to 1; 255 and 127.5 make bytes. The channels are
    those of ImageNet's mean.
    """
    steepest, farthest = max(map(abs, scale)), max(map(abs, offset))
    if steepest <= 0.05 or (steepest <= 1.5 and 50 <= farthest <= 200):
        found = BYTES
    elif (1.5 < steepest <= 10 and 0.4 <= farthest <= 5) or 250 <= steepest <= 260:
        found = UNIT
    elif 125 <= steepest <= 130:
        found = "-1..1"
    else:
        return None, None
    (mean, *_), (std, *_) = RANGES[found]
    means = [-o / s * std + mean for s, o in zip(scale, offset, strict=True)]
    for step, channels in ((1, "rgb"), (-1, "bgr")):
        known = zip(means[::step], RANGES["imagenet"][0], strict=True)
        if all(abs(mean - one) <= _SAME_MEAN for mean, one in known):
            return found, channels
    return found, None
