"""Reads NASNet's weights out of Keras files: keras.applications' own, fine-tuned ones, and ours.

Forms over the years: Keras 2's .h5 (weights alone, or a whole model), Keras 3's .h5 and .weights.h5,
and .keras, which is a zip with such a file. Only names and numbers are read; nothing of what a file
says is run or built. Keras' layers are put into the exact network by their names: keras.applications
differs from the reference in how strided pools are padded, its weights don't.
"""

from __future__ import annotations

import itertools
import json
import math
import re
import shutil
import tempfile
import zipfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from nasnet_cli.errors import ModelError, describe_error
from nasnet_cli.models.formats.hdf5 import open_hdf5
from nasnet_cli.models.formats.keras_names import KerasNames
from nasnet_cli.network.spec import NASNetA
from nasnet_cli.network.weights import check_weights, weight_shapes

HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"
ZIP_MAGIC = b"PK\x03\x04"

_CONFIG_LIMIT = 64 * 2**20
_WEIGHTS_LIMIT = 2**32
_NUMBERS_LIMIT = 2**29
# Keras 3 numbers a layer's weights; by kind of layer, as it calls the kinds.
_LEAVES = {
    "conv2d": ("kernel",),
    "separable_conv2d": ("depthwise_kernel", "pointwise_kernel"),
    "batch_normalization": ("gamma", "beta", "moving_mean", "moving_variance"),
    "dense": ("kernel", "bias"),
}
_CODE = {"Lambda", "__lambda__", "__marshal__", "__function__"}


@dataclass(frozen=True)
class _Layer:
    """A layer with weights: its name ("" where the file has none), Keras 3's word for its kind
    ("" in older files), and its h5py datasets by leaf name."""

    name: str
    kind: str
    weights: dict[str, Any]


def read_keras_file(path: Path) -> tuple[NASNetA, dict[str, np.ndarray], bool]:
    """Reads a .h5 or .keras file with the weights of a NASNet-A.

    Returns the network, its weights (float32) by TF-Slim names, and whether the classification
    layer is among them; classes are as in the file, 1000 of keras.applications or others. The image
    size is the file's where it says one, else the published one's. Raises ModelError when it is
    no such file, broken, holds layers that are not NASNet's, code, or links to other files.
    """
    try:
        with path.open("rb") as file:
            magic = file.read(8)
            if magic == HDF5_MAGIC:
                with open_hdf5(path, path) as opened:
                    return _read(opened, _json(opened.attrs.get("model_config"), path), path)
            if magic.startswith(ZIP_MAGIC):
                with zipfile.ZipFile(file) as archive:
                    return _read_archive(archive, path)
    except OSError as error:
        raise ModelError(f"{path} can't be read: {error.strerror}.", "Check the path.") from error
    except (zipfile.BadZipFile, KeyError, NotImplementedError, RuntimeError, EOFError) as error:
        raise ModelError(
            f"{path} is no whole .keras file: {describe_error(error)}.", "Get it again, whole."
        ) from error
    raise ModelError(
        f"{path} is no Keras file: neither HDF5 nor a .keras archive.",
        "Name a .h5 or .keras file with NASNet's weights.",
    )


def _read_archive(
    archive: zipfile.ZipFile, path: Path
) -> tuple[NASNetA, dict[str, np.ndarray], bool]:
    config = _json(read_member(archive, "config.json", path), path)
    info = archive.getinfo("model.weights.h5")
    if info.file_size > _WEIGHTS_LIMIT:
        raise ModelError(f"The weights in {path} are over 4 GiB.", "No NASNet's are.")
    with tempfile.TemporaryFile() as unpacked:
        with archive.open(info) as packed:
            shutil.copyfileobj(packed, unpacked, 2**20)
        unpacked.seek(0)
        with open_hdf5(unpacked, path) as opened:
            return _read(opened, config, path)


def read_member(archive: zipfile.ZipFile, name: str, path: Path) -> bytes:
    """A small member of a .keras archive. Raises ModelError when it is large for a text, KeyError
    when there is none."""
    info = archive.getinfo(name)
    if info.file_size > _CONFIG_LIMIT:
        raise ModelError(f"{name} in {path} is over {_CONFIG_LIMIT >> 20} MiB.", "No model's is.")
    return archive.read(info)


def _json(text: Any, path: Path) -> dict[str, Any]:
    """A model's configuration, {} where a file of weights alone has none; refuses code in it."""
    if text is None:
        return {}
    try:
        config = json.loads(text)
        has_code = _has_code(config)
    except (ValueError, TypeError, RecursionError) as error:
        raise ModelError(f"The configuration in {path} is no JSON.", "Get it again.") from error
    if has_code:
        raise ModelError(
            f"{path} holds a layer that is program code (Lambda), which is refused.",
            "Save the weights alone, of a model without such a layer.",
        )
    return config if isinstance(config, dict) else {}


