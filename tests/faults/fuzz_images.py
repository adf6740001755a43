"""Images damaged at random, given to `nasnet classify`: each must have a row, and nothing may crash.

    make fuzz       or: python tests/faults/fuzz_images.py [--images N] [--seed S] [--model M]

Whole images of each format have bytes flipped, cut out, repeated or set to edge values. They are
classified in batches. A batch whose rows are not one for each image, in order and of a known kind,
or whose run ends with another status than 0 or 3, is kept, and the command exits with 1.
"""

from __future__ import annotations

import argparse
import io
import json
import random
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
from nasnet_cli.errors import ERROR_KINDS
from support.killing import NASNET

BATCH = 500
SLOWEST = 600.0
"""Seconds for a batch, which mostly takes a few."""
# Pillow's name of each format, and the options of saving.
SEEDS: list[tuple[str, dict[str, Any]]] = [
    ("JPEG", {}),
    ("JPEG", {"progressive": True}),
    ("PNG", {}),
    ("GIF", {}),
    ("BMP", {}),
    ("WEBP", {}),
    ("WEBP", {"lossless": True}),
    ("TIFF", {}),
    ("TIFF", {"compression": "tiff_lzw"}),
    ("JPEG2000", {}),
    ("AVIF", {}),
    ("PPM", {}),
    ("TGA", {}),
    ("PCX", {}),
    ("ICO", {}),
]
_EDGES = (0, 1, 0x7F, 0x80, 0xFE, 0xFF)


def seeds() -> list[bytes]:
    """Return a small image in each format."""
    from PIL import Image

    image = Image.effect_mandelbrot((48, 40), (-2, -1.5, 1, 1.5), 50).convert("RGB")
    found = []
    for name, options in SEEDS:
        stream = io.BytesIO()
        image.save(stream, name, **options)
        found.append(stream.getvalue())
    return found


def damage(content: bytes, numbers: random.Random) -> bytes:
    """Return the content with a few random changes."""
    data = bytearray(content)
    for _ in range(numbers.choice((1, 1, 2, 4, 16))):
        # Headers matter more than pixels.
        end = len(data) if numbers.random() < 0.5 else min(len(data), 128)
        place = numbers.randrange(max(1, end))
        length = numbers.choice((1, 1, 2, 4, 64))
        change: Callable[[], bytes] = numbers.choice(
            (
                lambda n=length: numbers.randbytes(n),
                lambda n=length: bytes([numbers.choice(_EDGES)]) * n,
                lambda: b"",
                lambda p=place, n=length: bytes(data[p : p + n]) * 2,
            )
        )
        data[place : place + length] = change()
    return bytes(data)


def faults(folder: Path, count: int, model: Path | None, kinds: Counter[str]) -> list[str]:
    """Classify the images in a folder, and return what is wrong with the rows; count their kinds."""
    command = [*NASNET, "classify", str(folder), *(["-m", str(model)] if model else [])]
    try:
        done = subprocess.run(command, capture_output=True, timeout=SLOWEST, check=False)
    except subprocess.TimeoutExpired:
        return [f"it takes more than {SLOWEST:.0f} seconds"]
    if done.returncode not in (0, 3):
        return [f"status {done.returncode}: {done.stderr.decode(errors='replace')[-500:]}"]
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    found = [row["error"]["kind"] if row["status"] == "error" else "ok" for row in rows]
    kinds.update(found)
    wrong = [kind for kind in found if kind not in (*ERROR_KINDS, "ok")]
    names = [Path(row["path"]).name for row in rows]
    if names != sorted(path.name for path in folder.iterdir()) or len(names) != count:
        wrong.append(f"{len(names)} rows for {count} images")
    return wrong


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    parser.add_argument("--model", type=Path, help="default: the built-in one")
    given = parser.parse_args()
    numbers = random.Random(given.seed)
    whole, kinds = seeds(), Counter[str]()
    for start in range(0, given.images, BATCH):
        folder = Path(tempfile.mkdtemp(prefix="nasnet-fuzz-"))
        count = min(BATCH, given.images - start)
        for number in range(count):
            path = folder / f"{start + number:07d}.jpg"
            path.write_bytes(damage(numbers.choice(whole), numbers))
        if wrong := faults(folder, count, given.model, kinds):
            sys.exit(f"seed {given.seed}, {folder}: {'; '.join(wrong)}")
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()
    print(f"{given.images:,} images, seed {given.seed}: {dict(kinds.most_common())}")


if __name__ == "__main__":
    main()
