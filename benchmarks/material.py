"""Inputs of the benchmarks: copies of photos, 12-megapixel photos, and modules."""

from __future__ import annotations

import shutil
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

LARGE = (4000, 3000)


def made(path: Path, make: Callable[..., None], *arguments: object) -> Path:
    """Return the folder path. If it is missing, make fills it, whole or not at all."""
    part = path.with_name(f"{path.name}.part")
    if not path.exists():
        print(f"making {path.name}", file=sys.stderr)
        shutil.rmtree(part, ignore_errors=True)
        make(part, *arguments)
        part.rename(path)
    return path


def copy_photos(folder: Path, photos: Path, count: int) -> None:
    """Fill a folder with count JPEGs: copies of those below photos, under other names."""
    found = jpegs(photos)
    folder.mkdir(parents=True)
    for number in range(count):
        shutil.copyfile(found[number % len(found)], folder / f"{number:06d}.jpg")


def enlarge_photos(folder: Path, photos: Path, count: int) -> None:
    """Fill a folder with count 12-megapixel JPEGs: photos enlarged, with noise, quality 92."""
    import numpy as np
    from PIL import Image

    found = jpegs(photos)
    folder.mkdir(parents=True)
    width, height = LARGE
    random = np.random.default_rng(0)
    noise = (random.standard_normal((height, width, 3), np.float32) * 5).astype(np.int16)
    for number in range(count):
        with Image.open(found[number % len(found)]) as image:
            large = image.convert("RGB").resize(LARGE, Image.Resampling.BICUBIC)
        grain = np.roll(noise, number * 4099, axis=1)
        pixels = np.clip(np.asarray(large) + grain, 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:06d}.jpg", quality=92)


def jpegs(photos: Path) -> list[Path]:
    """Return the JPEGs below photos. Exits if there are none."""
    found = sorted(path for path in photos.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg"))
    if not found:
        sys.exit(f"There is no JPEG in {photos}. Name another folder with --photos.")
    return found


def write_builtin(folder: Path) -> None:
    """Copy the module that comes with the package."""
    from nasnet_cli.models.resolve import builtin_folder

    shutil.copytree(builtin_folder(), folder)


def write_mobile(folder: Path) -> None:
    """Write a module of the published mobile size with random weights, as fast as trained ones."""
    import numpy as np

    from nasnet_cli.models.formats.tf1_hub import write_tf1_hub
    from nasnet_cli.network.spec import MOBILE
    from nasnet_cli.network.weights import weight_shapes

    def weight(name: str, shape: tuple[int, ...]) -> np.ndarray:
        random = np.random.default_rng(zlib.crc32(name.encode()))
        leaf = name.rsplit("/", 1)[-1]
        if leaf in ("moving_variance", "gamma"):
            return random.uniform(0.5, 1.5, shape).astype(np.float32)
        if leaf in ("beta", "moving_mean", "biases"):
            return random.uniform(-0.1, 0.1, shape).astype(np.float32)
        inputs = shape[:2] if leaf == "depthwise_weights" else shape[:-1]
        return (random.uniform(-1, 1, shape) * (3 / np.prod(inputs)) ** 0.5).astype(np.float32)

    shapes = weight_shapes(MOBILE)
    write_tf1_hub(folder, MOBILE, {name: weight(name, shape) for name, shape in shapes.items()})


def export(folder: Path, module: Path, suffix: str) -> None:
    """Write folder/model.SUFFIX as `nasnet export` does, which checks what it wrote."""
    from nasnet_cli.models.export import export
    from nasnet_cli.models.formats.table import format_for
    from nasnet_cli.models.resolve import resolve

    folder.mkdir(parents=True)
    entry, source = format_for(suffix), resolve(module, runnable=False)
    assert entry is not None
    network = source.format.read_network(source.path)
    export(network, folder / f"model{suffix}", entry)
