"""A network's weights as plain arrays, called by their TF-Slim names."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from nasnet_cli.errors import ModelError
from nasnet_cli.network.builder import Window, build_network
from nasnet_cli.network.spec import SIZES, NASNetA, Stem
from nasnet_cli.results.text import shortened

if TYPE_CHECKING:
    import numpy as np

Weights = Mapping[str, "np.ndarray"]


@dataclass(frozen=True)
class _Shape:
    """The size and channels of a tensor."""

    size: int
    channels: int


class _ShapeLayers:
    """A set of layers that computes nothing and records the shapes of the weights."""

    def __init__(self) -> None:
        self.weights: dict[str, tuple[int, ...]] = {}

    def size(self, x: _Shape) -> int:
        return x.size

    def channels(self, x: _Shape) -> int:
        return x.channels

    def relu(self, x: _Shape) -> _Shape:
        return x

    rescale = shift = relu

    def global_average_pool(self, x: _Shape, scope: str) -> _Shape:
        return x

    softmax = global_average_pool

    def dropout(self, x: _Shape, keep: float, scope: str = "") -> _Shape:
        return x

    path_dropout = dropout

    def convolution(self, x: _Shape, scope: str, filters: int, window: Window) -> _Shape:
        self.weights[f"{scope}/weights"] = (window.kernel, window.kernel, x.channels, filters)
        return _Shape(window.output_size(x.size), filters)

    def separable_convolution(self, x: _Shape, scope: str, filters: int, window: Window) -> _Shape:
        self.weights[f"{scope}/depthwise_weights"] = (window.kernel, window.kernel, x.channels, 1)
        self.weights[f"{scope}/pointwise_weights"] = (1, 1, x.channels, filters)
        return _Shape(window.output_size(x.size), filters)

    def batch_norm(self, x: _Shape, scope: str) -> _Shape:
        for name in ("gamma", "beta", "moving_mean", "moving_variance"):
            self.weights[f"{scope}/{name}"] = (x.channels,)
        return x

    def average_pool(self, x: _Shape, window: Window) -> _Shape:
        return _Shape(window.output_size(x.size), x.channels)

    max_pool = average_pool

    def add(self, a: _Shape, b: _Shape, scope: str) -> _Shape:
        return a

    def concat(self, parts: Sequence[_Shape], scope: str) -> _Shape:
        return _Shape(parts[0].size, sum(part.channels for part in parts))

    def dense(self, x: _Shape, scope: str, units: int) -> _Shape:
        self.weights[f"{scope}/weights"] = (x.channels, units)
        self.weights[f"{scope}/biases"] = (units,)
        return _Shape(1, units)


def weight_shapes(
    spec: NASNetA, *, classification: bool = True, auxiliary: bool = False
) -> dict[str, tuple[int, ...]]:
    """Return the names and shapes of the network's weights, in the order of building."""
    layers = _ShapeLayers()
    build_network(
        spec,
        layers,
        _Shape(spec.image_size, 3),
        classification=classification,
        auxiliary=auxiliary,
    )
    return layers.weights


def network_of(shapes: Mapping[str, tuple[int, ...]], source: str) -> NASNetA:
    """Return the NASNet-A that has variables of these names and shapes.

    It is one of the published sizes where stem, cells and filters are its own, with the classes of
    the variables (1001 without a classification layer); else a network like mobile with these. What
    shapes cannot tell (the input size, the regularization) is the published size's. Raises
    ModelError, which names source, for other variables.
    """
    try:
        filters = shapes["cell_0/beginning_bn/gamma"][0]
        cells = 1 + max(int(m[1]) for k in shapes if (m := re.match(r"cell_(\d+)/", k)))
        like = SIZES["cifar" if "l1_stem_3x3/weights" in shapes else "mobile"]
        stem_filters = shapes[f"{like.stem.convolution}/weights"][3]
        stem_cells = len({m[0] for k in shapes if (m := re.match(r"cell_stem_\d+/", k))})
        classes = shapes.get("final_layer/FC/biases", (1001,))[0]
        for size in SIZES.values():
            published = (size.normal_cells, size.filters, size.stem.filters, size.stem.cells)
            if published == (cells, filters, stem_filters, stem_cells):
                return replace(size, classes=classes)
        stem: Stem = replace(like.stem, filters=stem_filters, cells=stem_cells)
        stages = max(1, cells // 3)
        return replace(like, cells_per_stage=stages, filters=filters, classes=classes, stem=stem)
    except (KeyError, IndexError, ValueError) as error:
        raise ModelError(
            f"{source} does not have the variables of a NASNet-A (cell_0, final_layer and so on).",
            "Name a TF-Slim checkpoint of NASNet-A with its classification layer.",
        ) from error


def check_weights(weights: Weights, shapes: Mapping[str, tuple[int, ...]], source: str) -> None:
    """Raise ModelError, with their names, for missing, extra or misshapen weights."""
    missing = [name for name in shapes if name not in weights]
    extra = [name for name in weights if name not in shapes]
    misshapen = [
        f"{name} is {_times(weights[name].shape)}, not {_times(shape)}"
        for name, shape in shapes.items()
        if name in weights and weights[name].shape != shape
    ]
    problems = [
        f"{len(names)} {problem} ({shortened(names, 5, '; ')})"
        for problem, names in (("missing", missing), ("extra", extra), ("misshapen", misshapen))
        if names
    ]
    if problems:
        raise ModelError(
            f"The variables of {source} do not match the network: {', '.join(problems)}.",
            "Check the network's size and number of classes.",
        )


def _times(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape)) or "a scalar"
