"""Settings in the configuration of a Keras model beside its weights: the head, and the layers before it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, cast

from nasnet_cli.errors import ModelError
from nasnet_cli.models.card import Activation
from nasnet_cli.models.values import range_of

EXPORT = "Export it with Keras, model.export(folder), and name that folder."

# The layers of NASNet, and those that hold others.
_OWN = frozenset((
    "Activation", "Add", "AveragePooling2D", "BatchNormalization", "Concatenate", "Conv2D",
    "Cropping2D", "Dense", "Flatten", "Functional", "GlobalAveragePooling2D", "InputLayer",
    "MaxPooling2D", "Model", "ReLU", "Rescaling", "SeparableConv2D", "Sequential", "Softmax",
    "ZeroPadding2D",
))  # fmt: skip
# Layers that do nothing but in training.
_TRAINING_ONLY = ("Dropout", "Gaussian", "SpatialDropout", "Random", "ActivityRegularization")
_ACTIVATIONS = ("softmax", "sigmoid", "log_softmax")
_HEAD_LAYERS = ("Activation", "ReLU", "Softmax")
_LINEAR = (None, "linear")
_LARGEST = 1e6


class KerasSettings(NamedTuple):
    """The activation that makes probabilities of a network's logits, and the range of values that
    its images have (None for the usual one)."""

    activation: Activation = "softmax"
    input_range: str | None = None


def read_settings(config: dict[str, Any], path: Path) -> KerasSettings:
    """Return what a configuration says of a NASNet; the usual where there is none.

    Raises ModelError, which names the layer, when the model computes anything else.
    """
    if not config:
        return KerasSettings()
    _check_heads(config, path)
    layers = list(_flattened(config))
    for kind, settings in layers:
        if kind not in _OWN and not kind.startswith(_TRAINING_ONLY):
            raise _refusal(path, kind, settings)
    return KerasSettings(_activation(layers, path), _input_range(layers, path))


def _check_heads(config: dict[str, Any], path: Path) -> None:
    inner = config.get("config")
    for key, what in (("output_layers", "outputs"), ("input_layers", "inputs")):
        places = inner.get(key) if isinstance(inner, dict) else None
        if isinstance(places, dict):
            places = list(places.values())
        if isinstance(places, list) and len(places) > 1 and isinstance(places[0], list):
            raise ModelError(
                f"{path} has {len(places)} {what}; nasnet cannot tell what they are.",
                "Save a model with one input and one output.",
            )


def _flattened(config: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the type and the settings of each layer, in order, those of models within too."""
    waiting = [config]
    while waiting:
        layer = waiting.pop()
        settings = layer.get("config")
        settings = settings if isinstance(settings, dict) else {}
        inner = settings.get("layers")
        if isinstance(inner, list):
            waiting.extend(each for each in reversed(inner) if isinstance(each, dict))
        else:
            yield str(layer.get("class_name")), settings


def _activation(layers: list[tuple[str, dict[str, Any]]], path: Path) -> Activation:
    """Return the activation of the last Dense layer, or of a layer behind it."""
    dense = [i for i, (kind, _) in enumerate(layers) if kind == "Dense"]
    if not dense:
        return "softmax"
    found = []
    for kind, settings in layers[dense[-1] :]:
        name = "softmax" if kind == "Softmax" else "relu" if kind == "ReLU" else None
        if kind in ("Dense", "Activation"):
            name = settings.get("activation")
            if isinstance(name, dict):
                kind_ = name.get("class_name")
                name = name.get("config") if kind_ == "function" else kind_
            name = name.lower() if isinstance(name, str) else name
        if name not in _LINEAR:
            found.append((name, kind, settings))
    if not found:
        return "softmax"
    name, kind, settings = found[0]
    if len(found) > 1 or name not in _ACTIVATIONS:
        raise _refusal(path, f"activation {found[-1][0]}", found[-1][2])
    # Of logarithms a softmax makes the same probabilities.
    return "softmax" if name == "log_softmax" else cast(Activation, name)


def _input_range(layers: list[tuple[str, dict[str, Any]]], path: Path) -> str | None:
    """Return the range of the images, which the network itself takes as 2 * value - 1."""
    scalings = [settings for kind, settings in layers if kind == "Rescaling"]
    if not scalings:
        return None
    scale, offset = 1.0, 0.0
    for settings in scalings:
        factor, shift = settings.get("scale"), settings.get("offset", 0.0)
        if (
            not isinstance(factor, int | float)
            or not isinstance(shift, int | float)
            or not 1 / _LARGEST < abs(factor) < _LARGEST  # or NaN
            or not abs(shift) < _LARGEST
        ):
            raise _refusal(path, "Rescaling", settings)
        scale, offset = scale * factor, offset * factor + shift
    if abs(scale - 2) < 1e-6 and abs(offset + 1) < 1e-6:
        return None
    if scale >= 1:
        problem = f"multiplies its images by {scale:g} first, which no known NASNet does"
        raise ModelError(f"{path} {problem}.", EXPORT)
    # A byte b gives scale * b + offset, for which the network must get half of that and a half.
    return range_of([-(offset + 1) / scale], [2 / scale])


def _refusal(path: Path, kind: str, settings: dict[str, Any]) -> ModelError:
    name = settings.get("name", "")
    return ModelError(f"{path} has a layer {name!r} ({kind}), which NASNet doesn't have.", EXPORT)
