"""nasnet inspect: what a model is."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import click

# The endpoints of the inner layers say little to most readers: text output shows this many.
_MOST_OUTPUTS = 4


@click.command()
@click.argument("model", required=False, type=click.Path())
@click.option("--json", "as_json", is_flag=True, help="Print all of it as JSON.")
def command(model: str | None, as_json: bool) -> None:
    """Say what a model is: its format, signatures, sizes, labels and preprocessing.

    MODEL is what --model takes elsewhere: a path, a published name, a handle; without it, the
    built-in model. Nothing of the model is run.
    """
    from nasnet_cli.cli.console import Console, ConsoleListener
    from nasnet_cli.model import load_model
    from nasnet_cli.results.text import json_text, printable

    with ConsoleListener(Console()) as listener:
        found = load_model(model, listener=listener).inspect()
    if as_json:
        click.echo(json_text(found, indent=2))
        return
    for name, value in _lines(found):
        click.echo(printable(f"{name:<18}{value}"))


def _lines(found: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """The text form: a name and a value a line; more of the same have no name."""
    yield "name", found["name"]
    yield "from", found["location"]
    yield "format", found["format"]
    yield "digest", f"sha256 {found['digest']}"
    if found["tag_sets"]:
        yield "tag sets", "  ".join("{" + ", ".join(tags) + "}" for tags in found["tag_sets"])
    for name, signature in found["signatures"].items():
        yield from _signature(name, signature)
    size = found["image_size"]
    low, high = found["image_range"]
    yield "images", (f"{size[0]}x{size[1]} RGB, " if size else "") + f"values {low:g} to {high:g}"
    yield "preprocessing", _preprocessing(found["preprocessing"])
    if found["classes"] is not None:
        labels = (
            f"{found['labels']} labels of its own" if found["labels"] else "no labels of its own"
        )
        yield "classes", f"{found['classes']:,} ({labels}), given as {found['output']}"
    if found["feature_depth"] is not None:
        yield "feature vector", f"{found['feature_depth']:,} values"
    yield "parameters", f"{found['parameters']:,}"
    if found["multiply_adds"] is not None:
        total, depthwise = found["multiply_adds"], found["multiply_adds_depthwise"]
        yield "multiply-adds", f"{total / 1e6:,.1f} M, {depthwise / 1e6:,.1f} M of them depthwise"
    if accuracy := found["accuracy"]:
        yield "accuracy", _accuracy(accuracy)
    for name in ("source", "licence", "written_by"):
        if found[name]:
            yield name.replace("_", " "), found[name]
    sizes = found["file_sizes"]
    yield "files", f"{sum(sizes.values()) / 1e6:,.1f} MB in {len(sizes)} files"
    for name, size in sizes.items():
        yield "", f"{size:>12,}  {name}"
    unsafe = found["unsafe_operations"]
    yield "unsafe operations", "none" if not unsafe else ", ".join(unsafe)


def _signature(name: str, signature: dict[str, Any]) -> Iterator[tuple[str, str]]:
    shown = [("in ", item) for item in signature["inputs"].items()]
    outputs = sorted(signature["outputs"].items(), key=lambda item: _place(item[0]))
    shown += [("out", item) for item in outputs[:_MOST_OUTPUTS]]
    title = "signature"
    for way, (key, tensor) in shown:
        shape = "x".join("?" if n is None else str(n) for n in tensor["shape"] or ())
        yield title, f"{name if title else '':<22} {way} {key}: {tensor['dtype']} [{shape}]"
        title = ""
    if len(outputs) > _MOST_OUTPUTS:
        yield "", f"{'':<22} and {len(outputs) - _MOST_OUTPUTS} endpoints more (--json has all)"


def _place(name: str) -> tuple[bool, str]:
    """Where an output is shown: default first, Cell_2 before Cell_10."""
    return name != "default", re.sub(r"\d+", lambda number: number[0].zfill(9), name)


def _preprocessing(how: dict[str, Any]) -> str:
    shape = {"stretch": "stretched", "crop": "in the model's shape", "pad": "padded"}
    part = f"central {100 * how['crop_fraction']:g} %"
    return f"{part}, {shape[how['resize']]}, {how['resample']} resampling"


def _accuracy(accuracy: dict[str, Any]) -> str:
    figures = " / ".join(f"{100 * accuracy[k]:.1f} %" for k in ("top1", "top5") if k in accuracy)
    return f"top-1 / top-5 {figures} of {accuracy['pictures']:,} pictures of {accuracy['dataset']}"
