"""File systems that are full, small or closed, where the machine permits to make some."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

NOT_PERMITTED = "not permitted here"
MISSING_PROGRAM = "is not installed"


def run_or_skip(*command: object) -> None:
    """Run a system command that needs rights; skip the test where they are missing."""
    try:
        done = subprocess.run(
            [*map(str, command)], capture_output=True, text=True, errors="replace", check=False
        )
    except FileNotFoundError:
        pytest.skip(f"{command[0]} {MISSING_PROGRAM}")
    if done.returncode:
        pytest.skip(f"{command[0]} is {NOT_PERMITTED}: {done.stderr.strip()}")


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    """Mount a file system in memory on a new folder; size is as mount takes it ("256k")."""
    folder.mkdir()
    run_or_skip("mount", "-t", "tmpfs", "-o", f"size={size}", "none", folder)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)
