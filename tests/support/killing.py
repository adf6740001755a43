"""Real processes of nasnet that are killed in the middle of their work."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image

# The command line with a state that goes to disk after each few rows, so that small runs have
# something to lose and something to keep.
EAGER = [
    sys.executable,
    "-c",
    "from nasnet_cli.jobs import state\n"
    "state._COMMIT_SECONDS = 0.01\n"
    "state._AT_ONCE = 8\n"
    "from nasnet_cli.cli.main import run\n"
    "run()\n",
]
NASNET = [sys.executable, "-m", "nasnet_cli"]


def make_pictures(folder: Path, count: int, *, side: int = 64) -> None:
    """count different JPEGs, a thousand in a folder; one of each hundred is broken."""
    numbers = np.random.default_rng(0)
    for i in range(count):
        place = folder / f"{i // 1000:03d}"
        place.mkdir(parents=True, exist_ok=True)
        path = place / f"{i:06d}.jpg"
        if i % 100 == 50:
            path.write_bytes(b"broken")
            continue
        coarse = Image.fromarray(numbers.integers(0, 256, (8, 8, 3), np.uint8))
        coarse.resize((side, side), Image.Resampling.BICUBIC).save(path, quality=85)


def contents(folder: Path) -> dict[str, bytes]:
    """Return the contents of all files in a folder by their names."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def run(command: list[str], *arguments: object, **more: object) -> subprocess.CompletedProcess:
    """Run the command to its end."""
    return subprocess.run(
        [*command, *map(str, arguments)], capture_output=True, text=True, check=False, **more
    )


def kill_when_grown(command: list[str], *arguments: object, state: Path, by: int) -> bool:
    """Kill the command a moment after its state has grown by so many bytes.

    Return False if it ended first.
    """
    start = state.stat().st_size if state.exists() else 0
    process = subprocess.Popen([*command, *map(str, arguments)], stderr=subprocess.DEVNULL)
    while process.poll() is None:
        if state.exists() and state.stat().st_size >= start + by:
            time.sleep(random.uniform(0, 0.02))  # so that kills hit every place
            process.kill()
            break
        time.sleep(0.002)
    return process.wait() == -9
