"""nasnet inspect: describe a model."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from nasnet_cli.cli.console import Console, ConsoleListener
from nasnet_cli.cli.model_names import complete_model
from nasnet_cli.cli.sections import command_with, json_option, print_json, print_line
from nasnet_cli.results.text import shortened

if TYPE_CHECKING:
    from nasnet_cli.models.catalogue import Entry

# The text form lists this many: the endpoints of inner layers tell most readers little.
_MOST_OUTPUTS = 4
_MOST_IDS = 5


@command_with(
    "nasnet inspect",
    "nasnet inspect model.onnx",
    "nasnet inspect imagenet-mobile --json",
)
@click.argument("model", required=False, type=click.Path(), shell_complete=complete_model)
@json_option("Print everything as JSON.")
def command(model: str | None, as_json: bool) -> None:
    """Describe a model: its format, signatures, sizes, labels and preprocessing.

    MODEL is a path, a name of nasnet models or a handle, as for --model of other commands, with the
    same default. If a published model has not been fetched, this shows what is known about it. No
    model is run.
    """
    from nasnet_cli.model import load_model
    from nasnet_cli.models.default import default_model
    from nasnet_cli.models.hub.published import PUBLISHED

    model = model or default_model()
    with ConsoleListener(Console()) as listener:
        if model in PUBLISHED:
            from nasnet_cli.models import catalogue

            entry = catalogue.published(PUBLISHED[model], listener)
            if entry.path is None:
                _show_unfetched(entry, as_json)
                return
        fields = load_model(model, listener=listener).inspect()
    if as_json:
        print_json(fields)
        return
    for name, value in _lines(fields):
        print_line(f"{name:<18}{value}")


def _show_unfetched(entry: Entry, as_json: bool) -> None:
    """Print what is known of a model that is not here."""
    if as_json:
        from dataclasses import asdict

        print_json({**asdict(entry), "here": False})
        return
    lines = [
        ("name", entry.name),
        ("here", f"no; nasnet models get {entry.name} fetches it"),
        ("images", f"{'x'.join(map(str, entry.image_size or ()))} RGB"),
        ("classes", f"{entry.classes:,}" if entry.classes is not None else "none, only features"),
        ("download", f"about {entry.download_bytes / 1e6:,.0f} MB"),
        *([("accuracy", _accuracy(entry.accuracy))] if entry.accuracy else []),
        ("licence", entry.licence),
        *zip(("origins", *[""] * len(entry.origins)), entry.origins, strict=False),
    ]
    for name, value in lines:
        print_line(f"{name:<18}{value}")


def _lines(fields: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the lines of the text form, each a name and a value; continuations have no name."""
    yield "name", fields["name"]
    yield "from", fields["location"]
    yield "format", fields["format"]
    yield "digest", f"sha256 {fields['digest']}"
    if fields["tag_sets"]:
        yield "tag sets", "  ".join("{" + ", ".join(tags) + "}" for tags in fields["tag_sets"])
    for name, signature in fields["signatures"].items():
        yield from _signature(name, signature)
    size = fields["image_size"]
    low, high = fields["image_range"]
    shown = f"{size[0]}x{size[1]} {fields['channels'].upper()}, " if size else ""
    source = fields["input_range_from"]
    shown += f"values {low + 0.0:g} to {high:g}"  # no "-0"
    yield "images", shown + (f" ({source})" if source != "its card" else "")
    yield "preprocessing", _preprocessing(fields["preprocessing"])
    if fields["classes"] is not None:
        labels = (
            f"{fields['labels']} labels of its own" if fields["labels"] else "no labels of its own"
        )
        if fields["labels_from"] not in (None, "the model"):
            labels = f"labels from {fields['labels_from']}"
        given = fields["output"]
        if fields["activation"] == "sigmoid":
            given = "independent " + given if fields["classes"] > 2 else f"{given} (a sigmoid)"
        yield "classes", f"{fields['classes']:,} ({labels}), given as {given}"
    if fields["everyday_labels"] is not None:
        independent = fields["activation"] == "sigmoid" and fields["classes"] != 2
        none = "none (the model's probabilities are independent)"
        yield "everyday labels", none if independent else _everyday(fields["everyday_labels"])
    if fields["feature_depth"] is not None:
        yield "feature vector", f"{fields['feature_depth']:,} values"
    yield "parameters", f"{fields['parameters']:,}"
    if fields["multiply_adds"] is not None:
        total, depthwise = fields["multiply_adds"], fields["multiply_adds_depthwise"]
        yield "multiply-adds", f"{total / 1e6:,.1f} M, {depthwise / 1e6:,.1f} M of them depthwise"
    if accuracy := fields["accuracy"]:
        yield "accuracy", _accuracy(accuracy)
    for name in ("source", "licence", "written_by"):
        if fields[name]:
            yield name.replace("_", " "), fields[name]
    sizes = fields["file_sizes"]
    yield "files", f"{sum(sizes.values()) / 1e6:,.1f} MB in {len(sizes)} files"
    for name, size in sizes.items():
        yield "", f"{size:>12,}  {name}"
    unsafe = fields["unsafe_operations"]
    yield "unsafe operations", "none" if not unsafe else ", ".join(unsafe)


def _signature(name: str, signature: dict[str, Any]) -> Iterator[tuple[str, str]]:
    entries = [("in ", item) for item in signature["inputs"].items()]
    outputs = sorted(signature["outputs"].items(), key=lambda item: _sort_key(item[0]))
    entries += [("out", item) for item in outputs[:_MOST_OUTPUTS]]
    title = "signature"
    for direction, (key, tensor) in entries:
        shape = "x".join("?" if n is None else str(n) for n in tensor["shape"] or ())
        yield title, f"{name if title else '':<22} {direction} {key}: {tensor['dtype']} [{shape}]"
        title = ""
    if len(outputs) > _MOST_OUTPUTS:
        yield "", f"{'':<22} and {len(outputs) - _MOST_OUTPUTS} more outputs (--json lists all)"


def _sort_key(name: str) -> tuple[bool, str]:
    """Return the sort key of an output: default first, Cell_2 before Cell_10."""
    return name != "default", re.sub(r"\d+", lambda number: number[0].zfill(9), name)


def _preprocessing(settings: dict[str, Any]) -> str:
    shape = {"stretch": "stretched", "crop": "cropped to the model's shape", "pad": "padded"}
    part = f"central {100 * settings['crop_fraction']:g} %"
    return f"{part}, {shape[settings['resize']]}, {settings['resample']} resampling"


def _everyday(everyday: dict[str, Any]) -> str:
    if not everyday["available"]:
        return "none (the labels have no WordNet ids)"
    unknown = everyday["unknown_ids"]
    if not unknown:
        return "yes"
    return f"yes, but nothing is known of the ids {shortened(unknown, _MOST_IDS)}"


def _accuracy(accuracy: dict[str, Any]) -> str:
    known = [key for key in ("top1", "top5") if key in accuracy]
    names = " / ".join(key.replace("top", "top-") for key in known)
    figures = " / ".join(f"{100 * accuracy[key]:.1f} %" for key in known)
    return f"{names} {figures} of {accuracy['pictures']:,} images of {accuracy['dataset']}"
