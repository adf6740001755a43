"""Writes a network in another form, runs what was written, and puts it in place if it is right."""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from nasnet_cli import __version__
from nasnet_cli.errors import ModelError, NasnetError, OutputError
from nasnet_cli.models.card import CARD, LABELS, Card, write_card
from nasnet_cli.models.extras import add_to_archive, card_texts
from nasnet_cli.models.formats import keras_export, onnx_export, openvino_ir, tf_formats
from nasnet_cli.models.formats.saved_model import write_saved_model
from nasnet_cli.models.formats.table import AGREEMENT, TOLERANCE, Format, Kind, Precision
from nasnet_cli.models.formats.tf1_hub import write_tf1_hub
from nasnet_cli.models.info import PUBLISHED_PREPROCESSING
from nasnet_cli.models.probes import probe_images
from nasnet_cli.models.runtime_file import CARD_SUFFIX, LABELS_SUFFIX
from nasnet_cli.models.safety.gate import check_safe
from nasnet_cli.models.savedmodel.reader import PB
from nasnet_cli.models.weights_source import Network

Outputs = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Check:
    """How a written file compares with its source on the probe pictures.

    largest_difference is over all outputs; agreement is the share of pictures whose largest output
    is the same.
    """

    largest_difference: float
    agreement: float
    pictures: int
    tolerance: float | None

    @property
    def passed(self) -> bool:
        """Within the tolerance, or agreeing where weights are rounded on purpose."""
        if self.tolerance is None:
            return self.agreement >= AGREEMENT
        return self.largest_difference <= self.tolerance


def export(
    network: Network,
    out: Path,
    form: Format,
    *,
    kind: Kind = "classification",
    precision: Precision = "f32",
    overwrite: bool = False,
    allow_unsafe_ops: bool = False,
    note: Callable[[str], None] = lambda _: None,
) -> Check:
    """Writes network to out in a form, checked and whole, or not at all.

    The source is run on the probe pictures as it stands where it is a module, else as the network
    that its weights make; so is the written file, by its own runtime. Raises ModelError when the
    source can't give this kind, could do more than compute (unless allow_unsafe_ops) or differs
    from what was written, OutputError when out is there
    (unless overwrite) or can't be written. note is told what is being done.
    """
    classification = kind == "classification"
    if classification and not network.classification:
        raise ModelError(
            f"The model {network.name} has no classification layer.",
            "Export it with --kind feature-vector.",
        )
    if form.name == "onnx":
        onnx_export.require()
    if network.module is not None and not allow_unsafe_ops:
        check_safe(network.module)
    names = form.files(out.name)
    _check_free(out, form, overwrite)
    shaped = _shaped(network, classification)
    card, labels = _card(shaped), shaped.labels
    with _place_beside(out) as place:
        target = place / out.name
        note(f"writing {form.name}")
        _write(form, target, shaped, card_texts(card, labels), precision)
        note(f"comparing {out.name} with its source")
        check = _check(network, shaped, form, target, precision)
        if not check.passed:
            raise _differs(network, form, check)
        if not form.suffix:
            write_card(target, card, labels)
        elif form.name == "keras":
            add_to_archive(target, card_texts(card, labels))
        elif form.name == "tflite":
            _write_sidecars(target, card_texts(card, labels), check, precision)
        if not overwrite:  # another job may have been quicker
            _check_free(out, form, overwrite)
        _publish(place, out, names)
    return check


def _shaped(network: Network, classification: bool) -> Network:
    """The network of that kind: without the classification layer, its labels and accuracy too."""
    if classification or not network.classification:
        return network
    weights = {k: v for k, v in network.weights.items() if not k.startswith("final_layer/FC/")}
    return replace(network, weights=weights, classification=False, labels=None)


def _card(network: Network) -> Card:
    size = [network.spec.image_size] * 2
    known = network.card or Card(network.name, preprocessing=dict(PUBLISHED_PREPROCESSING))
    return replace(
        known,
        output="logits",
        preprocessing={**known.preprocessing, "size": size},
        network=network.spec.to_dict(),
        accuracy=known.accuracy if network.classification else None,
        tool=f"nasnet-cli {__version__}",
    )


def _write(
    form: Format, target: Path, network: Network, texts: Mapping[str, str], precision: Precision
) -> None:
    spec, weights = network.spec, network.weights
    options: dict[str, Any] = {"classification": network.classification}
    match form.name:
        case "tf1-hub":
            write_tf1_hub(target, spec, weights, **options)
        case "saved-model":
            write_saved_model(target, spec, weights, **options)
        case "keras":
            keras_export.write(target, spec, weights, **options)
        case "tflite":
            tf_formats.write_tflite(target, spec, weights, half=precision == "f16", **options)
        case "onnx":
            onnx_export.write(target, spec, weights, texts, **options)
        case "openvino":
            openvino_ir.write(target, spec, weights, texts, **options)


_RUN: dict[str, Callable[..., Outputs]] = {
    "tf1-hub": tf_formats.run_tf1_hub,
    "saved-model": tf_formats.run_saved_model,
    "keras": keras_export.run,
    "tflite": tf_formats.run_tflite,
    "onnx": onnx_export.run,
    "openvino": openvino_ir.run,
}