def _has_code(config: Any) -> bool:
    if isinstance(config, dict):
        return config.get("class_name") in _CODE or any(map(_has_code, config.values()))
    return isinstance(config, list) and any(map(_has_code, config))


def _read(
    opened: Any, config: dict[str, Any], path: Path
) -> tuple[NASNetA, dict[str, np.ndarray], bool]:
    found = _variables(_named(list(_layers(opened, config, path)), path), path)
    spec, classification = _network(found, path)
    spec = replace(spec, image_size=_image_size(config, path) or spec.image_size)
    shapes = weight_shapes(spec, classification=classification)
    check_weights(found, shapes, str(path))
    if sum(math.prod(shape) for shape in shapes.values()) > _NUMBERS_LIMIT:
        raise ModelError(f"{path} holds more numbers than any NASNet.", "Use another file.")
    return spec, {name: _array(found[name], name, path) for name in shapes}, classification


def _array(dataset: Any, name: str, path: Path) -> np.ndarray:
    if dataset.dtype.kind != "f":
        raise ModelError(
            f"{path} keeps {name} as {dataset.dtype}, not as floating-point numbers.",
            "Save the model in float32.",
        )
    values: np.ndarray = dataset[()].astype(np.float32)
    return values


def _network(found: dict[str, Any], path: Path) -> tuple[NASNetA, bool]:
    from nasnet_cli.models.formats.slim import network_of

    shapes = {name: tuple(dataset.shape) for name, dataset in found.items()}
    classification = "final_layer/FC/weights" in shapes
    if not classification:
        # The classes don't matter without their layer, and the network is told with it.
        shapes = {**shapes, "final_layer/FC/biases": (1001,)}
    return network_of(shapes, str(path)), classification


def _variables(layers: Sequence[_Layer], path: Path) -> dict[str, Any]:
    """The datasets by their TF-Slim variables, a fine-tuned head's under the classification's."""
    names = KerasNames(layer.name for layer in layers)
    found: dict[str, Any] = {}
    heads = [layer for layer in layers if names.scope(layer.name) is None and _is_dense(layer)]
    has_own = any(names.scope(layer.name) == "final_layer/FC" for layer in layers)
    for layer in layers:
        is_head = heads == [layer] and not has_own
        for leaf, dataset in layer.weights.items():
            name = names.variable("predictions" if is_head else layer.name, leaf)
            if name is None or name in found:
                raise ModelError(
                    f"{path} has a layer {layer.name!r} with weights that is none of NASNet's, or "
                    "one too many.",
                    "Use a file of keras.applications' NASNet with at most a new last Dense layer.",
                )
            found[name] = dataset
    if not {"conv0/weights", "l1_stem_3x3/weights"} & found.keys():
        raise ModelError(
            f"{path} doesn't hold the layers of a NASNet.",
            "Use a file that was saved from keras.applications' NASNetMobile or NASNetLarge.",
        )
    return found


def _is_dense(layer: _Layer) -> bool:
    return set(layer.weights) == {"kernel", "bias"} and len(layer.weights["kernel"].shape) == 2


def _layers(opened: Any, config: dict[str, Any], path: Path) -> Iterator[_Layer]:
    """The layers with weights, in the file's order, whichever of Keras' layouts it has."""
    root = opened.get("model_weights", opened)
    if "layer_names" in root.attrs or "layer_names0" in root.attrs:
        for name in _texts(root.attrs, "layer_names"):
            yield from _older_layers(root[name], name)
        return
    for container in ("layers", "_layer_checkpoint_dependencies"):
        if container in opened:
            yield from _numbered_layers(opened[container], config, container)
            return
    raise ModelError(
        f"{path} is HDF5, but in none of the ways in which Keras lays out weights.",
        "Name a file that model.save or model.save_weights wrote.",
    )


def _texts(attributes: Any, key: str) -> Iterator[str]:
    """A list of names, which Keras cuts into pieces when it is long."""
    keys = [key] if key in attributes else []
    if not keys:
        pieces = itertools.count()
        keys = list(itertools.takewhile(attributes.__contains__, (f"{key}{i}" for i in pieces)))
    for part in keys:
        for text in attributes[part]:
            yield text.decode("utf-8") if isinstance(text, bytes) else str(text)


