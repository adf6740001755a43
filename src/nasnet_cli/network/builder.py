"""Build NASNet-A from an abstract set of layers.

Every layer is named by its variable scope in TF-Slim's checkpoints, so a scope identifies its
weights in every framework.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, Literal, NamedTuple, Protocol, TypeVar

from nasnet_cli.network.spec import NORMAL_CELL, REDUCTION_CELL, Cell, NASNetA, Operation

T = TypeVar("T")


class Window(NamedTuple):
    """The window of a convolution or pool: its side, its step and its padding.

    "same" padding is TensorFlow's: half of it at the top left and half, rounded up, at the bottom
    right.
    """

    kernel: int
    stride: int = 1
    padding: Literal["same", "valid"] = "same"

    def output_size(self, size: int) -> int:
        """Return the side of the output for an input of this side."""
        return -(-(size if self.padding == "same" else size - self.kernel + 1) // self.stride)


class Layers(Protocol[T]):
    """The layers of NASNet-A. Tensors are [batch, height, width, channels].

    Convolutions have no bias. Average pooling does not count padding in its divisor. Windows of
    separable convolutions and of max pools have the padding "same".
    """

    def size(self, x: T) -> int: ...
    def channels(self, x: T) -> int: ...
    def rescale(self, x: T) -> T:
        """Map [0, 1] to [-1, 1]."""

    def relu(self, x: T) -> T: ...
    def convolution(self, x: T, scope: str, filters: int, window: Window) -> T: ...
    def separable_convolution(self, x: T, scope: str, filters: int, window: Window) -> T: ...
    def batch_norm(self, x: T, scope: str) -> T: ...
    def average_pool(self, x: T, window: Window) -> T: ...
    def max_pool(self, x: T, window: Window) -> T: ...
    def shift(self, x: T) -> T:
        """Move the image one pixel up and left, with zeros at the bottom and right."""

    def add(self, a: T, b: T, scope: str) -> T: ...
    def concat(self, parts: Sequence[T], scope: str) -> T: ...
    def path_dropout(self, x: T, keep: float, scope: str) -> T:
        """Drop whole examples and divide the others by keep, in training only."""

    def dropout(self, x: T, keep: float) -> T: ...
    def global_average_pool(self, x: T, scope: str) -> T: ...
    def dense(self, x: T, scope: str, units: int) -> T: ...
    def softmax(self, x: T, scope: str) -> T: ...


def build_network(
    spec: NASNetA,
    layers: Layers[T],
    images: T,
    *,
    classification: bool = True,
    auxiliary: bool = False,
) -> dict[str, T]:
    """Build the network on images [batch, size, size, 3] in [0, 1] and return its endpoints.

    Endpoints, in order: Stem, Cell_0 ..., Reduction_Cell_0, Reduction_Cell_1 and global_pool
    [batch, feature_depth]; with classification also Logits and Predictions [batch, classes];
    with auxiliary also AuxLogits [batch, classes], if the feature map is large enough for it.
    """
    return _Builder(spec, layers).build(images, classification, auxiliary)


class _Builder(Generic[T]):
    def __init__(self, spec: NASNetA, layers: Layers[T]) -> None:
        self.spec = spec
        self.layers = layers
        self.cells_built = 0

    def build(self, images: T, classification: bool, auxiliary: bool) -> dict[str, T]:
        spec, layers = self.spec, self.layers
        net = layers.rescale(images)
        window = Window(3, spec.stem.stride, spec.stem.padding)
        net = layers.convolution(net, spec.stem.convolution, spec.stem.filters, window)
        net = layers.batch_norm(net, spec.stem.batch_norm)
        outputs: list[T | None] = [None, net]
        for i in range(spec.stem.cells):
            filters = spec.filters // 2 ** (spec.stem.cells - i)
            net = self.cell(REDUCTION_CELL, f"cell_stem_{i}", net, outputs[-2], filters, stride=2)
            outputs.append(net)
        endpoints = {"Stem": net}
        filters = spec.filters
        for i in range(spec.normal_cells):
            before = outputs[-2]
            if i in (spec.cells_per_stage, 2 * spec.cells_per_stage):
                number = i // spec.cells_per_stage - 1
                filters *= 2
                scope = f"reduction_cell_{number}"
                net = self.cell(REDUCTION_CELL, scope, net, before, filters, stride=2)
                outputs.append(net)
                endpoints[f"Reduction_Cell_{number}"] = net
                if not spec.skip_reduction_input:
                    before = outputs[-2]
            net = self.cell(NORMAL_CELL, f"cell_{i}", net, before, filters, stride=1)
            outputs.append(net)
            endpoints[f"Cell_{i}"] = net
            if auxiliary and i == 2 * spec.cells_per_stage - 1 and layers.size(net) >= 5:
                endpoints["AuxLogits"] = self.auxiliary_head(net, f"aux_{i}/aux_logits")
        net = layers.global_average_pool(layers.relu(net), "final_layer/global_pool")
        endpoints["global_pool"] = net
        if classification:
            net = layers.dropout(net, spec.dropout_keep)
            endpoints["Logits"] = layers.dense(net, "final_layer/FC", spec.classes)
            endpoints["Predictions"] = layers.softmax(
                endpoints["Logits"], "final_layer/predictions"
            )
        return endpoints

    def cell(
        self, cell: Cell, scope: str, net: T, before: T | None, filters: int, stride: int
    ) -> T:
        layers = self.layers
        keep = 1.0 - (self.cells_built + 1) / self.spec.total_cells * (1.0 - self.spec.path_keep)
        self.cells_built += 1
        # The first cell has no layer before its input and takes that input, raw, twice.
        previous = net if before is None else self.fit_previous(before, net, scope, filters)
        current = layers.convolution(layers.relu(net), f"{scope}/1x1", filters, Window(1))
        current = layers.batch_norm(current, f"{scope}/beginning_bn")
        states = [current, previous]
        for i, block in enumerate(cell.blocks):
            left, right = (
                self.operation(
                    operation,
                    f"{scope}/comb_iter_{i}/{side}",
                    states[operation.state],
                    filters,
                    stride if operation.state < 2 else 1,
                    keep,
                )
                for operation, side in zip(block, ("left", "right"), strict=True)
            )
            states.append(layers.add(left, right, f"{scope}/comb_iter_{i}/combine"))
        output = f"{scope}/cell_output"
        parts = [
            self.fit_output(states[i], f"{output}/reduction_{i}", filters) for i in cell.output
        ]
        return layers.concat(parts, f"{output}/concat")

    def operation(
        self, operation: Operation, scope: str, x: T, filters: int, stride: int, keep: float
    ) -> T:
        layers = self.layers
        fits = layers.channels(x) == filters
        if operation.kind == "identity":
            if stride == 1 and fits:
                return x
            x = layers.convolution(layers.relu(x), f"{scope}/1x1", filters, Window(1, stride))
            return layers.batch_norm(x, f"{scope}/bn_1")
        if operation.kind == "separable":
            size = f"{operation.kernel}x{operation.kernel}"
            for number in (1, 2):
                x = layers.relu(x)
                window = Window(operation.kernel, stride if number == 1 else 1)
                name = f"{scope}/separable_{size}_{number}"
                x = layers.separable_convolution(x, name, filters, window)
                x = layers.batch_norm(x, f"{scope}/bn_sep_{size}_{number}")
        else:
            pool = layers.average_pool if operation.kind == "average_pool" else layers.max_pool
            x = pool(x, Window(operation.kernel, stride))
            if not fits:
                x = layers.convolution(x, f"{scope}/1x1", filters, Window(1))
                x = layers.batch_norm(x, f"{scope}/bn_1")
        return layers.path_dropout(x, keep, scope) if keep < 1.0 else x

    def fit_previous(self, previous: T, net: T, scope: str, filters: int) -> T:
        """Fit the layer before the previous one to the size and filters of this cell."""
        layers = self.layers
        if layers.size(previous) != layers.size(net):
            previous = layers.relu(previous)
            paths = [
                layers.convolution(part, f"{scope}/{name}", filters // 2, Window(1, stride=2))
                for part, name in (
                    (previous, "path1_conv"),
                    (layers.shift(previous), "path2_conv"),
                )
            ]
            joined = layers.concat(paths, f"{scope}/paths")
            return layers.batch_norm(joined, f"{scope}/final_path_bn")
        if layers.channels(previous) != filters:
            previous = layers.convolution(
                layers.relu(previous), f"{scope}/prev_1x1", filters, Window(1)
            )
            return layers.batch_norm(previous, f"{scope}/prev_bn")
        return previous

    def fit_output(self, state: T, scope: str, filters: int) -> T:
        layers = self.layers
        if layers.channels(state) == filters:
            return state
        state = layers.convolution(state, f"{scope}/path_conv", filters, Window(1))
        return layers.batch_norm(state, f"{scope}/path_bn")

    def auxiliary_head(self, net: T, scope: str) -> T:
        layers = self.layers
        net = layers.average_pool(layers.relu(net), Window(5, 3, "valid"))
        net = layers.convolution(net, f"{scope}/proj", 128, Window(1))
        net = layers.relu(layers.batch_norm(net, f"{scope}/aux_bn0"))
        window = Window(layers.size(net), padding="valid")
        net = layers.convolution(net, f"{scope}/Conv", 768, window)
        net = layers.relu(layers.batch_norm(net, f"{scope}/aux_bn1"))
        # The feature map is 1x1 here, so averaging only drops the two axes.
        net = layers.global_average_pool(net, f"{scope}/squeeze")
        return layers.dense(net, f"{scope}/FC", self.spec.classes)
