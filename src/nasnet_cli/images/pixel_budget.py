"""A limit on the pixels that all threads together have in memory while decoding."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

DEFAULT_BUDGET = 100_000_000
"""Pixels. Pillow takes four bytes for each, and up to three times that for unusual modes."""


class PixelBudget:
    """Pixels that threads share. They wait for room in the order in which they ask.

    An image with more pixels than the budget waits until it is alone.
    """

    def __init__(self, pixels: int = DEFAULT_BUDGET) -> None:
        self._free = self._total = pixels
        self._turn = threading.Lock()
        self._changed = threading.Condition()

    @contextmanager
    def hold(self, pixels: int) -> Iterator[None]:
        """Reserve pixels for the block, and wait until they are free."""
        # A waiting thread keeps its turn, so that small images don't overtake a large one for ever.
        with self._turn, self._changed:
            self._changed.wait_for(lambda: self._free >= pixels or self._free == self._total)
            self._free -= pixels
        try:
            yield
        finally:
            with self._changed:
                self._free += pixels
                self._changed.notify()
