"""Read the built-in model's training data: Tiny ImageNet and imagenet-mix.

Decoded images are kept in a folder as .npy files, which are mapped into memory.
"""

from __future__ import annotations

import csv
import io
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from nasnet_cli.training.image_sets import ImageSet, Teacher

LABELS = Path(__file__).parents[1] / "labels" / "imagenet_1001.tsv"
SIDES = {"full": 112, "mini": 84}


def wnid_classes() -> dict[str, int]:
    """Return the number of each class among the 1001 by its WordNet id."""
    with LABELS.open(newline="", encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines, delimiter="\t"))
    return {row["wnid"]: int(row["index"]) for row in rows if row["wnid"]}


def read_sets(data: Path, cache: Path) -> dict[str, ImageSet]:
    """Return the training sets "full", "mini" and "tiny"."""
    cache.mkdir(parents=True, exist_ok=True)
    mix = data / "imagenet-mix"
    return {**{name: read_mosaics(mix, name, cache) for name in SIDES}, "tiny": _tiny(data, cache)}


def read_tiny_validation(data: Path) -> ImageSet:
    """Return Tiny ImageNet's validation images with their labels."""
    images, labels = [], []
    for name, pixels in _zipped([data / "tiny-imagenet" / "val.zip"]):
        images.append(pixels)
        labels.append(wnid_classes()[name.partition("/")[0]])
    return ImageSet(np.stack(images), np.array(labels))


def read_mosaics(mix: Path, name: str, cache: Path) -> ImageSet:
    """Return the set "full" or "mini" from its mosaics in the folder mix."""
    side = SIDES[name]
    facts = []
    for path in sorted(mix.glob(f"{name}-*.npz")):
        with np.load(path) as saved:
            facts.append({key: saved[key] for key in saved.files})
    whole = {key: np.concatenate([fact[key] for fact in facts]) for key in facts[0]}
    decoded = cache / f"{name}.npy"
    if not decoded.exists():
        tiles = (
            tile
            for path, fact in zip(sorted(mix.glob(f"{name}-*.npz")), facts, strict=True)
            for tile in _tiles(path, side, len(fact["label"]))
        )
        _keep(decoded, tiles, len(whole["label"]), side)
    teacher = Teacher(whole["boxes"], whole["teacher_class"], whole["teacher_prob"])
    return ImageSet(np.load(decoded, mmap_mode="r"), whole["label"].astype(np.int64), teacher)


def _tiles(path: Path, side: int, count: int) -> Iterator[np.ndarray]:
    """Yield the tiles of the mosaics that belong to an .npz file."""
    for mosaic in sorted(path.parent.glob(f"{path.stem}-*.avif")):
        pixels = np.asarray(Image.open(mosaic).convert("RGB"))
        rows, columns = pixels.shape[0] // side, pixels.shape[1] // side
        tiles = pixels.reshape(rows, side, columns, side, 3).swapaxes(1, 2)
        tiles = tiles.reshape(-1, side, side, 3)[: min(256, count)]
        count -= len(tiles)
        yield from tiles


def _tiny(data: Path, cache: Path) -> ImageSet:
    folder = data / "tiny-imagenet"
    answers = []
    for path in sorted(folder.glob("teacher-*.npz")):
        with np.load(path) as saved:
            answers.append({key: saved[key] for key in saved.files})
    names, classes, roots = (
        np.concatenate([part[key] for part in answers])
        for key in ("name", "teacher_class", "teacher_prob")
    )
    decoded = cache / "tiny.npy"
    if not decoded.exists():
        images = dict(_zipped(sorted(folder.glob("train-*.zip"))))
        _keep(decoded, (images[name] for name in names.tolist()), len(names), 64)
    numbers = wnid_classes()
    labels = np.array([numbers[name.partition("/")[0]] for name in names.tolist()])
    boxes = np.broadcast_to(np.array([0, 0, 255, 255], np.uint8), (len(names), 1, 4))
    teacher = Teacher(boxes, classes[:, None], roots[:, None])
    return ImageSet(np.load(decoded, mmap_mode="r"), labels, teacher)


def _zipped(archives: list[Path]) -> Iterator[tuple[str, np.ndarray]]:
    for archive in archives:
        with zipfile.ZipFile(archive) as opened:
            for name in sorted(opened.namelist()):
                if name.endswith(".webp"):
                    image = Image.open(io.BytesIO(opened.read(name)))
                    yield name, np.asarray(image.convert("RGB"))


def _keep(path: Path, images: Iterator[np.ndarray], count: int, side: int) -> None:
    """Write images to an .npy file, which appears complete."""
    partial = path.with_name(f"{path.stem}.part.npy")
    out = np.lib.format.open_memmap(partial, "w+", np.uint8, (count, side, side, 3))
    written = 0
    for image in images:
        out[written] = image
        written += 1
    if written != count:
        raise ValueError(f"{path.stem} has {written} images, not {count}.")
    out.flush()
    partial.replace(path)
