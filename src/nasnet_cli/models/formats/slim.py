"""Reads TF-Slim's NASNet-A checkpoints: the published model.ckpt, and one's own."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from nasnet_cli.errors import ModelError, describe_error
from nasnet_cli.models.savedmodel.bundle import read_bundle
from nasnet_cli.network.spec import SIZES, NASNetA, Stem
from nasnet_cli.network.weights import check_weights, weight_shapes

_AVERAGE = "/ExponentialMovingAverage"
# Parts of a training run that are no part of the network in inference.
_TRAINING_ONLY = re.compile(r"(global_step$|aux_\d+/)")


def read_slim_checkpoint(prefix: Path) -> tuple[NASNetA, dict[str, np.ndarray]]:
    """Reads the checkpoint prefix.index, prefix.data-* and tells the network by its variables.

    Returns the network (classes as in the checkpoint) and its weights by name. Moving averages are
    taken where the checkpoint has them, variable by variable, and the raw values elsewhere. Raises
    ModelError for what is no such checkpoint, and one that names variables that are missing, extra
    or misshapen.
    """
    bundle = read_bundle(prefix)
    bundle.check_complete()
    shapes = {name: entry.shape for name, entry in bundle.tensors.items()}
    spec = network_of({_raw(name): shape for name, shape in shapes.items()}, str(prefix))
    wanted = weight_shapes(spec)
    keys = _choose(shapes, wanted)
    entries: dict[str, Any] = {name: bundle.tensors[key] for name, key in keys.items()}
    check_weights(entries, wanted, str(prefix))
    return spec, _values(prefix, keys)


def _values(prefix: Path, keys: Mapping[str, str]) -> dict[str, np.ndarray]:
    """The values of tensors by other names, given their keys; their checksums are verified."""
    from nasnet_cli.quiet import tf

    try:
        reader = tf.train.load_checkpoint(str(prefix))
        return {name: reader.get_tensor(key) for name, key in keys.items()}
    except (tf.errors.OpError, ValueError, RuntimeError, IndexError) as error:
        raise ModelError(
            f"The checkpoint {prefix} is damaged: {describe_error(error)}.",
            "Get it again, all of its files.",
        ) from error


def _choose(
    shapes: Mapping[str, tuple[int, ...]], wanted: Mapping[str, tuple[int, ...]]
) -> dict[str, str]:
    """The key of each variable, whether it is wanted or not; what training alone needs is left."""
    chosen: dict[str, str] = {}
    for key in sorted(shapes):
        name = _raw(key)
        if _TRAINING_ONLY.match(name) or _is_slot(name, wanted):
            continue
        if name not in chosen or key.endswith(_AVERAGE):
            chosen[name] = key
    return chosen


def _raw(key: str) -> str:
    return key.removesuffix(_AVERAGE)


def _is_slot(name: str, wanted: Mapping[str, tuple[int, ...]]) -> bool:
    """An optimizer's memory of a variable, as in NAME/RMSProp."""
    return name.rpartition("/")[0] in wanted


def network_of(shapes: Mapping[str, tuple[int, ...]], source: str) -> NASNetA:
    """Tells a NASNet-A by the names and shapes of its variables.

    One of the published sizes where stem, cells and filters are its own, with the classes that the
    variables say; else a network like mobile with these. What shapes can't tell (the input size,
    how the network was regularised) is the published size's.
    """
    try:
        return _network(shapes)
    except (KeyError, IndexError, ValueError) as error:
        raise ModelError(
            f"{source} doesn't hold the variables of a NASNet-A (cell_0, final_layer and so on).",
            "Name a TF-Slim checkpoint of NASNet-A with its classification layer.",
        ) from error


def _network(shapes: Mapping[str, tuple[int, ...]]) -> NASNetA:
    filters = shapes["cell_0/beginning_bn/gamma"][0]
    classes = shapes["final_layer/FC/biases"][0]
    cells = 1 + max(int(m[1]) for k in shapes if (m := re.match(r"cell_(\d+)/", k)))
    like = SIZES["cifar" if "l1_stem_3x3/weights" in shapes else "mobile"]
    stem_filters = shapes[f"{like.stem.convolution}/weights"][3]
    stem_cells = len({m[0] for k in shapes if (m := re.match(r"cell_stem_\d+/", k))})
    found = (cells, filters, stem_filters, stem_cells)
    for size in SIZES.values():
        if found == (size.normal_cells, size.filters, size.stem.filters, size.stem.cells):
            return replace(size, classes=classes)
    stem: Stem = replace(like.stem, filters=stem_filters, cells=stem_cells)
    return replace(
        like, cells_per_stage=max(1, cells // 3), filters=filters, classes=classes, stem=stem
    )
