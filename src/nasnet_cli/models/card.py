"""Our sidecar in a module's folder: what the format itself has no place for.

`assets.extra/nasnet.json` is the card, `assets.extra/labels.tsv` the labels of the classes.
TensorFlow and tensorflow-hub leave assets.extra alone.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, cast, get_args

from nasnet_cli.errors import ModelError
from nasnet_cli.labels import Label, read_labels

Output = Literal["logits", "probabilities"]
Resize = Literal["stretch", "crop", "pad"]
Resample = Literal["bilinear", "bicubic", "box", "lanczos", "hamming", "nearest", "tf1"]

CARD = Path("assets.extra", "nasnet.json")
LABELS = Path("assets.extra", "labels.tsv")

_SIZE_LIMIT = 64 * 2**20
_REMEDY = "Correct or remove the file; the module works without it."


@dataclass(frozen=True)
class Card:
    """What is known about a module.

    preprocessing may have size ([height, width] in pixels), resize (stretch, crop or pad),
    crop_fraction (the central share of each side that is kept, over 0 and at most 1) and resample
    (the filter's name). network is NASNetA.to_dict(). accuracy says what was measured: dataset,
    pictures, top1 and top5 (0 to 1), how. tool is the program and version that wrote the module.
    """

    name: str
    output: Output = "logits"
    preprocessing: dict[str, Any] = field(default_factory=dict)
    network: dict[str, Any] | None = None
    accuracy: dict[str, Any] | None = None
    source: str = ""
    licence: str = ""
    tool: str = ""


def read_card(folder: Path) -> Card | None:
    """The card of a module's folder, None when it has none; as read_card_file."""
    return read_card_file(folder / CARD)


def read_card_file(path: Path) -> Card | None:
    """The card in a file, None when it isn't there. Keys that we don't know are passed over.

    Raises ModelError, which names the file, when it is no JSON or a value is of the wrong kind.
    """
    text = _read(path)
    if text is None:
        return None
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        raise ModelError(f"{path} is not JSON.", _REMEDY) from None
    if not isinstance(data, dict):
        raise ModelError(f"{path} is not a JSON object.", _REMEDY)
    known = {f.name for f in fields(Card)}
    values = {key: value for key, value in data.items() if key in known}
    for key, problem in _problems(values):
        raise ModelError(f"{path} has a wrong {key}: it must be {problem}.", _REMEDY)
    return Card(**values)


def read_module_labels(folder: Path) -> tuple[Label, ...] | None:
    """The labels in a module's folder in the order of its classes, None when it has none.

    Raises NasnetError, which names the file, when it is no list of labels.
    """
    path = folder / LABELS
    return read_labels(path) if path.exists() else None


def write_card(folder: Path, card: Card, labels: Sequence[Label] | None) -> None:
    """Writes the card into a module's folder, and its classes' labels if they are given.

    White space within a label's name becomes single spaces.
    """
    path = folder / CARD
    path.parent.mkdir(exist_ok=True)
    text = json.dumps(asdict(card), indent=1, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")
    if labels is None:
        return
    rows = [("index", "wnid", "name")]
    # The format has no quotes, so a name can't hold tabs or ends of lines.
    rows += [(str(i), label.wnid, " ".join(label.name.split())) for i, label in enumerate(labels)]
    table = "".join("\t".join(row) + "\n" for row in rows)
    (folder / LABELS).write_text(table, encoding="utf-8", newline="\n")


def _problems(values: dict[str, Any]) -> list[tuple[str, str]]:
    """What is wrong with a card's values: each key with what it must be."""
    problems = []
    if not isinstance(values.get("name"), str):
        problems.append(("name", "text"))
    if values.get("output", "logits") not in get_args(Output):
        problems.append(("output", "logits or probabilities"))
    for key in ("source", "licence", "tool"):
        if not isinstance(values.get(key, ""), str):
            problems.append((key, "text"))
    for key in ("network", "accuracy"):
        if not isinstance(values.get(key), dict | None):
            problems.append((key, "an object or null"))
    preprocessing = values.get("preprocessing", {})
    if not isinstance(preprocessing, dict):
        return [*problems, ("preprocessing", "an object")]
    return problems + _preprocessing_problems(cast(dict[str, Any], preprocessing))


def _preprocessing_problems(values: dict[str, Any]) -> list[tuple[str, str]]:
    problems = []
    size = values.get("size", [1, 1])
    if not isinstance(size, list) or len(size) != 2 or not all(map(_is_side, size)):
        problems.append(("preprocessing size", "[height, width] in pixels"))
    if values.get("resize", "stretch") not in get_args(Resize):
        problems.append(("preprocessing resize", "stretch, crop or pad"))
    crop = values.get("crop_fraction", 1)
    if isinstance(crop, bool) or not isinstance(crop, int | float) or not 0 < crop <= 1:
        problems.append(("preprocessing crop_fraction", "a number over 0 and at most 1"))
    if values.get("resample", "tf1") not in get_args(Resample):
        problems.append(("preprocessing resample", "one of " + ", ".join(get_args(Resample))))
    return problems


def _is_side(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value < 2**16


def _read(path: Path) -> str | None:
    try:
        if not path.exists():
            return None
        if path.stat().st_size > _SIZE_LIMIT:
            raise ModelError(f"{path} is over {_SIZE_LIMIT >> 20} MiB.", _REMEDY)
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise ModelError(f"{path} can't be read: {error.strerror}.", _REMEDY) from None
    except UnicodeDecodeError:
        raise ModelError(f"{path} is not UTF-8 text.", _REMEDY) from None
