"""The processor that results are computed on, as far as they depend on it."""

from __future__ import annotations

import hashlib
import platform
from functools import cache
from pathlib import Path

# The widest of these that a processor has decides which code runs, and so how sums are rounded.
_INSTRUCTION_SETS = ("avx512f", "avx2", "avx", "sse4_1", "sve", "asimd")


@cache
def _description() -> tuple[str, ...]:
    """The lines on the first processor that say what it is and can do."""
    try:
        text = Path("/proc/cpuinfo").read_text(errors="replace")
    except OSError:
        return (platform.machine(), platform.processor())
    lines = text.split("\n\n", 1)[0].splitlines()
    kept = ("vendor_id", "cpu family", "model", "stepping", "flags", "Features", "CPU ")
    return tuple(line for line in lines if line.startswith(kept))


def fingerprint() -> str:
    """Tells one kind of processor from another: code compiled for one is kept for that one."""
    return hashlib.sha256("\n".join(_description()).encode()).hexdigest()


def instruction_set() -> str:
    """The name of the processor's widest vector instructions, or its architecture's."""
    words = set(" ".join(_description()).split())
    return next((name for name in _INSTRUCTION_SETS if name in words), platform.machine())
