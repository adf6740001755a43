"""Make the built-in module out of what recipes/builtin.py trained.

    python recipes/package_builtin.py FOLDER [MODULE]

FOLDER is the folder of a cooldown, with weights.npz and result.json. Replaces MODULE, which is
src/nasnet_cli/builtin_model unless another folder is named. The temperature is put into the weights
of the last layer, so that the logits are calibrated.
"""

from __future__ import annotations

import csv
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
from measuring import calibrated

from nasnet_cli import __version__
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
    "Trained from scratch by recipes/builtin.py of nasnet-cli on Tiny ImageNet, mini-ImageNet, "
    "Stanford Dogs, ImageNette, COCO, Caltech-101, Flickr8k and other public research sets, each "
    "under its own terms (ImageNet's for the labelled images), with the answers of "
    "tf2_mobilenet_v2_1.0_224_ptq (google-coral/test_data, Apache-2.0) to crops of them."
)


def accuracy(result: dict[str, Any]) -> dict[str, Any]:
    """Return the card's figures from result.json."""
    top1, top5 = result["tiny_validation"]["all"]
    return {
        "dataset": "Tiny ImageNet",
        "pictures": 10_000,
        "top1": top1 / 100,
        "top5": top5 / 100,
        "how": "validation pictures of 64x64 pixels, whole, made larger with the bicubic filter; "
        "among all 1001 classes",
        "pictures_seen": result["pictures_seen"],
        "calibration": result["calibration"],
        "held_out": result["held_out"],
        "tiny_imagenet": result["tiny_validation"],
        "sure_of_nothing": result["sure_of_nothing"],
    }


def main(folder: Path, module: Path = MODULE) -> None:
    result = json.loads((folder / "result.json").read_text())
    spec = NASNetA.from_dict(result["network"])
    with np.load(folder / "weights.npz") as saved:
        weights = calibrated(dict(saved), result["calibration"]["temperature"])
    with LABELS.open(newline="", encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines, delimiter="\t"))
    card = Card(
        name="nasnet-imagenet-small",
        preprocessing={"size": [spec.image_size] * 2, **PREPROCESSING},
        network=spec.to_dict(),
        accuracy=accuracy(result),
        source=SOURCE,
        licence="Apache-2.0",
        tool=f"nasnet-cli {__version__}",
    )
    shutil.rmtree(module, ignore_errors=True)
    write_tf1_hub(module, spec, weights)
    write_card(module, card, [Label(row["wnid"], row["name"]) for row in rows])


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
