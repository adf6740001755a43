"""Write a network in another format, run what was written, and publish it if it is right."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from nasnet_cli import __version__
from nasnet_cli.atomic import hidden_folder
from nasnet_cli.errors import ModelError, OutputError
from nasnet_cli.models.card import PUBLISHED_PREPROCESSING, Card, card_texts
from nasnet_cli.models.convert import without_classification
from nasnet_cli.models.formats.base import Format, Network, Outputs
from nasnet_cli.models.formats.names import Kind, Precision
from nasnet_cli.models.probes import probe_images
from nasnet_cli.models.safety.gate import check_safe
from nasnet_cli.models.savedmodel.reader import PB
from nasnet_cli.results.atomic import errors_in_words

TOLERANCE, RELATIVE_TOLERANCE = 1e-4, 1e-5
"""The largest difference allowed between an output and the source's in float32: absolute, or
relative to the source's largest value where that is more, since float32 rounds relatively."""

AGREEMENT = 0.9
"""The least share of images with the source's best class, where weights are rounded."""


@dataclass(frozen=True)
class Check:
    """The comparison of a written file with its source on the probe images.

    largest_difference is over all outputs; agreement is the share of the images whose largest
    output is the same; pictures is the count of images.
    """

    largest_difference: float
    agreement: float
    pictures: int
    tolerance: float | None

    @property
    def passed(self) -> bool:
        """True within the tolerance, or with agreement where weights are rounded on purpose."""
        if self.tolerance is None:
            return self.agreement >= AGREEMENT
        return self.largest_difference <= self.tolerance


def export(
    network: Network,
    out: Path,
    entry: Format,
    *,
    kind: Kind = "classification",
    precision: Precision = "f32",
    overwrite: bool = False,
    allow_unsafe_ops: bool = False,
    note: Callable[[str], None] = lambda _: None,
) -> Check:
    """Write a network to out in a format, checked and whole, or not at all.

    The source is run on the probe images as it stands where it is a module, else as the network
    that its weights make; so is the written file, by its own runtime. note receives what is being
    done. Raises ModelError when the source cannot give this kind, could do more than compute
    (unless allow_unsafe_ops) or differs from what was written; OutputError when out exists (unless
    overwrite) or cannot be written.
    """
    classification = kind == "classification"
    if classification and not network.classification:
        raise ModelError(
            f"The model {network.name} has no classification layer.",
            "Export it with --kind feature-vector.",
        )
    entry.check_packages()
    if network.module is not None:
        if allow_unsafe_ops:
            network.module.check_constants()
        else:
            check_safe(network.module)
    names = entry.written_names(out.name)
    check_free(out, entry, overwrite)
    written = network if classification else without_classification(network)
    with errors_in_words(out), hidden_folder(out) as staging:
        target = staging / out.name
        note(f"writing {entry.name}")
        entry.write(target, written, texts_of(written), precision)
        note(f"comparing {out.name} with its source")
        images = probe_images(written.spec.image_size)
        outputs = entry.run(target, images, classification=classification)
        check = _compare_with_source(network, images, outputs, precision)
        if not check.passed:
            raise _differs(network, entry, check)
        entry.record_check(target, {"precision": precision, **asdict(check)})
        if not overwrite:  # another job may have been quicker
            check_free(out, entry, overwrite)
        publish(staging, out, names)
    return check


def texts_of(network: Network) -> dict[str, str]:
    """Return the card and the labels to write with a network, by file name."""
    return card_texts(_card(network), network.labels)


def _card(network: Network) -> Card:
    size = [network.spec.image_size] * 2
    own = {"input_range": network.input_range} if network.input_range else {}
    known = network.card or Card(
        network.name,
        activation=network.activation,
        preprocessing={**PUBLISHED_PREPROCESSING, **own},
    )
    return replace(
        known,
        output="logits",
        preprocessing={**known.preprocessing, "size": size},
        network=network.spec.to_dict(),
        accuracy=known.accuracy if network.classification else None,
        tool=f"nasnet-cli {__version__}",
    )


