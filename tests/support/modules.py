"""The TF1 Hub modules that tests share, written once for all test processes and runs.

Writing one imports TensorFlow and builds two graphs, which takes longer than most test files. They
are kept in pytest's own cache folder under a digest of the code that writes them.
"""

from __future__ import annotations

import functools
import hashlib
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

from filelock import FileLock

import nasnet_cli
from nasnet_cli.labels import Label
from nasnet_cli.models.card import Card, write_card
from nasnet_cli.network.spec import MOBILE, NASNetA
from nasnet_cli.network.weights import weight_shapes
from support import golden

# The smallest network that has every part: both cells, a stem with reduction cells, two scales.
TINY = replace(MOBILE, image_size=32, cells_per_stage=1, filters=8, classes=7)

# Files of other runtimes, by format.
FILES = {"onnx": "m.onnx", "openvino": "m.xml", "tflite": "m.tflite"}


def write_module(folder: Path, spec: NASNetA) -> Path:
    """Write a TF1 Hub module with golden weights."""
    from nasnet_cli.models.formats.tf1_hub import write_tf1_hub

    write_tf1_hub(folder, spec, golden.weights(weight_shapes(spec)))
    return folder


def write_labels(folder: Path) -> Path:
    """Give a module of seven classes a card and labels."""
    preprocessing = {"resize": "crop", "crop_fraction": 0.5, "resample": "bicubic"}
    labels = [Label(f"n{i:08}", f"thing {i}, naïve") for i in range(7)]
    write_card(folder, Card("tiny thing", preprocessing=preprocessing), labels)
    return folder


def copy_of_module(folder: Path, spec: NASNetA, kept: Path) -> Path:
    """Copy the module with golden weights into folder, from the kept ones if it is there."""
    size = f"{spec.image_size}x{spec.filters}"
    return _copy_of_kept(kept, size, folder, lambda new: write_module(new, spec))


def copy_of_exports(folder: Path, source: Path, kept: Path) -> Path:
    """Copy the files of FILES into folder, with and without classes, made of a module.

    They are written as export does, without its comparison, which runs the source for each again:
    test_export.py has that, and test_runtime_files.py compares these files with their source.
    """
    from nasnet_cli.models.convert import without_classification
    from nasnet_cli.models.export import texts_of
    from nasnet_cli.models.formats.table import FORMATS
    from support.models import load_network

    def make(new: Path) -> None:
        new.mkdir()
        network = load_network(source)
        for start, written in (("", network), ("features-", without_classification(network))):
            for form, name in FILES.items():
                FORMATS[form].write(new / f"{start}{name}", written, texts_of(written), "f32")

    return _copy_of_kept(kept, f"exports-{source.name}", folder, make)


def _copy_of_kept(kept: Path, name: str, folder: Path, make: Callable[[Path], object]) -> Path:
    current = kept / f"{name}-{_digest()}"
    kept.mkdir(parents=True, exist_ok=True)
    with FileLock(kept / f"{name}.lock"):
        if not current.exists():
            for older in kept.glob(f"{name}-*"):
                shutil.rmtree(older)
            unfinished = kept / f"{name}-unfinished"
            make(unfinished)
            unfinished.rename(current)
        return shutil.copytree(current, folder)


@functools.cache
def _digest() -> str:
    """The digest of all that says what is written."""
    digest = hashlib.sha256()
    for package in ("tensorflow", "openvino", "onnx"):
        digest.update(version(package).encode())
    for path in [Path(__file__), Path(golden.__file__), *_sources()]:
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _sources() -> Iterator[Path]:
    for package in ("network", "models"):
        yield from sorted((Path(nasnet_cli.__file__).parent / package).rglob("*.py"))
