"""Last steps, taken when a signal ends the process in the middle of its work.

Parts of the program that keep something on disk name their last steps here; cli/signals.py takes
them, beside threads that may still run.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextlib import suppress

# Only the latest: few things are unfinished at once, and a step for a finished one does nothing.
_steps: deque[Callable[[], object]] = deque(maxlen=256)
_has_begun = False


def begin() -> None:
    """Note that a signal has come: from here on, nobody waits for another thread."""
    global _has_begun
    _has_begun = True


def has_begun() -> bool:
    """Return whether a signal ends the process."""
    return _has_begun


def at_interruption(step: Callable[[], object]) -> Callable[[], None]:
    """Have step called if the process is interrupted. It must do no harm when it comes late.

    Return a function that forgets the step, and what it holds in memory.
    """
    _steps.append(step)
    held = [step]  # whoever holds forget may be held by the step: a circle, until it is called

    def forget() -> None:
        while held:
            with suppress(ValueError):  # later ones have taken its place
                _steps.remove(held.pop())

    return forget


def take_last_steps() -> None:
    """Call all steps, the latest first, whatever each of them raises."""
    while _steps:
        with suppress(Exception):
            _steps.pop()()
