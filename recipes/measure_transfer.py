"""Measure the last layer of nasnet train: learned features, random ones, colour histograms.

    python recipes/measure_transfer.py BACKBONE DATA WORK [--images N] [--folders]

BACKBONE is a TF1 Hub module that has never seen the 75 classes of mini-* in DATA/imagenet-mix
(training_data.py). Each gives N images to train on, a fifth of them to choose the penalty with, and
N to test. WORK keeps decoded images and a module with random weights; with --folders, the images
are only written to WORK/train and WORK/test, a folder for each class, for nasnet train and
evaluate.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image
from training_data import read_mosaics, wnid_classes

from nasnet_cli import load_model
from nasnet_cli.evaluation.metrics import share_of
from nasnet_cli.models.card import card_texts
from nasnet_cli.models.formats.tf1_hub import TF1Hub
from nasnet_cli.network.weights import weight_shapes
from nasnet_cli.training.head import fit_head
from nasnet_cli.training.split import split

Features = Callable[[list[np.ndarray]], np.ndarray]
BINS = 8


def main() -> None:
    """Print a line of JSON for each kind of features."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("backbone", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--folders", action="store_true")
    options = parser.parse_args()
    images, classes, is_test, wnids = choose(options.data, options.work, options.images)
    if options.folders:
        write_folders(options.work, images, [wnids[number] for number in classes], is_test)
        return
    random_module = write_random(options.backbone, options.work / "random")
    kinds: dict[str, Features] = {
        "backbone": lambda pixels: embed(options.backbone, pixels),
        "random": lambda pixels: embed(random_module, pixels),
        "histogram": histograms,
    }
    for kind, features in kinds.items():
        start = time.monotonic()
        vectors = features(images)
        seconds = time.monotonic() - start
        print(json.dumps(measure(kind, vectors, classes, is_test, seconds)), flush=True)


def choose(
    data: Path, work: Path, count: int
) -> tuple[list[np.ndarray], np.ndarray, np.ndarray, list[str]]:
    """Return count images of each class to train on, and as many to test with, in random order.

    Beside the images: their classes, a mask of those to test with, and the classes' WordNet ids.
    """
    work.mkdir(parents=True, exist_ok=True)
    mini = read_mosaics(data / "imagenet-mix", "mini", work)
    random = np.random.default_rng(0)
    rows, classes, is_test = [], [], []
    for number, class_ in enumerate(np.unique(mini.labels)):
        chosen = random.permutation(np.flatnonzero(mini.labels == class_))[: 2 * count]
        rows += chosen.tolist()
        classes += [number] * len(chosen)
        is_test += (np.arange(len(chosen)) >= count).tolist()
    names = {number: wnid for wnid, number in wnid_classes().items()}
    wnids = [names[class_] for class_ in np.unique(mini.labels).tolist()]
    images = [np.array(mini.pixels[row]) for row in rows]
    return images, np.array(classes), np.array(is_test), wnids


def write_folders(
    work: Path, images: list[np.ndarray], wnids: list[str], is_test: np.ndarray
) -> None:
    """Write images as PNG into a folder for each class, below train and test."""
    for number, (pixels, wnid) in enumerate(zip(images, wnids, strict=True)):
        folder = work / ("test" if is_test[number] else "train") / wnid
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / f"{number:05}.png")


def embed(module: Path, images: list[np.ndarray]) -> np.ndarray:
    """Return the feature vectors of images, float32 [n, depth]."""
    return np.array([row.vector for row in load_model(module).embed(images)])


def histograms(images: list[np.ndarray]) -> np.ndarray:
    """Return the square roots of the shares of 8 x 8 x 8 colours, float32 [n, 512]."""
    found = []
    for image in images:
        place = (image.reshape(-1, 3) // (256 // BINS)).astype(int) @ (BINS * BINS, BINS, 1)
        counts = np.bincount(place, minlength=BINS**3)
        found.append(np.sqrt(counts / counts.sum()))
    return np.array(found, np.float32)


def write_random(backbone: Path, folder: Path) -> Path:
    """Write a module of the backbone's network with random kernels (He et al., 2015)."""
    network = TF1Hub().read_network(backbone)
    random = np.random.default_rng(0)
    weights = {}
    for name, shape in weight_shapes(network.spec).items():
        values = np.full(shape, name.endswith(("gamma", "moving_variance")), np.float32)
        if name.endswith("weights"):
            inputs = np.prod(shape[:2] if "depthwise" in name else shape[:-1])
            values = random.normal(0, np.sqrt(2 / inputs), shape).astype(np.float32)
        weights[name] = values
    assert network.card is not None
    made = replace(network, weights=weights, module=None)
    if not folder.exists():
        TF1Hub().write(folder, made, card_texts(network.card, network.labels), "f32")
    return folder


def measure(
    kind: str, vectors: np.ndarray, classes: np.ndarray, is_test: np.ndarray, seconds: float
) -> dict[str, object]:
    """Fit a head and return its top-1 accuracy on the test images, in percent."""
    start = time.monotonic()
    train = np.flatnonzero(~is_test)
    held = train[split(classes[train], [], 0.2, 0)]
    fit = np.setdiff1d(train, held)
    count = int(classes.max()) + 1
    head = fit_head(vectors[fit], classes[fit], vectors[held], classes[held], count)
    found = head.logits(vectors[is_test]).argmax(axis=1)
    top1 = share_of(found == classes[is_test])
    low, high = top1.interval or (0.0, 1.0)
    return {
        "features": kind,
        "top1": round(100 * (top1.value or 0), 1),
        "interval": [round(100 * low, 1), round(100 * high, 1)],
        "images": top1.count,
        "penalty": head.penalty,
        "feature_seconds": round(seconds, 1),
        "head_seconds": round(time.monotonic() - start, 1),
    }


if __name__ == "__main__":
    main()
