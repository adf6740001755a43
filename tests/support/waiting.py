"""Wait for a condition instead of a time."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from typing import TypeVar

from support.cli import WATCHDOG

_Value = TypeVar("_Value")


def wait_until(
    condition: Callable[[], _Value], process: subprocess.Popen[str] | None = None
) -> _Value:
    """Return the condition's first true value.

    Fails when the process ends before, or when the watchdog's time is over, which on a loaded
    machine is still far away.
    """
    end = time.monotonic() + WATCHDOG
    while True:
        if value := condition():
            return value
        if process is not None and process.poll() is not None:
            if value := condition():
                return value
            raise AssertionError(f"the process ended first: {process.communicate()}")
        assert time.monotonic() < end, "the condition has not come true"
        time.sleep(0.01)
