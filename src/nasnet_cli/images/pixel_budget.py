"""A bound on the pixels that are decoded at once, whatever the number of threads."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

DEFAULT_BUDGET = 100_000_000
"""Pixels: Pillow takes four bytes for each, and up to three times that for the odd modes."""


class PixelBudget:
    """Makes threads wait until there is room for their pictures, in the order in which they came.

    A picture alone may have more than the budget.
    """

    def __init__(self, pixels: int = DEFAULT_BUDGET) -> None:
        self._free = self._all = pixels
        self._turn = threading.Lock()
        self._changed = threading.Condition()

    @contextmanager
    def hold(self, pixels: int) -> Iterator[None]:
        """Waits for room for that many pixels and has it until the block's end."""
        # Whoever waits keeps the turn, or a large picture might wait for ever behind small ones.
        with self._turn, self._changed:
            self._changed.wait_for(lambda: self._free >= pixels or self._free == self._all)
            self._free -= pixels
        try:
            yield
        finally:
            with self._changed:
                self._free += pixels
                self._changed.notify()
