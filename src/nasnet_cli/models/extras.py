"""A model's card and labels as text, for the forms that have no folder to keep them in.

The texts go by the names of the files in a module's folder, so that both are read the same way.
"""

from __future__ import annotations

import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from nasnet_cli.errors import ModelError, NasnetError
from nasnet_cli.labels import Label
from nasnet_cli.models.card import CARD, LABELS, Card, read_card, read_module_labels, write_card
from nasnet_cli.models.formats.keras import read_keras_file, read_member
from nasnet_cli.network.spec import NASNetA
from nasnet_cli.network.weights import check_weights, weight_shapes


def add_to_archive(path: Path, texts: Mapping[str, str]) -> None:
    """Puts the card and the labels into a .keras archive, where Keras passes over them; texts are as
    card_texts gives them."""
    with zipfile.ZipFile(path, "a") as archive:
        for name, text in texts.items():
            archive.writestr(name, text)


def read_from_archive(path: Path) -> tuple[Card | None, tuple[Label, ...] | None]:
    """The card and the labels of a file that add_to_archive wrote; None each for others.

    Raises NasnetError when they can't be read.
    """
    if not zipfile.is_zipfile(path):
        return None, None
    with zipfile.ZipFile(path) as archive:
        names = [n for n in (CARD.as_posix(), LABELS.as_posix()) if n in archive.namelist()]
        return read_texts({name: read_member(archive, name, path) for name in names}, path)


def read_texts(
    texts: Mapping[str, str | bytes], source: Path
) -> tuple[Card | None, tuple[Label, ...] | None]:
    """The inverse of card_texts, None each for what isn't there.

    Raises ModelError, which names source, the file that they are in, when one can't be read.
    """
    with tempfile.TemporaryDirectory() as folder:
        for name in (CARD.as_posix(), LABELS.as_posix()):
            if (text := texts.get(name)) is not None:
                place = Path(folder, name)
                place.parent.mkdir(exist_ok=True)
                place.write_bytes(text.encode() if isinstance(text, str) else text)
        try:
            return read_card(Path(folder)), read_module_labels(Path(folder))
        except NasnetError as error:
            problem = error.problem
            for what, place in (("card", CARD), ("list of labels", LABELS)):
                problem = problem.replace(str(Path(folder, place)), f"The {what} in {source}")
            raise ModelError(problem, "Get the file again, or export the model anew.") from None


def card_texts(card: Card, labels: Sequence[Label] | None) -> dict[str, str]:
    """The card and the labels as text by the names of their files in a module's folder."""
    with tempfile.TemporaryDirectory() as folder:
        write_card(Path(folder), card, labels)
        places = [place for place in (CARD, LABELS) if Path(folder, place).exists()]
        return {p.as_posix(): Path(folder, p).read_text(encoding="utf-8") for p in places}


def read_keras(
    path: Path,
) -> tuple[NASNetA, dict[str, np.ndarray], bool, Card | None, tuple[Label, ...] | None]:
    """A Keras file's network, its weights by their TF-Slim names, whether it classifies, and the
    card and the labels where export wrote it; the network is then the card's.

    Raises ModelError when it is no such file, or its card is another network's.
    """
    spec, weights, classification = read_keras_file(path)
    card, labels = read_from_archive(path)
    if card is not None and card.network is not None:
        spec = network_of_card(card, spec, path)
        check_weights(weights, weight_shapes(spec, classification=classification), str(path))
    return spec, weights, classification, card, labels


def network_of_card(card: Card, spec: NASNetA | None, path: Path) -> NASNetA:
    """The network that a card describes, for a file whose variables were told to be spec, if any.

    The card knows what variables can't say: how the stem pads, how the network is regularised and
    normalised. Whether its variables are the file's is for the caller to check. Raises ModelError
    when the card describes no network.
    """
    try:
        said = NASNetA.from_dict(card.network or {})
        if spec is not None:
            said = replace(said, classes=spec.classes, image_size=spec.image_size)
        weight_shapes(said)
    except (TypeError, KeyError, AttributeError, ValueError, ArithmeticError) as error:
        raise ModelError(
            f"The card of {path} doesn't describe a NASNet-A.", "Correct or remove it."
        ) from error
    return said
