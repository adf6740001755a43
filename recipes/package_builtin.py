"""Make the built-in module out of what recipes/builtin.py trained.

    python recipes/package_builtin.py FOLDER DATA [MODULE]

FOLDER is the folder of a cooldown, with module.npz and result.json, DATA the folder with photos to
measure the module on. Replaces MODULE, which is src/nasnet_cli/builtin_model unless another folder
is named.
"""

from __future__ import annotations

import csv
import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from nasnet_cli import __version__, load_model
from nasnet_cli.labels import Label
from nasnet_cli.models.card import Card, write_card
from nasnet_cli.models.formats.tf1_hub import write_tf1_hub
from nasnet_cli.network.spec import NASNetA

ROOT = Path(__file__).parents[1]
MODULE = ROOT / "src" / "nasnet_cli" / "builtin_model"
LABELS = ROOT / "labels" / "imagenet_1001.tsv"

# What the held-out images were measured with: photos are made small by averaging, and the square
# centre is what the teacher saw.
PREPROCESSING = {"resize": "crop", "crop_fraction": 0.875, "resample": "box"}
SOURCE = (
    "Trained by recipes/builtin.py of nasnet-cli on Tiny ImageNet, mini-ImageNet, "
    "Stanford Dogs, ImageNette, COCO, Caltech-101, Flickr8k and other public research sets, each "
    "under its own terms (ImageNet's for the labelled images), with the answers of "
    "tf2_mobilenet_v2_1.0_224_ptq (google-coral/test_data, Apache-2.0) to crops of them."
)


PHOTOS = ("photos", "photos-known")


def photo_accuracy(module: Path, data: Path) -> tuple[int, float, float]:
    """Return the number of photos that no training set holds, and a module's top-1 and top-5.

    The photos are measured as nasnet classify does, among all classes, and never chosen by.
    """
    seen = set((data / "seen.txt").read_text().split())
    paths = [path for name in PHOTOS for path in sorted((data / name).iterdir())]
    paths = [path for path in paths if f"{path.parent.name}/{path.name}" not in seen]
    places = []
    for path, record in zip(paths, load_model(module).classify(paths, top=5), strict=True):
        wnids = [prediction.wnid for prediction in record.predictions or ()]
        truth = path.name.partition("_")[0]
        places.append(wnids.index(truth) if truth in wnids else 5)
    found = np.array(places)
    return len(found), float((found < 1).mean()), float((found < 5).mean())


def accuracy(result: dict[str, Any], photos: tuple[int, float, float]) -> dict[str, Any]:
    """Return the card's figures from result.json and photo_accuracy."""
    count, top1, top5 = photos
    return {
        "dataset": "full-size photos",
        "pictures": count,
        "top1": round(top1, 4),
        "top5": round(top5, 4),
        "how": "photos of ImageNet's classes that no training set holds; among all 1001 classes",
        "pictures_seen": result["pictures_seen"],
        "calibration": result["calibration"],
        "held_out": result["held_out"],
        "tiny_imagenet_validation": result["tiny_validation"],
        "sure_of_nothing": result["sure_of_nothing"],
    }


def main(folder: Path, data: Path, module: Path = MODULE) -> None:
    result = json.loads((folder / "result.json").read_text())
    spec = NASNetA.from_dict(result["network"])
    with np.load(folder / "module.npz") as saved:
        weights = dict(saved)
    with LABELS.open(newline="", encoding="utf-8") as lines:
        labels = [Label(row["wnid"], row["name"]) for row in csv.DictReader(lines, delimiter="\t")]
    card = Card(
        name="nasnet-imagenet-small",
        preprocessing={"size": [spec.image_size] * 2, **PREPROCESSING},
        network=spec.to_dict(),
        source=SOURCE,
        licence="Apache-2.0",
        tool=f"nasnet-cli {__version__}",
    )
    shutil.rmtree(module, ignore_errors=True)
    write_tf1_hub(module, spec, weights)
    write_card(module, card, labels)
    card = replace(card, accuracy=accuracy(result, photo_accuracy(module, data)))
    write_card(module, card, labels)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
