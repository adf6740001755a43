"""Files of vectors as nasnet embed writes them, except for the model."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from nasnet_cli.similarity.groups import Comparison
from nasnet_cli.similarity.index import Index
from nasnet_cli.similarity.numbers import Rows


def write_index(folder: Path, array: ArrayLike, lines: Sequence[Any] | None = None) -> Path:
    """Write v.npy and v.jsonl; without lines, row 3 is of 3.jpg."""
    array = np.asarray(array)
    np.save(folder / "v.npy", array)
    if lines is None:
        lines = [{"path": f"{row}.jpg", "status": "ok", "row": row} for row in range(len(array))]
    (folder / "v.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder / "v.npy"


def near_groups(
    index: Index, threshold: float, progress: Callable[[Any], Any] = iter
) -> Iterator[Rows]:
    """Yield the groups of near rows."""
    return Comparison(index, threshold).groups(progress)
