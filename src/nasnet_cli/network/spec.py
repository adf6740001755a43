"""NASNet-A as data: the two cells and the sizes of the network.

Source: Zoph et al., "Learning Transferable Architectures for Scalable Image Recognition"
(arXiv 1707.07012), and the variable lists of the published checkpoints.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

Kind = Literal["separable", "average_pool", "max_pool", "identity"]


@dataclass(frozen=True)
class Operation:
    """One operation of a cell, applied to one of its states.

    kernel is the side of the window in pixels; identity has none.
    """

    kind: Kind
    kernel: int
    state: int


@dataclass(frozen=True)
class Cell:
    """A cell: five sums of two operations, and the states that make up its output.

    State 0 is the previous layer, 1 the one before it, 2 to 6 are the sums in order.
    """

    blocks: tuple[tuple[Operation, Operation], ...]
    output: tuple[int, ...]


def _separable(kernel: int, state: int) -> Operation:
    return Operation("separable", kernel, state)


def _average(state: int) -> Operation:
    return Operation("average_pool", 3, state)


def _maximum(state: int) -> Operation:
    return Operation("max_pool", 3, state)


def _identity(state: int) -> Operation:
    return Operation("identity", 0, state)


NORMAL_CELL = Cell(
    blocks=(
        (_separable(5, 0), _separable(3, 1)),
        (_separable(5, 1), _separable(3, 1)),
        (_average(0), _identity(1)),
        (_average(1), _average(1)),
        (_separable(3, 0), _identity(0)),
    ),
    output=(1, 2, 3, 4, 5, 6),
)

REDUCTION_CELL = Cell(
    blocks=(
        (_separable(5, 0), _separable(7, 1)),
        (_maximum(0), _separable(7, 1)),
        (_average(0), _separable(5, 1)),
        (_identity(3), _average(2)),
        (_separable(3, 2), _maximum(0)),
    ),
    output=(3, 4, 5, 6),
)


@dataclass(frozen=True)
class Stem:
    """The first convolution and the reduction cells that follow it.

    cells reduction cells have filters / 2**cells, ..., filters / 2 filters. Raises ValueError for
    what no network has.
    """

    convolution: str
    batch_norm: str
    filters: int
    stride: int
    padding: Literal["same", "valid"]
    cells: int

    def __post_init__(self) -> None:
        _check_counts(self, filters=(1, 4096), stride=(1, 2), cells=(0, 8))
        if self.padding not in ("same", "valid"):
            raise ValueError(f"padding can't be {self.padding!r}")
        for name in (self.convolution, self.batch_norm):
            if not isinstance(name, str) or not name.isidentifier():
                raise ValueError(f"a layer can't be called {name!r}")


@dataclass(frozen=True)
class NASNetA:
    """Everything that decides the network's graph and how it is regularised in training.

    image_size is the side of the input in pixels. cells_per_stage is the paper's N and filters
    its F, divisible by 4. path_keep is the final keep probability of path dropout and
    dropout_keep that of the dropout before the logits; 1.0 means none. weight_decay is d in the
    loss term d * sum(w**2) / 2 over all kernels. Raises ValueError for what no network has: a card
    or a checkpoint may say anything, and a network of a million cells would never be done.
    """

    image_size: int
    cells_per_stage: int
    filters: int
    classes: int
    stem: Stem
    skip_reduction_input: bool = False
    dropout_keep: float = 0.5
    path_keep: float = 1.0
    bn_epsilon: float = 1e-3
    bn_decay: float = 0.9997
    weight_decay: float = 4e-5

    def __post_init__(self) -> None:
        _check_counts(
            self,
            image_size=(1, 2**16 - 1),
            cells_per_stage=(1, 100),
            filters=(4, 4096),
            classes=(1, 10_000_000),
        )
        if not isinstance(self.skip_reduction_input, bool):
            raise ValueError(f"skip_reduction_input can't be {self.skip_reduction_input!r}")
        for name in ("dropout_keep", "path_keep", "bn_epsilon", "bn_decay", "weight_decay"):
            value = getattr(self, name)
            least = 0 if name in ("bn_decay", "weight_decay") else math.ulp(0)
            if not isinstance(value, int | float) or not least <= value <= 1:
                raise ValueError(f"{name} can't be {value!r}")

    @property
    def normal_cells(self) -> int:
        """Normal cells in all three stages."""
        return 3 * self.cells_per_stage

    @property
    def total_cells(self) -> int:
        """All cells, those of the stem and the two reduction cells included."""
        return self.normal_cells + 2 + self.stem.cells

    @property
    def feature_depth(self) -> int:
        """Length of the feature vector: six states of four times the first stage's filters."""
        return 24 * self.filters

    def to_dict(self) -> dict[str, Any]:
        """The specification as plain data, for a model's card."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> NASNetA:
        """The inverse of to_dict. Raises TypeError, KeyError or ValueError for anything else."""
        return cls(**{**data, "stem": Stem(**data["stem"])})


def _check_counts(owner: object, **limits: tuple[int, int]) -> None:
    """Raises ValueError when a field isn't a whole number from the least to the most."""
    for name, (least, most) in limits.items():
        value = getattr(owner, name)
        if type(value) is not int or not least <= value <= most:
            raise ValueError(f"{name} can't be {value!r}")


def _imagenet_stem(filters: int) -> Stem:
    return Stem("conv0", "conv0_bn", filters, stride=2, padding="valid", cells=2)


MOBILE = NASNetA(224, 4, 44, 1001, _imagenet_stem(32))
LARGE = NASNetA(
    331,
    6,
    168,
    1001,
    _imagenet_stem(96),
    skip_reduction_input=True,
    path_keep=0.7,
    weight_decay=5e-5,
)
CIFAR = NASNetA(
    32,
    6,
    32,
    10,
    Stem("l1_stem_3x3", "l1_stem_bn", 96, stride=1, padding="same", cells=0),
    dropout_keep=1.0,
    path_keep=0.6,
    bn_epsilon=1e-5,
    bn_decay=0.9,
    weight_decay=5e-4,
)
SIZES: dict[str, NASNetA] = {"mobile": MOBILE, "large": LARGE, "cifar": CIFAR}


def named_size(name: str, **changes: Any) -> NASNetA:
    """The published size of that name ("mobile", "large" or "cifar"), with fields replaced."""
    return replace(SIZES[name], **changes)
