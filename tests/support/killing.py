"""Real processes of nasnet that are killed in the middle of their work."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

NASNET = [sys.executable, "-m", "nasnet_cli"]
KILL = "os.kill(os.getpid(), signal.SIGKILL)"


def eager(row: int = 0, act: str = "pass") -> list[str]:
    """Return the command line with a state that goes to disk after each few rows.

    Small runs then have something to lose and something to keep. The process acts before it adds
    that row, if any: a kill of its own comes in time on a machine of any speed.
    """
    code = (
        "import os, signal\n"
        "from nasnet_cli.jobs import state\n"
        "state._COMMIT_SECONDS = 0.01\n"
        "state._AT_ONCE = 8\n"
        "add, count = state.State.add, []\n"
        "def add_and_act(*arguments):\n"
        "    count.append(1)\n"
        f"    if len(count) == {row}: {act}\n"
        "    add(*arguments)\n"
        "state.State.add = add_and_act\n"
        "from nasnet_cli.cli.main import run\n"
        "run()\n"
    )
    return [sys.executable, "-c", code]


EAGER = eager()


def make_images(folder: Path, count: int, *, side: int = 64) -> None:
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