def _check(
    source: Network, written: Network, form: Format, target: Path, precision: Precision
) -> Check:
    pictures = probe_images(written.spec.image_size)
    expected = _expected(source, pictures)
    got = _RUN[form.name](target, pictures, classification=written.classification)
    if not _shared(expected, got):  # a module that only classifies, for its features
        expected = _run_weights(source, pictures)
    return compare(expected, got, TOLERANCE if precision == "f32" else None)


def compare(expected: Outputs, got: Outputs, tolerance: float | None) -> Check:
    """Compares outputs [pictures, length] by name; the first of logits and features that both
    have decides the agreement."""
    shared = _shared(expected, got)
    pictures = len(got[shared[0]])
    if any(expected[name].shape != got[name].shape for name in shared):
        return Check(float("inf"), 0.0, pictures, tolerance)
    difference = max(float(np.abs(expected[name] - got[name]).max()) for name in shared)
    same = expected[shared[0]].argmax(1) == got[shared[0]].argmax(1)
    if np.isnan(difference):  # which no comparison would call too large
        difference = float("inf")
    return Check(difference, float(same.mean()), pictures, tolerance)


def _shared(expected: Outputs, got: Outputs) -> list[str]:
    return [name for name in ("logits", "features") if name in expected and name in got]


def _expected(source: Network, pictures: np.ndarray) -> Outputs:
    module = source.module
    if module is None:
        return _run_weights(source, pictures)
    return tf_formats.run_module(module, pictures)


def _run_weights(source: Network, pictures: np.ndarray) -> Outputs:
    return tf_formats.run_network(
        source.spec, source.weights, pictures, classification=source.classification
    )


def _differs(network: Network, form: Format, check: Check) -> ModelError:
    if check.tolerance is None:
        share = f"{100 * check.agreement:.0f} % of {check.pictures} pictures"
        return ModelError(
            f"The {form.name} form of {network.name} has the same best class for {share} alone, so "
            "it was not kept.",
            "Export it with --precision f32.",
        )
    return ModelError(
        f"The {form.name} form of {network.name} differs from it by {check.largest_difference:.2g} "
        f"(tolerance {check.tolerance:g}), so it was not kept.",
        "The source may be a network of another build than NASNet-A's with variables of the same "
        "names.",
    )


def _write_sidecars(
    target: Path, texts: Mapping[str, str], check: Check, precision: Precision
) -> None:
    card = json.loads(texts[CARD.as_posix()])
    card["export"] = {"precision": precision, **asdict(check)}
    sidecar = target.with_name(target.name + CARD_SUFFIX)
    sidecar.write_text(json.dumps(card, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    if LABELS.as_posix() in texts:
        labels = target.with_name(target.name + LABELS_SUFFIX)
        labels.write_text(texts[LABELS.as_posix()], encoding="utf-8")


def _check_free(out: Path, form: Format, overwrite: bool) -> None:
    for path in (out.with_name(name) for name in form.files(out.name)):
        if not path.exists() and not path.is_symlink():
            continue
        if not overwrite:
            raise OutputError(
                f"{path} already exists.", "Use --overwrite to replace it, or name another."
            )
        if form.suffix and path.is_dir():
            raise OutputError(f"{path} is a folder, not a file.", "Name a file.")
        # Replacing a folder deletes all that is in it, so that only a module is taken for one.
        if not form.suffix and not (path / PB).is_file():
            raise OutputError(
                f"{path} is there and no module, so it is not replaced.", "Name another folder."
            )


@contextmanager
def _place_beside(out: Path) -> Iterator[Path]:
    """A hidden folder beside out, gone at the end; on the same file system, so that renaming out
    of it is all that is left to do."""
    try:
        place = Path(
            tempfile.mkdtemp(prefix=f".{out.name[:100]}.", suffix=".partial", dir=out.parent)
        )
    except OSError as error:
        raise OutputError(
            f"{out} can't be written: {(error.strerror or str(error)).lower()}.",
            "Name another place.",
        ) from error
    try:
        yield place
    except NasnetError:
        raise
    except OSError as error:
        raise OutputError(
            f"{out} can't be written: {error.strerror or error}.", "Check the space and rights."
        ) from error
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _publish(place: Path, out: Path, names: list[str]) -> None:
    """Moves what was written into place, what makes it complete last; what it replaces goes."""
    replaced = place / ".replaced"
    replaced.mkdir()
    moved: list[str] = []
    try:
        for name in names:
            target = out.with_name(name)
            if target.is_symlink() or target.exists():
                # A folder can't be renamed over another, and an old companion must not stay.
                target.rename(replaced / name)
                moved.append(name)
        for name in names:
            with contextlib.suppress(FileNotFoundError):  # labels, where there are none
                (place / name).rename(out.with_name(name))
    except BaseException:
        for name in moved:
            with contextlib.suppress(OSError):
                (replaced / name).rename(out.with_name(name))
        raise