def _compare_with_source(
    source: Network, images: np.ndarray, outputs: Outputs, precision: Precision
) -> Check:
    tolerance = TOLERANCE if precision == "f32" else None
    if source.module is not None:
        expected = source.module.run(images)
        if _shared(expected, outputs):
            return compare(expected, outputs, tolerance)
        # Else it is a module that only classifies, for its features.
    from nasnet_cli.network.layers.function import run_network

    expected = run_network(
        source.spec, source.weights, images, classification=source.classification
    )
    return compare(expected, outputs, tolerance)


def compare(expected: Outputs, outputs: Outputs, tolerance: float | None) -> Check:
    """Compare outputs [images, length] by name; the first of logits and features that both
    have decides the agreement."""
    shared = _shared(expected, outputs)
    count = len(outputs[shared[0]])
    if any(expected[name].shape != outputs[name].shape for name in shared):
        return Check(float("inf"), 0.0, count, tolerance)
    difference = max(float(np.abs(expected[name] - outputs[name]).max()) for name in shared)
    if tolerance is not None:
        largest = max(float(np.abs(expected[name]).max()) for name in shared)
        if np.isfinite(largest):
            tolerance = max(tolerance, RELATIVE_TOLERANCE * largest)
    same = expected[shared[0]].argmax(1) == outputs[shared[0]].argmax(1)
    if np.isnan(difference):  # which no comparison would call too large
        difference = float("inf")
    return Check(difference, float(same.mean()), count, tolerance)


def _shared(expected: Outputs, outputs: Outputs) -> list[str]:
    return [name for name in ("logits", "features") if name in expected and name in outputs]


def _differs(network: Network, entry: Format, check: Check) -> ModelError:
    if check.tolerance is None:
        share = f"{100 * check.agreement:.0f} % of {check.pictures} images"
        return ModelError(
            f"The {entry.name} form of {network.name} has the same best class for {share} only, "
            "so it was not kept.",
            "Export it with --precision f32.",
        )
    return ModelError(
        f"The {entry.name} form of {network.name} differs from it by {check.largest_difference:.2g} "
        f"(tolerance {check.tolerance:.2g}), so it was not kept.",
        "The source may be a network of another build than NASNet-A's with variables of the same "
        "names.",
    )


def check_free(out: Path, entry: Format, overwrite: bool) -> None:
    """Raise OutputError when out cannot be written, or exists and overwrite is false."""
    if not out.parent.is_dir():
        raise OutputError(
            f"{out} cannot be written: there is no folder {out.parent}.", "Create the folder first."
        )
    for path in (out.with_name(name) for name in entry.written_names(out.name)):
        if not path.exists() and not path.is_symlink():
            continue
        if not overwrite:
            raise OutputError(
                f"{path} already exists.", "Use --overwrite to replace it, or name another."
            )
        if entry.suffix and path.is_dir():
            raise OutputError(f"{path} is a folder, not a file.", "Name a file.")
        # Replacing a folder deletes all that is in it, so that only a module is taken for one.
        if not entry.suffix and not (path / PB).is_file():
            raise OutputError(
                f"{path} is not a SavedModel, so it is not replaced.", "Name another folder."
            )


def publish(staging: Path, out: Path, names: list[str]) -> None:
    """Move what was written in staging into place, the file that makes it complete last."""
    replaced = staging / ".replaced"
    replaced.mkdir()
    try:
        for name in names:
            # A folder cannot be renamed over another, and an old companion must not stay.
            with contextlib.suppress(FileNotFoundError):
                out.with_name(name).rename(replaced / name)
        for name in names:
            with contextlib.suppress(FileNotFoundError):  # labels, where there are none
                (staging / name).rename(out.with_name(name))
    except BaseException:
        for old in replaced.iterdir():
            with contextlib.suppress(OSError):
                old.rename(out.with_name(old.name))
        raise
