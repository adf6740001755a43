"""The TF1 Hub modules that tests share, written once for all test processes and runs.

Writing one imports TensorFlow and builds two graphs, which takes longer than most test files. They
are kept in pytest's own cache folder under a digest of the code that writes them.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

from filelock import FileLock

import nasnet_cli
from nasnet_cli.network.spec import MOBILE, NASNetA
from nasnet_cli.network.weights import weight_shapes
from support import golden

# The smallest network that has every part: both cells, a stem with reduction cells, two scales.
TINY = replace(MOBILE, image_size=32, cells_per_stage=1, filters=8, classes=7)


def write_module(folder: Path, spec: NASNetA) -> Path:
    """Write a TF1 Hub module with golden weights."""
    from nasnet_cli.models.formats.tf1_hub import write_tf1_hub

    write_tf1_hub(folder, spec, golden.weights(weight_shapes(spec)))
    return folder


def copy_of_module(folder: Path, spec: NASNetA, kept: Path) -> Path:
    """Copy the module into folder, from the folder of kept modules where it is there."""
    size = f"{spec.image_size}x{spec.filters}"
    module = kept / f"{size}-{_digest(spec)}"
    kept.mkdir(parents=True, exist_ok=True)
    with FileLock(kept / f"{size}.lock"):
        if not module.exists():
            for older in kept.glob(f"{size}-*"):
                shutil.rmtree(older)
            unfinished = kept / f"{size}-unfinished"
            write_module(unfinished, spec).rename(module)
        return shutil.copytree(module, folder)


def _digest(spec: NASNetA) -> str:
    digest = hashlib.sha256(f"{spec} {version('tensorflow')}".encode())
    for path in [Path(golden.__file__), *_sources()]:
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _sources() -> Iterator[Path]:
    for package in ("network", "models"):
        yield from sorted((Path(nasnet_cli.__file__).parent / package).rglob("*.py"))
