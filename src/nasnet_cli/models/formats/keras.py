"""Keras files with NASNet's weights: keras.applications' own, fine-tuned ones, and ours.

Layouts over the years: Keras 2's .h5 (weights alone, or a whole model), Keras 3's .h5 and
.weights.h5, and .keras, which is a zip with such a file. Only names and numbers are read; nothing
in the file is executed or built. Keras' layers are matched to the exact network by their names:
keras.applications differs from the reference in the padding of strided pools, its weights don't.
"""

from __future__ import annotations

import itertools
import math
import re
import shutil
import tempfile
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nasnet_cli.errors import ModelError, describe_error
from nasnet_cli.kept_files import parse_json
from nasnet_cli.labels import labels_for
from nasnet_cli.models.card import CARD, LABELS, network_of_card, read_texts
from nasnet_cli.models.formats.base import Format, Network, Outputs
from nasnet_cli.models.formats.names import Precision
from nasnet_cli.models.keras_config import EXPORT, read_settings

if TYPE_CHECKING:
    import numpy as np

    from nasnet_cli.network.spec import NASNetA

_HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"
_ZIP_MAGIC = b"PK\x03\x04"
_ARCHIVED_WEIGHTS = "model.weights.h5"
_CONFIG_LIMIT = 64 * 2**20
_WEIGHTS_LIMIT = 2**32
_NUMBERS_LIMIT = 2**29
# Keras 3 numbers the weights of a layer: their names by its name of the kind of layer.
_LEAVES = {
    "conv2d": ("kernel",),
    "separable_conv2d": ("depthwise_kernel", "pointwise_kernel"),
    "batch_normalization": ("gamma", "beta", "moving_mean", "moving_variance"),
    "dense": ("kernel", "bias"),
}
_CODE = {"Lambda", "__lambda__", "__marshal__", "__function__"}


@dataclass(frozen=True)
class _Layer:
    """A layer with weights: its name ("" where the file has none), Keras 3's name of its kind
    ("" in older files), and its h5py datasets by leaf name."""

    name: str
    kind: str
    weights: dict[str, Any]


class Keras(Format):
    """The format of .h5 and .keras files."""

    name = "keras"
    title = "a Keras file"
    expected = "a Keras .h5 or .keras"
    suffixes = (".h5", ".keras")
    is_writable = True
    suffix = ".keras"

    def detect(self, path: Path, head: bytes | None) -> Path | None:
        if head is None:
            return None
        is_archive = head.startswith(_ZIP_MAGIC) and _ARCHIVED_WEIGHTS in _members(path)
        return path if head.startswith(_HDF5_MAGIC) or is_archive else None

    def read_network(self, path: Path) -> Network:
        """Read the weights of a NASNet-A from a .h5 or .keras file.

        The network's classes are those of the file, its image size too where the file gives one.
        Raises ModelError when the file is broken, holds layers that are not NASNet's, code, or
        links to other files, or when its card is another network's.
        """
        from nasnet_cli.network.weights import check_weights, weight_shapes

        with _opened(path) as (archive, config, weights_file):
            spec, weights, classification = _read(weights_file, config, path)
            settings = read_settings(config, path)
            card, labels = read_texts(_texts_in(archive, path), path)
        if card is not None and card.network is not None:
            spec = network_of_card(card, spec, path)
            check_weights(weights, weight_shapes(spec, classification=classification), str(path))
        labels = labels or (labels_for(spec.classes) if classification else None)
        return Network(
            path.stem,
            spec,
            weights,
            classification,
            card,
            labels,
            activation=card.activation if card else settings.activation,
            input_range=None if card else settings.input_range,
        )

    def write(
        self, path: Path, network: Network, texts: Mapping[str, str], precision: Precision
    ) -> None:
        """Write a model from images [batch, size, size, 3] in [0, 1] to logits [batch, classes], or
        to features [batch, depth] without classification.

        The layer final_layer.global_pool gives the features of either. Plain Keras 3 loads it.
        """
        from nasnet_cli.quiet import keras, silence  # noqa: F401  # TensorFlow before Keras
        from nasnet_cli.network.layers.keras import build_portable_model  # isort: skip

        spec, weights = network.spec, network.weights
        with silence():
            build_portable_model(spec, weights, classification=network.classification).save(path)
        with zipfile.ZipFile(path, "a") as archive:  # Keras ignores members that it doesn't know
            for name, text in texts.items():
                archive.writestr(name, text)

    def run(self, path: Path, images: np.ndarray, *, classification: bool) -> Outputs:
        """Load a file by Keras in its safe mode, and run it."""
        import numpy as np

        from nasnet_cli.quiet import keras, silence

        with silence():
            model = keras.saving.load_model(path, compile=False, safe_mode=True)
            outputs = {"features": model.get_layer("final_layer.global_pool").output}
            if classification:
                outputs["logits"] = model.output
            values = keras.Model(model.input, outputs)(images, training=False)
            return {name: np.asarray(value) for name, value in values.items()}


