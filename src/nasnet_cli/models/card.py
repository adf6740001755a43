"""The model card and the class labels that a model carries: as text, and in a module's folder.

In a module's folder the card is `assets.extra/nasnet.json` and the labels are
`assets.extra/labels.tsv`; TensorFlow and tensorflow-hub leave assets.extra alone. Other formats
keep the same texts under these names (formats/*.py).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast, get_args

from nasnet_cli.errors import ModelError, NasnetError
from nasnet_cli.kept_files import check_fields, parse_json, read_kept
from nasnet_cli.labels import Label, parse_labels, read_labels
from nasnet_cli.models.files import reading
from nasnet_cli.models.values import CHANNELS, RANGES, UNIT, factors

if TYPE_CHECKING:
    from nasnet_cli.network.spec import NASNetA

Output = Literal["logits", "probabilities"]
Activation = Literal["softmax", "log_softmax", "sigmoid"]
Resize = Literal["stretch", "crop", "pad"]
Resample = Literal["bilinear", "bicubic", "box", "lanczos", "hamming", "nearest", "tf1"]
Labels = tuple[Label, ...]

CARD = Path("assets.extra", "nasnet.json")
LABELS = Path("assets.extra", "labels.tsv")

PUBLISHED_PREPROCESSING = {"resize": "stretch", "crop_fraction": 0.875, "resample": "bilinear"}
"""The preprocessing of NASNet's published figures, for models whose card gives none."""

_ACCURACY = {"dataset": str, "pictures": int}
_SIZE_LIMIT = 64 * 2**20
_REMEDY = "Correct or remove the file; the model works without it."
_EMBEDDED_REMEDY = "Get the file again, or export the model again."


@dataclass(frozen=True)
class Card:
    """The facts about a module.

    output is what the model gives, activation what makes or has made probabilities of it: sigmoids
    are independent probabilities, which need not add up to 1; a single one is two classes.
    preprocessing may have size ([height, width] in pixels), resize (stretch, crop or pad),
    crop_fraction (the central share of each side that is kept, over 0 and at most 1), resample
    (the filter's name), input_range and channels (values.py). network is NASNetA.to_dict().
    accuracy says what was measured: dataset, pictures, top1 and top5 (0 to 1), how. tool is the
    program and version that wrote the module.
    """

    name: str
    output: Output = "logits"
    activation: Activation = "softmax"
    preprocessing: dict[str, Any] = field(default_factory=dict)
    network: dict[str, Any] | None = None
    accuracy: dict[str, Any] | None = None
    source: str = ""
    licence: str = ""
    tool: str = ""


def read_card(folder: Path) -> Card | None:
    """Return the card in a module's folder, None when it has none; errors as in read_card_file."""
    return read_card_file(folder / CARD)


def read_card_file(path: Path) -> Card | None:
    """Return the card in a file, None when the file does not exist.

    Raises ModelError, which names the file, when it is not a card.
    """
    with reading(path, _REMEDY):
        try:
            data = read_kept(path, follow=True, max_bytes=_SIZE_LIMIT)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except ValueError:
            raise ModelError(f"{path} is over {_SIZE_LIMIT >> 20} MiB.", _REMEDY) from None
    return _parse_card(data, str(path), _REMEDY)


def read_module_labels(folder: Path) -> Labels | None:
    """Return the labels in a module's folder in the order of its classes, None when it has none.

    Raises NasnetError, which names the file, when it is not a list of labels.
    """
    path = folder / LABELS
    return read_labels(path) if path.exists() else None


def write_card(folder: Path, card: Card, labels: Sequence[Label] | None) -> None:
    """Write the card into a module's folder, and the labels of its classes if there are any."""
    write_texts(folder, card_texts(card, labels))


def write_texts(folder: Path, texts: Mapping[str, str]) -> None:
    """Write what card_texts returns into a module's folder."""
    for name, text in texts.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8", newline="\n")


def card_texts(card: Card, labels: Sequence[Label] | None) -> dict[str, str]:
    """Return the card and the labels as text by the names of their files in a module's folder.

    White space within a label's name becomes single spaces.
    """
    fields_ = asdict(card)
    if card.activation == "softmax":  # as cards were before there was a choice
        del fields_["activation"]
    texts = {CARD.as_posix(): json.dumps(fields_, indent=1, ensure_ascii=False) + "\n"}
    if labels is not None:
        rows = [("index", "wnid", "name")]
        # The format has no quotes, so that a name can hold no tabs and no ends of lines.
        rows += [
            (str(i), label.wnid, " ".join(label.name.split())) for i, label in enumerate(labels)
        ]
        texts[LABELS.as_posix()] = "".join("\t".join(row) + "\n" for row in rows)
    return texts


