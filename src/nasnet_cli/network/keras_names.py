"""What the layers of keras.applications' NASNet are called in TF-Slim's checkpoints.

Keras' names say cell, block and side, so that no table is needed. Checked against the tables of
both published sizes in the tests.
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
# A scope of our own files, which Keras allows no slash in.
_OWN = re.compile(r"(conv0|l1_stem|cell_|reduction_cell_|final_layer\.)")


class KerasNames:
    """Translates the layers' names of one network, of which all names are needed to begin with:
    what a cell is numbered depends on where its network's first reduction cell is."""

    def __init__(self, layers: Iterable[str]) -> None:
        matches = [match for name in layers if (match := _CELL.fullmatch(name))]
        reductions = {
            int(match["cell"].removeprefix("reduce_"))
            for match in matches
            if match["cell"].startswith("reduce_")
        }
        self._reductions = sorted(reductions)
        # adjust_bn closes either of two ways of fitting the layer before the previous one.
        self._paths = {match["cell"] for match in matches if match["what"] == "adjust_conv_1"}

    def scope(self, layer: str) -> str | None:
        """The TF-Slim scope of a layer, None when NASNet has no layer of that name."""
        if layer in _WHOLE:
            return _WHOLE[layer]
        if match := _CELL.fullmatch(layer):
            cell, within = self._cell(match["cell"]), self._within(match["what"], match["cell"])
            if cell and within:
                return f"{cell}/{within}"
        return layer.replace(".", "/") if _OWN.match(layer) else None

    def variable(self, layer: str, leaf: str) -> str | None:
        """The TF-Slim variable of a layer's weight, e.g. of its "kernel"."""
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
            number = 4  # what Keras counts as the fourth is the reference's fifth
        cell = NORMAL_CELL if match["kind"] == "normal" else REDUCTION_CELL
        operation = cell.blocks[number][match["side"] == "right"]
        if operation.kind != "separable":
            return None
        size = f"{operation.kernel}x{operation.kernel}"
        kind = "bn_sep" if match["bn"] else "separable"
        return f"comb_iter_{number}/{match['side']}/{kind}_{size}_{match['turn']}"
