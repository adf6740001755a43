"""The interface of a runtime, and the plan that it runs."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np

from nasnet_cli.runtime.cpu import instruction_set

if TYPE_CHECKING:
    from nasnet_cli.models.info import OpenedModel

Precision = Literal["f32", "bf16"]
Output = Literal["logits", "features"]
RuntimeName = Literal["openvino", "tensorflow"]

LARGEST_REQUEST = 4
"""The largest number of images in an inference request (Plan.request_size)."""

# With more pixels in a request, the activations no longer fit into the CPU's cache: mobile-size
# requests of two images are a seventh faster than requests of four.
_REQUEST_PIXELS = 2 * 224 * 224


@dataclass(frozen=True)
class Plan:
    """A plan of inference: a model, its outputs by their tensors' names, and the input.

    size is (height, width) in pixels; pixels is the type of the arrays: uint8 in 0..255 or float32
    in [0, 1]. input_range and channels are the values that the model takes for them
    (models/values.py). fixed_request is the number of images in a request, where the model takes no
    other.
    """

    model: OpenedModel
    outputs: tuple[tuple[Output, str], ...]
    size: tuple[int, int]
    pixels: Literal["uint8", "float32"] = "uint8"
    precision: Precision = "f32"
    input_range: str = "0..1"
    channels: Literal["rgb", "bgr"] = "rgb"
    fixed_request: int | None = None

    @property
    def tensors(self) -> list[str]:
        """The names of the outputs' tensors, in the order of the outputs."""
        return [tensor for _, tensor in self.outputs]

    @property
    def request_size(self) -> int:
        """The number of images in one inference request.

        Small enough that a single image wastes little, large enough that the overhead of a request
        doesn't show. It depends on the size only, so that results depend on nothing else.
        """
        if self.fixed_request is not None:
            return self.fixed_request
        height, width = self.size
        return max(1, min(LARGEST_REQUEST, _REQUEST_PIXELS // (height * width)))


class Pending(Protocol):
    """A request that was submitted."""

    def result(self, timeout: float | None = None) -> dict[str, np.ndarray]:
        """Wait for the outputs, each [n, depth] float32 for n images.

        Raises TimeoutError after that many seconds; it can be called again then.
        """


class Runtime(ABC):
    """A runtime that is ready to run a plan."""

    name: str

    def __init__(self, plan: Plan, version: str, threads: int | None) -> None:
        self.plan = plan
        self.version = version
        self.precision: Precision = plan.precision
        self.instruction_set = instruction_set()
        self.threads = threads or available_cores()

    @abstractmethod
    def submit(self, images: Sequence[np.ndarray]) -> Pending:
        """Start a request of up to plan.request_size images, [height, width, 3], and return.

        The images are copied at once. Requests start in the order of the calls and run in parallel;
        an output depends on its image only.
        """


def available_cores() -> int:
    """Return the number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
