"""What every runtime offers, and how much of a machine it uses."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np

if TYPE_CHECKING:
    from nasnet_cli.models.info import OpenedModel

Precision = Literal["f32", "bf16"]
Output = Literal["logits", "features"]
RuntimeName = Literal["openvino", "tensorflow"]

LARGEST_REQUEST = 4
"""The most pictures that an inference request has (Plan.request_size)."""

# More than this in one request, and what its layers hand on no longer fits into the processor's
# own cache: mobile-size requests of two are a seventh faster than requests of four.
_REQUEST_PIXELS = 2 * 224 * 224


@dataclass(frozen=True)
class Plan:
    """What is run: a model, its outputs by their tensors' names, and the input.

    size is (height, width) in pixels; pixels is the type of the arrays: uint8 in 0..255 or float32
    in [0, 1].
    """

    model: OpenedModel
    outputs: tuple[tuple[Output, str], ...]
    size: tuple[int, int]
    pixels: Literal["uint8", "float32"] = "uint8"
    precision: Precision = "f32"

    @property
    def tensors(self) -> list[str]:
        """The names of the outputs' tensors, in the order of the outputs."""
        return [tensor for _, tensor in self.outputs]

    @property
    def request_size(self) -> int:
        """Pictures in one inference request.

        Small enough that one picture alone wastes little, large enough that the request's own cost
        doesn't show; decided by the size alone, so that results depend on nothing else.
        """
        height, width = self.size
        return max(1, min(LARGEST_REQUEST, _REQUEST_PIXELS // (height * width)))


class Pending(Protocol):
    """A request that the runtime has."""

    def result(self, timeout: float | None = None) -> dict[str, np.ndarray]:
        """Waits for the outputs, each [n, depth] float32 for n pictures.

        To be called until it gives them. Raises TimeoutError after so many seconds without them.
        """


class Runtime(ABC):
    """Runs a plan on pictures."""

    plan: Plan
    name: str
    version: str
    precision: Precision
    instruction_set: str
    threads: int

    @abstractmethod
    def submit(self, pictures: Sequence[np.ndarray]) -> Pending:
        """Starts a request of up to plan.request_size pictures, [height, width, 3], and returns.

        The pictures are copied at once. Requests run in the order in which they come, several
        beside each other; an output depends on its picture alone.
        """

    def run(self, batches: Iterable[Sequence[np.ndarray]]) -> Iterator[dict[str, np.ndarray]]:
        """The outputs of each batch of up to plan.request_size pictures, in order, several at once."""
        under_way: deque[Pending] = deque()
        for batch in batches:
            under_way.append(self.submit(batch))
            if len(under_way) > self.threads:
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()


def available_cores() -> int:
    """The processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
