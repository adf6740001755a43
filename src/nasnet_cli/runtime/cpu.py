"""The CPU, as far as results depend on it."""

from __future__ import annotations

import hashlib
import platform
from functools import cache
from pathlib import Path

# The widest of these that a CPU has decides which code runs, and so how sums are rounded.
_INSTRUCTION_SETS = ("avx512f", "avx2", "avx", "sse4_1", "sve", "asimd")


@cache
def _description() -> tuple[str, ...]:
    """Return the lines of /proc/cpuinfo that describe the first CPU."""
    try:
        text = Path("/proc/cpuinfo").read_text(errors="replace")
    except OSError:
        return (platform.machine(), platform.processor())
    lines = text.split("\n\n", 1)[0].splitlines()
    kept = ("vendor_id", "cpu family", "model", "stepping", "flags", "Features", "CPU ")
    return tuple(line for line in lines if line.startswith(kept))


def fingerprint() -> str:
    """Return a digest that differs between kinds of CPUs: compiled code is cached per kind."""
    return hashlib.sha256("\n".join(_description()).encode()).hexdigest()


def instruction_set() -> str:
    """Return the name of the CPU's widest vector instructions, or of its architecture."""
    words = set(" ".join(_description()).split())
    return next((name for name in _INSTRUCTION_SETS if name in words), platform.machine())