def _older_layers(group: Any, name: str) -> Iterator[_Layer]:
    """A layer as in Keras 2, or the layers of a model that stands as one layer in another."""
    layers: dict[str, dict[str, Any]] = {}
    for weight in _texts(group.attrs, "weight_names"):
        parts = weight.split("/")
        layer = parts[-2] if len(parts) > 1 else name
        layers.setdefault(layer, {})[parts[-1].partition(":")[0]] = group[weight]
    for layer, weights in layers.items():
        yield _Layer(layer, "", weights)


def _numbered_layers(group: Any, config: dict[str, Any], container: str) -> Iterator[_Layer]:
    """Layers as in Keras 3: groups conv2d, conv2d_1, ... with their weights in vars/0, vars/1."""
    configured = _configured(config)
    for key in sorted(group, key=_number):
        kind = re.sub(r"_\d+$", "", key)
        name, inner = configured.get(key, ("", {}))
        if container in group[key]:
            yield from _numbered_layers(group[key][container], inner, container)
            continue
        kept = group[key].get("vars")
        weights = [kept[i] for i in sorted(kept, key=int)] if kept is not None else []
        if not weights or (kind not in _LEAVES and all(not w.shape for w in weights)):
            continue  # a seed, or how far a training has come
        said = kept.attrs.get("name", name)
        leaves = _LEAVES.get(kind, map(str, range(len(weights))))
        yield _Layer(str(said), kind, dict(zip(leaves, weights, strict=False)))


def _number(key: str) -> tuple[str, int]:
    match = re.fullmatch(r"(.*?)(?:_(\d{1,9}))?", key)
    return (match[1], int(match[2] or 0)) if match else (key, 0)


def _configured(config: dict[str, Any]) -> dict[str, tuple[str, dict[str, Any]]]:
    """The layers' names and configurations by the names of their groups."""
    inner = config.get("config")
    layers = inner.get("layers") if isinstance(inner, dict) else None
    counts: Counter[str] = Counter()
    found = {}
    for layer in layers if isinstance(layers, list) else ():
        if not isinstance(layer, dict) or not isinstance(layer.get("config"), dict):
            continue
        kind = _snake_case(str(layer.get("class_name")))
        key = f"{kind}_{counts[kind]}" if counts[kind] else kind
        counts[kind] += 1
        found[key] = (str(layer["config"].get("name", "")), layer)
    return found


def _snake_case(name: str) -> str:
    """As Keras makes it of a class's name."""
    name = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", re.sub(r"\W+", "", name))
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()


def _named(layers: Sequence[_Layer], path: Path) -> Sequence[_Layer]:
    """The layers with names: those of keras.applications, by order, where the file has none.

    Keras 3's files of weights alone had no names at first; each kind of layer is in its order.
    """
    if all(layer.name for layer in layers):
        return layers
    size = {388: "mobile", 532: "large"}.get(len([x for x in layers if x.kind != "dense"]), "")
    order = _order(size)
    named = []
    for layer in layers:
        names = order.get(layer.kind)
        if not names and layer.kind != "dense":
            raise ModelError(
                f"{path} names no layers and doesn't hold as many as a NASNet of Keras.",
                "Save the whole model instead of its weights.",
            )
        named.append(replace(layer, name=names.pop(0) if names else "predictions"))
    return named


def _order(size: str) -> dict[str, list[str]]:
    """The names of keras.applications' layers with weights, by kind, in Keras' order."""
    if not size:
        return {}
    from nasnet_cli.quiet import silence

    with silence():
        import keras

        build = {"mobile": keras.applications.NASNetMobile, "large": keras.applications.NASNetLarge}
        model = build[size](weights=None, include_top=False)
    names: dict[str, list[str]] = {}
    for layer in model.layers:
        if layer.weights:
            names.setdefault(_snake_case(type(layer).__name__), []).append(layer.name)
    return names


def _image_size(config: dict[str, Any], path: Path) -> int | None:
    """The side of the input, where the configuration has a fixed one."""
    inner = config.get("config")
    layers = inner.get("layers") if isinstance(inner, dict) else None
    for layer in layers if isinstance(layers, list) else ():
        settings = layer.get("config") if isinstance(layer, dict) else None
        if not isinstance(settings, dict):
            continue
        shape = settings.get("batch_shape") or settings.get("batch_input_shape")
        if not isinstance(shape, list) or len(shape) != 4:
            continue
        height, width = shape[1:3]
        if not isinstance(height, int) or not isinstance(width, int):
            return None
        if height == width and 8 <= height <= 4096:
            return height
        raise ModelError(
            f"{path} is a model for pictures of {height}x{width} pixels.",
            "A NASNet here takes square ones of 8 to 4096 pixels.",
        )
    return None
