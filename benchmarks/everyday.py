"""Measure how often everyday labels are right or missing: the figures of docs/labels.md.

Classifies images whose class is known: the name of each, or of its folder, begins with a WordNet
id, as n02099601_golden_retriever.jpg. An everyday label is right where the true class lies at or
below it. Prints a row of a Markdown table for each least probability.

    python benchmarks/everyday.py photos/ more-photos/ --leave-out seen.txt --model imagenet-mobile
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from nasnet_cli import load_model
from nasnet_cli.images.listing import list_sources
from nasnet_cli.images.source import SkipCounter
from nasnet_cli.model import Model
from nasnet_cli.pipeline import Item
from nasnet_cli.results.everyday import EverydayLabels
from nasnet_cli.wordnet import is_wnid, load_hierarchy

THRESHOLDS = (0.3, 0.5, 0.7, 0.9)


def true_class(path: Path) -> str:
    """Return the WordNet id that an image's name or its folder's begins with."""
    for name in (path.name, path.parent.name):
        if is_wnid(name[:9]):
            return name[:9]
    raise SystemExit(f"{path} does not begin with a WordNet id, nor does its folder.")


def classified(
    model: Model, folders: list[str], left_out: set[str]
) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the true class of each image, and the probability of each of the model's classes."""
    sources = (
        source
        for source in list_sources(folders, skips=SkipCounter())
        if "/".join(Path(source.path).parts[-2:]) not in left_out
    )
    for result in model.results(("logits",), (Item(source, None) for source in sources)):
        if result.outputs is None:
            raise SystemExit(f"{result.source.path}: {result.error}")
        values = result.outputs["logits"].astype(np.float64)
        if model.module.output == "logits":
            values = np.exp(values - values.max())
            values /= values.sum()
        yield true_class(Path(result.source.path)), values


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folders", nargs="+", help="folders of images")
    parser.add_argument("--model", help="as for nasnet classify")
    parser.add_argument("--leave-out", type=Path, help="a list of FOLDER/NAME, one in a line")
    arguments = parser.parse_args()
    left_out = set(arguments.leave_out.read_text().split("\n")) if arguments.leave_out else set()

    model = load_model(arguments.model)
    labels, hierarchy = model.labels, load_hierarchy()
    everyday = EverydayLabels(labels)
    known = [label.wnid for label in labels]
    classes, rows = zip(*classified(model, arguments.folders, left_out), strict=True)
    probabilities = np.stack(rows)
    first = sum(
        known[index] == wnid for index, wnid in zip(probabilities.argmax(1), classes, strict=True)
    )
    count = len(classes)
    print(f"{count} images; the first prediction is right for {first / count:.1%}.\n")
    print("| `--sure` | right | wrong | not sure | right, where there is one | bits |")
    print("| --- | --- | --- | --- | --- | --- |")
    for sure in THRESHOLDS:
        right = wrong = 0
        bits = 0.0
        for wnid, chosen in zip(classes, everyday.choose(probabilities, sure), strict=True):
            record = everyday.record(chosen)
            if record is None:
                continue
            if record.wnid == wnid or record.wnid in hierarchy.ancestors(wnid):
                right += 1
                below = hierarchy.below(record.wnid)
                bits += math.log2(len(labels) / sum(id_ in below for id_ in known))
            else:
                wrong += 1
        answered = max(right + wrong, 1)
        print(
            f"| {sure} | {right / count:.0%} | {wrong / count:.0%} "
            f"| {1 - (right + wrong) / count:.0%} | {right / answered:.0%} "
            f"| {bits / max(right, 1):.1f} |"
        )


if __name__ == "__main__":
    main()
