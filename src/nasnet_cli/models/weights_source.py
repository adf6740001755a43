"""Finds out what a path holds and reads the network out of it: weights by TF-Slim names."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from nasnet_cli.errors import ModelError
from nasnet_cli.labels import Label, labels_for
from nasnet_cli.models.card import Card
from nasnet_cli.models.detect import RUNTIME_FILES, detect
from nasnet_cli.models.extras import network_of_card, read_keras, read_texts
from nasnet_cli.models.formats import onnx
from nasnet_cli.models.info import OpenedSavedModel, open_saved_model
from nasnet_cli.models.savedmodel.bundle import Bundle, read_bundle
from nasnet_cli.models.savedmodel.reader import PB
from nasnet_cli.network.spec import NASNetA
from nasnet_cli.network.weights import check_weights, weight_shapes

_CHECKPOINT_KEY = "/.ATTRIBUTES/VARIABLE_VALUE"


@dataclass(frozen=True, eq=False)
class Network:
    """A NASNet-A that was read: weights (float32) by their TF-Slim names, with the classification
    layer or without it.

    labels are in the order of the classes, None where neither the source nor ImageNet has any.
    module is set when the source is one that runs by itself, as it stands.
    """

    name: str
    spec: NASNetA
    weights: dict[str, np.ndarray]
    classification: bool
    card: Card | None = None
    labels: tuple[Label, ...] | None = None
    module: OpenedSavedModel | None = None


def load_network(path: Path) -> Network:
    """Reads the network that a path holds, told from its content.

    A TF1 Hub module's or TF2 SavedModel's folder, a TF-Slim checkpoint (the part of its files'
    names before .index, the .index file, or a folder with one), a Keras .h5 or .keras file, an ONNX
    file that export wrote. Raises ModelError when it is none of these, broken, or not a NASNet-A.
    """
    try:
        found = detect(path)
    except OSError as error:
        raise ModelError(f"{path} can't be read: {error.strerror}.", "Check the path.") from error
    if found is not None and found.kind == "saved-model":
        return _from_module(found.path)
    if found is not None and found.kind == "slim":
        return _from_checkpoint(found.path)
    if found is not None and found.kind == "keras":
        return _from_keras(found.path)
    if found is not None and found.kind == "onnx":
        return _from_onnx(found.path)
    if found is not None and found.kind in RUNTIME_FILES:
        raise ModelError(
            f"{path} can't be exported: its weights are merged with its normalisation.",
            "Name the model that it was made from.",
        )
    raise _unknown(path)


def _unknown(path: Path) -> ModelError:
    if not path.exists():
        return ModelError(f"There is no model at {path}.", "Check the path.")
    return ModelError(
        f"{path} holds no NASNet that can be read.",
        f"Looked for: a module's folder ({PB}), a TF-Slim checkpoint (model.ckpt.index), a Keras "
        "file (.h5, .keras), and an ONNX file that export wrote.",
    )


def _from_checkpoint(prefix: Path) -> Network:
    from nasnet_cli.models.formats.slim import read_slim_checkpoint

    spec, weights = read_slim_checkpoint(prefix)
    return Network(prefix.name, spec, weights, True, labels=labels_for(spec.classes))


def _from_keras(path: Path) -> Network:
    spec, weights, classification, card, labels = read_keras(path)
    labels = labels or (labels_for(spec.classes) if classification else None)
    return Network(path.stem, spec, weights, classification, card, labels)


def _from_onnx(path: Path) -> Network:
    model = onnx.read_onnx(path)
    card, labels = read_texts(onnx.texts(model), path)
    found = onnx.weights(model)
    if card is None or card.network is None:
        raise ModelError(
            f"{path} doesn't say what network it is: nasnet export didn't write it.",
            "Name the model that it was made from.",
        )
    spec = network_of_card(card, None, path)
    classification = "final_layer/FC/weights" in found
    wanted = weight_shapes(spec, classification=classification)
    # The graph has numbers of its own beside the weights.
    weights = {name: found[name] for name in wanted if name in found}
    check_weights(weights, wanted, str(path))
    return Network(path.stem, spec, weights, classification, card, labels)


def _from_module(folder: Path) -> Network:
    from nasnet_cli.models.formats.slim import network_of

    module = open_saved_model(folder)
    bundle = read_bundle(folder / "variables" / "variables")
    keys = _without_prefix(dict(_keys(module, bundle)))
    shapes = {name: bundle.tensors[key].shape for name, key in keys.items()}
    classification = "final_layer/FC/weights" in shapes
    if not classification:
        # The classes don't matter without their layer, and the network is told with it.
        shapes["final_layer/FC/biases"] = (1001,)
    spec = network_of(shapes, str(folder))
    if module.image_size is not None:
        height, width = module.image_size
        if height != width:
            raise ModelError(
                f"{folder} takes pictures of {height}x{width} pixels.", "NASNet's are square."
            )
        spec = replace(spec, image_size=height)
    if module.card is not None and module.card.network is not None:
        spec = network_of_card(module.card, spec, folder)
    wanted = weight_shapes(spec, classification=classification)
    weights = {name: bundle.read(keys[name]) for name in wanted if name in keys}
    check_weights(weights, wanted, str(folder))
    labels = module.labels or (labels_for(spec.classes) if classification else None)
    return Network(folder.name, spec, weights, classification, module.card, labels, module)


def _keys(module: OpenedSavedModel, bundle: Bundle) -> Iterator[tuple[str, str]]:
    """Variables' names with their keys in the checkpoint, which are the names in TensorFlow 1."""
    objects = module.model.inference.proto.object_graph_def
    if not objects.nodes:
        yield from ((key, key) for key in bundle.tensors)
        return
    for index, place in _places(objects).items():
        if objects.nodes[index].HasField("variable"):
            key = place + _CHECKPOINT_KEY
            if key in bundle.tensors:
                yield objects.nodes[index].variable.name.partition(":")[0], key


def _places(objects: Any) -> dict[int, str]:
    """The shortest path to each object, by which TensorFlow 2 names what it saves."""
    places = {0: ""}
    waiting = [0]
    for index in waiting:
        for child in objects.nodes[index].children:
            if child.node_id not in places and 0 <= child.node_id < len(objects.nodes):
                name = child.local_name.replace(".", "..").replace("/", ".S")
                places[child.node_id] = f"{places[index]}/{name}" if places[index] else name
                waiting.append(child.node_id)
    return places


def _without_prefix(keys: Mapping[str, str]) -> dict[str, str]:
    """Names without the scope in which the network was saved, e.g. "module/"."""
    for name in keys:
        if match := re.fullmatch(r"(.+/)(?:conv0|l1_stem_3x3)/weights", name):
            prefix = match[1]
            return {n.removeprefix(prefix): k for n, k in keys.items() if n.startswith(prefix)}
    return dict(keys)