def _members(path: Path) -> list[str]:
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError):
        return []


@contextmanager
def _opened(path: Path) -> Iterator[tuple[zipfile.ZipFile | None, dict[str, Any], Any]]:
    """Open a file: its archive, if it is one, its configuration and its h5py.File of weights."""
    from nasnet_cli.models.safety.hdf5 import check_expansion, open_hdf5

    try:
        with path.open("rb") as file:
            is_archive = file.read(len(_ZIP_MAGIC)) == _ZIP_MAGIC
        if not is_archive:
            with open_hdf5(path, path) as weights:
                yield None, _json(weights.attrs.get("model_config"), path), weights
            return
        with zipfile.ZipFile(path) as archive, tempfile.TemporaryFile() as unpacked:
            check_expansion(archive, path)
            config = _json(_member(archive, "config.json", path), path)
            info = archive.getinfo(_ARCHIVED_WEIGHTS)
            if info.file_size > _WEIGHTS_LIMIT:
                raise ModelError(f"The weights in {path} are over 4 GiB.", "No NASNet's are.")
            with archive.open(info) as packed:
                shutil.copyfileobj(packed, unpacked, 2**20)
            unpacked.seek(0)
            with open_hdf5(unpacked, path) as weights:
                yield archive, config, weights
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}.", "Check the path.") from error
    except (zipfile.BadZipFile, KeyError, NotImplementedError, RuntimeError, EOFError) as error:
        raise ModelError(
            f"{path} is not a whole .keras file: {describe_error(error)}.", "Get it again, whole."
        ) from error


def _texts_in(archive: zipfile.ZipFile | None, path: Path) -> dict[str, bytes]:
    """Return the card and the labels in an archive, as card.read_texts takes them."""
    names = archive.namelist() if archive else []
    kept = [name for name in (CARD.as_posix(), LABELS.as_posix()) if name in names]
    return {name: _member(archive, name, path) for name in kept if archive}


def _member(archive: zipfile.ZipFile, name: str, path: Path) -> bytes:
    """Read a member that holds text. Raises KeyError when there is none."""
    info = archive.getinfo(name)
    if info.file_size > _CONFIG_LIMIT:
        raise ModelError(f"{name} in {path} is over {_CONFIG_LIMIT >> 20} MiB.", "No model's is.")
    return archive.read(info)


def _json(text: Any, path: Path) -> dict[str, Any]:
    """Parse a model's configuration ({} for weights alone). Raises ModelError for code in it."""
    if text is None:
        return {}
    try:
        config = parse_json(text)
        has_code = _has_code(config)
    except (ValueError, TypeError, RecursionError) as error:
        raise ModelError(f"The configuration in {path} is not JSON.", "Get it again.") from error
    if has_code:
        raise ModelError(
            f"{path} holds a layer that is program code (Lambda), which is refused.",
            "Save only the weights, of a model without such a layer.",
        )
    return config if isinstance(config, dict) else {}


def _has_code(config: Any) -> bool:
    if isinstance(config, dict):
        return config.get("class_name") in _CODE or any(map(_has_code, config.values()))
    return isinstance(config, list) and any(map(_has_code, config))


def _read(
    opened: Any, config: dict[str, Any], path: Path
) -> tuple[NASNetA, dict[str, np.ndarray], bool]:
    from nasnet_cli.network.weights import check_weights, network_of, weight_shapes

    found = _variables(_named(list(_layers(opened, config, path)), path), path)
    classification = "final_layer/FC/weights" in found
    spec = network_of({name: tuple(part.shape) for name, part in found.items()}, str(path))
    spec = replace(spec, image_size=_image_size(config, path) or spec.image_size)
    shapes = weight_shapes(spec, classification=classification)
    check_weights(found, shapes, str(path))
    if sum(math.prod(shape) for shape in shapes.values()) > _NUMBERS_LIMIT:
        raise ModelError(f"{path} holds more numbers than any NASNet.", "Use another file.")
    return spec, {name: _array(found[name], name, path) for name in shapes}, classification


def _array(dataset: Any, name: str, path: Path) -> np.ndarray:
    import numpy as np

    if dataset.dtype.kind != "f":
        raise ModelError(
            f"{path} keeps {name} as {dataset.dtype}, not as floating-point numbers.",
            "Save the model in float32.",
        )
    values: np.ndarray = dataset[()].astype(np.float32)
    return values


