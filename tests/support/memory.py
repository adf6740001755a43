"""The peak memory of a call, as Python's own allocators see it: the same on any machine."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from typing import TypeVar

_Value = TypeVar("_Value")


def with_peak(call: Callable[[], _Value]) -> tuple[_Value, int]:
    """Return what a call returns, and the most bytes that were allocated during it."""
    tracemalloc.start()
    try:
        value = call()
        return value, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
