"""Jobs with shards: their inputs, files and states."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from support.cli import run_in_process


def make_photos(folder: Path, count: int, first: int = 0) -> None:
    """Write count different small PNG files, numbered from first."""
    folder.mkdir(exist_ok=True)
    random = np.random.default_rng(first)
    for i in range(first, first + count):
        pixels = random.integers(0, 256, (8, 8, 3), np.uint8)
        Image.fromarray(pixels).resize((48, 40)).save(folder / f"{i:04d}.png")


def content(folder: Path) -> dict[str, bytes]:
    """The bytes of a folder's files, by name."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def status(job: Path, *options: str, expect: int = 0) -> dict[str, Any]:
    """The answer of nasnet status."""
    result = run_in_process("status", job, "--json", *options, expect=expect)
    answer: dict[str, Any] = json.loads(result.stdout)
    return answer


def states_of(answer: dict[str, Any]) -> list[str]:
    """The state of each shard in an answer of nasnet status."""
    return [shard["state"] for shard in answer["shards"]]