def _variables(layers: Sequence[_Layer], path: Path) -> dict[str, Any]:
    """Return the datasets by TF-Slim variable, a fine-tuned head's under the classification's."""
    from nasnet_cli.network.keras_names import KerasNames

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
                    f"{path} has a layer {layer.name!r} with weights that NASNet doesn't "
                    "have, or has it twice.",
                    f"Only NASNets are read from Keras files. {EXPORT}",
                )
            found[name] = dataset
    if not {"conv0/weights", "l1_stem_3x3/weights"} & found.keys():
        raise ModelError(
            f"{path} doesn't hold the layers of a NASNet.",
            f"Only NASNets are read from Keras files. {EXPORT}",
        )
    return found


def _is_dense(layer: _Layer) -> bool:
    return set(layer.weights) == {"kernel", "bias"} and len(layer.weights["kernel"].shape) == 2


def _layers(opened: Any, config: dict[str, Any], path: Path) -> Iterator[_Layer]:
    """Yield the layers with weights in the file's order, in any of Keras' layouts."""
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
        f"{path} is HDF5, but in none of Keras' layouts.",
        "Name a file that model.save or model.save_weights wrote.",
    )


def _texts(attributes: Any, key: str) -> Iterator[str]:
    """Yield the names in a list, which Keras splits when it is long."""
    keys = [key] if key in attributes else []
    if not keys:
        pieces = itertools.count()
        keys = list(itertools.takewhile(attributes.__contains__, (f"{key}{i}" for i in pieces)))
    for part in keys:
        for text in attributes[part]:
            yield text.decode("utf-8") if isinstance(text, bytes) else str(text)


def _older_layers(group: Any, name: str) -> Iterator[_Layer]:
    """Yield a layer as in Keras 2, or the layers of a model nested in another."""
    layers: dict[str, dict[str, Any]] = {}
    for weight in _texts(group.attrs, "weight_names"):
        parts = weight.split("/")
        layer = parts[-2] if len(parts) > 1 else name
        layers.setdefault(layer, {})[parts[-1].partition(":")[0]] = group[weight]
    for layer, weights in layers.items():
        yield _Layer(layer, "", weights)


def _numbered_layers(group: Any, config: dict[str, Any], container: str) -> Iterator[_Layer]:
    """Yield layers as in Keras 3: groups conv2d, conv2d_1, ... with weights vars/0, vars/1."""
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
            continue  # a seed, or the progress of a training
        saved_name = kept.attrs.get("name", name)
        leaves = _LEAVES.get(kind, map(str, range(len(weights))))
        yield _Layer(str(saved_name), kind, dict(zip(leaves, weights, strict=False)))


def _number(key: str) -> tuple[str, int]:
    match = re.fullmatch(r"(.*?)(?:_(\d{1,9}))?", key)
    return (match[1], int(match[2] or 0)) if match else (key, 0)


def _configured(config: dict[str, Any]) -> dict[str, tuple[str, dict[str, Any]]]:
    """Return the layers' names and configurations by the names of their groups."""
    from nasnet_cli.network.keras_names import snake_case

    counts: Counter[str] = Counter()
    configured = {}
    for layer in _layer_configs(config):
        kind = snake_case(str(layer.get("class_name")))
        key = f"{kind}_{counts[kind]}" if counts[kind] else kind
        counts[kind] += 1
        configured[key] = (str(layer["config"].get("name", "")), layer)
    return configured


def _layer_configs(config: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the layers in a model's configuration that have one of their own."""
    inner = config.get("config")
    layers = inner.get("layers") if isinstance(inner, dict) else None
    for layer in layers if isinstance(layers, list) else ():
        if isinstance(layer, dict) and isinstance(layer.get("config"), dict):
            yield layer


def _named(layers: Sequence[_Layer], path: Path) -> Sequence[_Layer]:
    """Name the layers of a file without names as keras.applications does, by their order.

    Early Keras 3 wrote weights alone without names; each kind of layer is in order.
    """
    if all(layer.name for layer in layers):
        return layers
    from nasnet_cli.network.keras_names import application_layers

    size = {388: "mobile", 532: "large"}.get(len([x for x in layers if x.kind != "dense"]), "")
    order = application_layers(size)
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


def _image_size(config: dict[str, Any], path: Path) -> int | None:
    """Return the side of the input, where the configuration has a fixed one."""
    for layer in _layer_configs(config):
        settings = layer["config"]
        shape = settings.get("batch_shape") or settings.get("batch_input_shape")
        if not isinstance(shape, list) or len(shape) != 4:
            continue
        height, width = shape[1:3]
        if not isinstance(height, int) or not isinstance(width, int):
            return None
        if height == width and 8 <= height <= 4096:
            return height
        raise ModelError(
            f"{path} is a model for images of {height}x{width} pixels.",
            "A NASNet here takes square images of 8 to 4096 pixels.",
        )
    return None
