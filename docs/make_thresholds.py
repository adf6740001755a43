"""Draw docs/thresholds.jpg, variants of photos with their similarities: `python docs/make_thresholds.py`."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageFont, ImageOps

from nasnet_cli import load_model

HERE = Path(__file__).parent
PHOTOS = HERE.parent / "examples" / "photos"
WIDTH, HEIGHT, CAPTION, GAP = 130, 98, 38, 6
ROWS = ("astronaut", "cat", "flower", "rocket", "summer_palace")


def _saved(image: Image.Image, quality: int) -> Image.Image:
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=quality)
    return Image.open(stream).convert("RGB")


def _cropped(image: Image.Image, part: float) -> Image.Image:
    x, y = (round(side * (1 - part) / 2) for side in image.size)
    return image.crop((x, y, image.width - x, image.height - y))


VARIANTS: dict[str, Callable[[Image.Image], Image.Image]] = {
    "the photo": lambda image: image,
    "JPEG, quality 30": lambda image: _saved(image, 30),
    "a third of the size": lambda image: image.resize((image.width // 3, image.height // 3)),
    "20 % brighter": lambda image: ImageEnhance.Brightness(image).enhance(1.2),
    "cropped to 95 %": lambda image: _cropped(image, 0.95),
    "cropped to 80 %": lambda image: _cropped(image, 0.8),
    "mirrored": ImageOps.mirror,
    "grey": lambda image: ImageOps.grayscale(image).convert("RGB"),
}


def main() -> None:
    """Write the file, and print the table of similarities for docs/duplicates.md."""
    model = load_model()
    size = ((WIDTH + GAP) * len(VARIANTS), (HEIGHT + CAPTION) * len(ROWS))
    sheet = Image.new("RGB", size, "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    found = np.empty((len(ROWS), len(VARIANTS)))
    for row, name in enumerate(ROWS):
        photo = Image.open(PHOTOS / f"{name}.jpg").convert("RGB")
        images = [change(photo) for change in VARIANTS.values()]
        vectors = [record.vector for record in model.embed(images, normalize=True)]
        for column, (caption, image, vector) in enumerate(
            zip(VARIANTS, images, vectors, strict=True)
        ):
            assert vector is not None and vectors[0] is not None
            found[row, column] = similarity = float(vectors[0] @ vector)
            place = (WIDTH + GAP) * column, (HEIGHT + CAPTION) * row
            sheet.paste(ImageOps.fit(image, (WIDTH, HEIGHT), centering=(0.5, 0.2)), place)
            lines = f"{caption}\n{similarity:.3f}"
            draw.multiline_text((place[0], place[1] + HEIGHT), lines, "black", font)
    sheet.save(HERE / "thresholds.jpg", quality=80)
    for column, caption in enumerate(VARIANTS):
        print(f"| {caption} | {found[:, column].min():.3f} to {found[:, column].max():.3f} |")


if __name__ == "__main__":
    main()
