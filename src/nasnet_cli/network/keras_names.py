"""The names of keras.applications' NASNet layers in TF-Slim's checkpoints.

Keras' names contain cell, block and side, so that no table is needed. The tests compare them with
the tables of both published sizes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from nasnet_cli.network.spec import NORMAL_CELL, REDUCTION_CELL

_LEAVES = {
    "kernel": "weights",
    "bias": "biases",
    "depthwise_kernel": "depthwise_weights",
    "pointwise_kernel": "pointwise_weights",
}
_WHOLE = {"stem_conv1": "conv0", "stem_bn1": "conv0_bn", "predictions": "final_layer/FC"}
_IN_CELL = {
    "normal_conv_1": "1x1",
    "normal_bn_1": "beginning_bn",
    "reduction_conv_1": "1x1",
    "reduction_bn_1": "beginning_bn",
    "adjust_conv_1": "path1_conv",
    "adjust_conv_2": "path2_conv",
    "adjust_conv_projection": "prev_1x1",
}
_CELL = re.compile(r"(?P<what>.+?)_(?P<cell>stem_[12]|reduce_\d{1,3}|\d{1,3})")
_SEPARABLE = re.compile(
    r"separable_conv_(?P<turn>[12])(?P<bn>_bn)?_(?P<kind>normal|reduction)_"
    r"(?P<side>left|right)(?P<block>[1-5])"
)
# A scope in our own files; Keras allows no slash in names.
_OWN = re.compile(r"(conv0|l1_stem|cell_|reduction_cell_|final_layer\.)")


class KerasNames:
    """A translator for the layer names of one network.

    It needs all names at first: a cell's number depends on the network's first reduction cell.
    """

    def __init__(self, layers: Iterable[str]) -> None:
        matches = [match for name in layers if (match := _CELL.fullmatch(name))]
        reductions = {
            int(match["cell"].removeprefix("reduce_"))
            for match in matches
            if match["cell"].startswith("reduce_")
        }
        self._reductions = sorted(reductions)
        # adjust_bn ends either of two ways to fit the layer before the previous one.
        self._paths = {match["cell"] for match in matches if match["what"] == "adjust_conv_1"}

    def scope(self, layer: str) -> str | None:
        """Return the TF-Slim scope of a layer, None when NASNet has no such layer."""
        if layer in _WHOLE:
            return _WHOLE[layer]
        if match := _CELL.fullmatch(layer):
            cell, within = self._cell(match["cell"]), self._within(match["what"], match["cell"])
            if cell and within:
                return f"{cell}/{within}"
        return layer.replace(".", "/") if _OWN.match(layer) else None

    def variable(self, layer: str, leaf: str) -> str | None:
        """Return the TF-Slim variable of a layer's weight, e.g. of its "kernel"."""
        scope = self.scope(layer)
        return f"{scope}/{_LEAVES.get(leaf, leaf)}" if scope else None

    def _cell(self, block: str) -> str | None:
        if block.startswith("stem_"):
            return f"cell_stem_{int(block[5:]) - 1}"
        if block.startswith("reduce_"):
            return f"reduction_cell_{self._reductions.index(int(block[7:]))}"
        if not self._reductions:
            return None
        # Keras skips one number after the first reduction cell, and none after the second.
        number = int(block)
        return f"cell_{number if number < self._reductions[0] else number - 1}"

    def _within(self, what: str, block: str) -> str | None:
        if what == "adjust_bn":
            return "final_path_bn" if block in self._paths else "prev_bn"
        match = _SEPARABLE.fullmatch(what)
        if match is None:
            return _IN_CELL.get(what)
        number = int(match["block"]) - 1
        if match["kind"] == "reduction" and number == 3:
            number = 4  # Keras' fourth block is the reference's fifth
        cell = NORMAL_CELL if match["kind"] == "normal" else REDUCTION_CELL
        operation = cell.blocks[number][match["side"] == "right"]
        if operation.kind != "separable":
            return None
        size = f"{operation.kernel}x{operation.kernel}"
        kind = "bn_sep" if match["bn"] else "separable"
        return f"comb_iter_{number}/{match['side']}/{kind}_{size}_{match['turn']}"


def application_layers(size: str) -> dict[str, list[str]]:
    """Return the names of keras.applications' layers with weights by kind, in Keras' order."""
    if not size:
        return {}
    from nasnet_cli.quiet import keras, silence

    with silence():
        build = {"mobile": keras.applications.NASNetMobile, "large": keras.applications.NASNetLarge}
        model = build[size](weights=None, include_top=False)
    names: dict[str, list[str]] = {}
    for layer in model.layers:
        if layer.weights:
            names.setdefault(snake_case(type(layer).__name__), []).append(layer.name)
    return names


def snake_case(name: str) -> str:
    """Convert a class name as Keras does."""
    name = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", re.sub(r"\W+", "", name))
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()
