"""NASNet-A as data: its two cells and its sizes.

Source: Zoph et al., "Learning Transferable Architectures for Scalable Image Recognition"
(arXiv 1707.07012), and the variable lists of the published checkpoints.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Literal

OperationKind = Literal["separable", "average_pool", "max_pool", "identity"]


@dataclass(frozen=True)
class Operation:
    """An operation of a cell, applied to one of its states.

    kernel is the side of the window in pixels, 0 for identity.
    """

    kind: OperationKind
    kernel: int
    state: int


@dataclass(frozen=True)
class Cell:
    """A cell: five sums of two operations, and the states that are concatenated as its output.

    State 0 is the previous layer, 1 the one before it, 2 to 6 the sums in order.
    """

    blocks: tuple[tuple[Operation, Operation], ...]
    output: tuple[int, ...]


_separable = partial(Operation, "separable")
_average = partial(Operation, "average_pool", 3)
_maximum = partial(Operation, "max_pool", 3)
_identity = partial(Operation, "identity", 0)

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
    """The first convolution and the reduction cells after it.

    The reduction cells, as many as cells, have F / 2**cells, ..., F / 2 filters, where F is
    NASNetA.filters. Raises ValueError for values that make no network.
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
            raise ValueError(f"padding cannot be {self.padding!r}")
        for name in (self.convolution, self.batch_norm):
            if not isinstance(name, str) or not name.isidentifier():
                raise ValueError(f"a layer cannot be called {name!r}")


@dataclass(frozen=True)
class NASNetA:
    """The graph of the network and its regularisation in training.

    image_size is the side of the input in pixels. cells_per_stage is the paper's N and filters
    its F, divisible by 4. path_keep is the final keep probability of path dropout and
    dropout_keep that of the dropout before the logits; 1.0 means none. weight_decay is d in the
    loss term d * sum(w**2) / 2 over all kernels. Raises ValueError for values that make no
    network: a model card may hold any, and a network of a million cells would never be built.
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
            raise ValueError(f"skip_reduction_input cannot be {self.skip_reduction_input!r}")
        for name in ("dropout_keep", "path_keep", "bn_epsilon", "bn_decay", "weight_decay"):
            value = getattr(self, name)
            minimum = 0 if name in ("bn_decay", "weight_decay") else math.ulp(0)
            if not isinstance(value, int | float) or not minimum <= value <= 1:
                raise ValueError(f"{name} cannot be {value!r}")

    @property
    def normal_cells(self) -> int:
        """The number of normal cells in all three stages."""
        return 3 * self.cells_per_stage

    @property
    def total_cells(self) -> int:
        """The number of all cells, including those of the stem and the two reduction cells."""
        return self.normal_cells + 2 + self.stem.cells

    @property
    def feature_depth(self) -> int:
        """The length of the feature vector: six states of four times the first stage's filters."""
        return 24 * self.filters

    def to_dict(self) -> dict[str, Any]:
        """Return the specification as plain data, for a model card."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> NASNetA:
        """Return a specification from to_dict's data. Raises TypeError, KeyError or ValueError."""
        return cls(**{**data, "stem": Stem(**data["stem"])})


def _check_counts(owner: object, **limits: tuple[int, int]) -> None:
    """Raise ValueError unless each field is an integer from its minimum to its maximum."""
    for name, (minimum, maximum) in limits.items():
        value = getattr(owner, name)
        if type(value) is not int or not minimum <= value <= maximum:
            raise ValueError(f"{name} cannot be {value!r}")


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
