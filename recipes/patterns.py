"""Images that show nothing: noise, textures, screens and drawings, made by chance.

A network that never sees such images names them with conviction. In training their target is all
classes alike.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw

Random = np.random.Generator


def make_patterns(
    count: int, side: int, seed: int, kinds: tuple[str, ...] | None = None
) -> np.ndarray:
    """Return images of the kinds in turn, uint8 [count, side, side, 3]; each depends on the seed
    and its number alone."""
    chosen = kinds or tuple(KINDS)
    images = np.empty((count, side, side, 3), np.uint8)
    for number in range(count):
        random = np.random.default_rng([seed, number])
        images[number] = KINDS[chosen[number % len(chosen)]](side, random)
    return images


def _noise(side: int, random: Random) -> np.ndarray:
    """Noise of one grain, around one colour or over all of them."""
    grain = int(random.choice([1, 2, 4, 8, 16, 32]))
    channels = int(random.choice([1, 3]))
    cells = -(-side // grain)
    spread = random.uniform(10, 128)
    values = random.uniform(0, 255, 3) + random.normal(0, spread, (cells, cells, channels))
    small = Image.fromarray(_bytes(values))
    resample = Image.Resampling.NEAREST if random.random() < 0.3 else Image.Resampling.BICUBIC
    large = small.resize((cells * grain, cells * grain), resample)
    return np.asarray(large)[:side, :side]


def _cloud(side: int, random: Random) -> np.ndarray:
    """Noise of several grains at once, as in walls, skies and grass."""
    total = np.zeros((side, side))
    roughness = random.uniform(0.4, 0.9)
    for octave in range(1, 7):
        cells = 2**octave
        values = random.normal(0, 1, (cells, int(cells * random.uniform(0.3, 1)) + 1))
        layer = Image.fromarray(values.astype(np.float32))
        total += (
            np.asarray(layer.resize((side, side), Image.Resampling.BICUBIC)) * roughness**octave
        )
    total = (total - total.min()) / (np.ptp(total) + 1e-6)
    first, second = random.uniform(0, 255, (2, 3))
    mixed = first + (second - first) * total[:, :, None] * random.uniform(0.2, 1)
    return _bytes(mixed)


def _gradient(side: int, random: Random) -> np.ndarray:
    """One colour that fades into another."""
    y, x = np.mgrid[0:side, 0:side] / side
    angle = random.uniform(0, 2 * np.pi)
    place = np.cos(angle) * x + np.sin(angle) * y
    if random.random() < 0.3:
        place = np.hypot(x - random.random(), y - random.random())
    place = (place - place.min()) / np.ptp(place)
    first, second = random.uniform(0, 255, (2, 3))
    colours = first + (second - first) * place[:, :, None] * float(random.random() < 0.8)
    return _bytes(colours + random.normal(0, 2, colours.shape))


def _weave(side: int, random: Random) -> np.ndarray:
    """Stripes, checks or dots."""
    y, x = np.mgrid[0:side, 0:side]
    angle, period = random.uniform(0, np.pi), random.uniform(3, side / 3)
    u = (np.cos(angle) * x + np.sin(angle) * y) * 2 * np.pi / period
    v = (np.cos(angle) * y - np.sin(angle) * x) * 2 * np.pi / (period * random.uniform(0.5, 2))
    wave = (np.sin(u), np.sin(u) * np.sin(v), np.maximum(np.sin(u), np.sin(v)))[random.integers(3)]
    shade = 1 / (1 + np.exp(-wave * random.uniform(1, 20)))
    first, second = random.uniform(0, 255, (2, 3))
    mixed = first + (second - first) * shade[:, :, None]
    return _bytes(mixed + random.normal(0, random.uniform(0, 12), mixed.shape))


def _screen(side: int, random: Random) -> np.ndarray:
    """Panels and lines of something like text, as on a screen or a page."""
    paper, ink = _colour(random), _colour(random)
    if random.random() < 0.6:
        paper, ink = (255, 255, 255), (20, 20, 20)
    elif random.random() < 0.5:
        paper, ink = (30, 30, 36), (210, 210, 210)
    image = Image.new("RGB", (side, side), paper)
    draw = ImageDraw.Draw(image)
    for _ in range(random.integers(0, 4)):
        draw.rectangle(_corners(side, random), fill=_colour(random))
    height = int(random.integers(2, 7))
    for top in range(int(random.integers(8)), side, int(height * random.uniform(1.5, 3)) + 1):
        left = int(random.integers(2, side // 3))
        end = int(random.uniform(0.4, 1.0) * side)
        while left < end:
            width = int(random.integers(1, 1 + 3 * height))
            draw.rectangle((left, top, min(left + width, side), top + height - 2), fill=ink)
            left += width + max(1, height // 2)
    return np.asarray(image)


def _drawing(side: int, random: Random) -> np.ndarray:
    """Lines, ellipses and polygons, filled or not."""
    image = Image.new("RGB", (side, side), (255,) * 3 if random.random() < 0.5 else _colour(random))
    draw = ImageDraw.Draw(image)
    for _ in range(random.integers(1, 25)):
        colour = _colour(random) if random.random() < 0.6 else (0, 0, 0)
        width = int(random.integers(1, 5))
        shape = random.integers(4)
        if shape == 0:
            draw.line(_corners(side, random), colour, width)
        elif shape == 1:
            draw.ellipse(_corners(side, random), outline=colour, width=width)
        elif shape == 2:
            draw.rectangle(_corners(side, random), fill=colour)
        else:
            draw.polygon([tuple(p) for p in random.uniform(0, side, (4, 2))], outline=colour)
    return np.asarray(image)


def _bytes(values: np.ndarray) -> np.ndarray:
    return np.asarray(np.clip(values, 0, 255).astype(np.uint8))


def _colour(random: Random) -> tuple[int, int, int]:
    red, green, blue = random.integers(0, 256, 3).tolist()
    return (red, green, blue)


def _corners(side: int, random: Random) -> tuple[float, float, float, float]:
    x, y = np.sort(random.uniform(0, side, (2, 2)), axis=1)
    return (float(x[0]), float(y[0]), float(x[1]), float(y[1]))


KINDS: dict[str, Callable[[int, Random], np.ndarray]] = {
    "noise": _noise,
    "cloud": _cloud,
    "gradient": _gradient,
    "weave": _weave,
    "screen": _screen,
    "drawing": _drawing,
}
