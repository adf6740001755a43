"""What every runtime offers, and how much of a machine it uses."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import numpy as np

Precision = Literal["f32", "bf16"]
Output = Literal["logits", "features"]
RuntimeName = Literal["openvino", "tensorflow"]

# Pictures in one inference request. Small enough that one picture alone wastes little, large
# enough that the request's own cost doesn't show; fixed, so that results don't depend on it.
REQUEST_SIZE = 4


@dataclass(frozen=True)
class Plan:
    """What is to be run: a module's folder, or a runtime's own file, and its inputs and outputs.

    digest identifies the module's content. outputs maps what is wanted to tensor names (to
    places, for a file: runtime_file.output_index), and pixels is the type of the arrays: uint8 in 0..255 or float32 in [0, 1].
    """

    folder: Path
    digest: str
    input: str
    outputs: tuple[tuple[Output, str], ...]
    size: tuple[int, int]
    pixels: Literal["uint8", "float32"] = "uint8"
    precision: Precision = "f32"


class Runtime(Protocol):
    """Runs a plan on batches of pictures."""

    name: str
    version: str
    precision: Precision
    instruction_set: str

    def run(self, batches: Iterable[np.ndarray]) -> Iterator[dict[Output, np.ndarray]]:
        """For each batch [n, height, width, 3], n up to REQUEST_SIZE, its outputs [n, depth].

        Several batches are under way at once; results come in the order of the batches. A batch's
        array may be used again once its result is there.
        """


def available_cores() -> int:
    """The processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