def read_texts(texts: Mapping[str, str | bytes], source: Path) -> tuple[Card | None, Labels | None]:
    """Parse what card_texts returned; None for what is missing.

    Raises ModelError, which names source, the file that holds the texts, when one is not valid.
    """
    card = texts.get(CARD.as_posix())
    table = texts.get(LABELS.as_posix())
    parsed = (
        _parse_card(card, f"The card in {source}", _EMBEDDED_REMEDY) if card is not None else None
    )
    if table is None:
        return parsed, None
    name = f"The list of labels in {source}"
    try:
        return parsed, parse_labels(_decode(table, name, _EMBEDDED_REMEDY), name, ".tsv")
    except NasnetError as error:
        raise ModelError(error.problem, _EMBEDDED_REMEDY) from None


def network_of_card(card: Card, spec: NASNetA | None, path: Path) -> NASNetA:
    """Return the network that a card describes; spec is what the file's variables say, if anything.

    Only the card knows what variables cannot say: the padding of the stem, the regularization and
    the normalization. The caller checks that the variables fit. Raises ModelError when the card
    does not describe a network.
    """
    from nasnet_cli.network.spec import NASNetA
    from nasnet_cli.network.weights import weight_shapes

    try:
        described = NASNetA.from_dict(card.network or {})
        if spec is not None:
            described = replace(described, classes=spec.classes, image_size=spec.image_size)
        weight_shapes(described)
    except (TypeError, KeyError, AttributeError, ValueError, ArithmeticError) as error:
        raise ModelError(
            f"The card of {path} doesn't describe a NASNet-A.", "Correct or remove it."
        ) from error
    return described


def _parse_card(text: str | bytes, name: str, remedy: str) -> Card:
    """Parse a card, which errors call name. Unknown keys are ignored."""
    try:
        data = parse_json(_decode(text, name, remedy))
    except ValueError:
        raise ModelError(f"{name} is not JSON.", remedy) from None
    if not isinstance(data, dict):
        raise ModelError(f"{name} is not a JSON object.", remedy)
    known = {f.name for f in fields(Card)}
    values = {key: value for key, value in data.items() if key in known}
    for key, problem in _problems(values):
        raise ModelError(f"{name} has a wrong {key}: it must be {problem}.", remedy)
    return Card(**values)


def _decode(text: str | bytes, name: str, remedy: str) -> str:
    try:
        return text if isinstance(text, str) else text.decode("utf-8")
    except UnicodeDecodeError:
        raise ModelError(f"{name} is not UTF-8 text.", remedy) from None


def _problems(values: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the wrong values of a card: each key with what it must be."""
    problems = []
    if not isinstance(values.get("name"), str):
        problems.append(("name", "text"))
    if values.get("output", "logits") not in get_args(Output):
        problems.append(("output", "logits or probabilities"))
    if values.get("activation", "softmax") not in get_args(Activation):
        problems.append(("activation", "one of " + ", ".join(get_args(Activation))))
    for key in ("source", "licence", "tool"):
        if not isinstance(values.get(key, ""), str):
            problems.append((key, "text"))
    if not isinstance(values.get("network"), dict | None):
        problems.append(("network", "an object or null"))
    if not _is_accuracy(values.get("accuracy")):
        problems.append(("accuracy", "null, or dataset, pictures, top1 and top5 from 0 to 1"))
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
    if not _is_range(values.get("input_range", UNIT)):
        problems.append(("preprocessing input_range", "one of " + ", ".join(RANGES)))
    if values.get("channels", "rgb") not in CHANNELS:
        problems.append(("preprocessing channels", "rgb or bgr"))
    return problems


def _is_accuracy(value: object) -> bool:
    try:
        shares = check_fields(value or {"dataset": "", "pictures": 0}, _ACCURACY)
    except ValueError:
        return False
    figures = [shares.get(name, 0.0) for name in ("top1", "top5")]
    return all(type(figure) in (int, float) and 0 <= figure <= 1 for figure in figures)


def _is_range(value: object) -> bool:
    try:
        return isinstance(value, str) and bool(factors(value))
    except ValueError:
        return False


def _is_side(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value < 2**16
