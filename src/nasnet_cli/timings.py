"""Timings of a run: processor time of its stages, added up over threads."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, TypeVar, get_args

Item = TypeVar("Item")
Stage = Literal["list", "read", "decode", "write"]


@dataclass(frozen=True, slots=True)
class _Snapshot:
    """Seconds spent until a moment: wall time, each stage's, and the rest of the process's."""

    wall: float
    stages: dict[str, float]
    rest: float


class Timings:
    """Processor time of each stage of a run. Cheap enough to be always on; safe from any thread.

    Seconds are processor time, which does not grow while threads wait for each other.

    start is all processor time until the runtime is ready, without the other stages; infer is all
    since then without the other stages, as a runtime has threads of its own; wait is what the
    processors idled, which includes waiting for a disk or a network. images counts those that were
    decoded.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stages: dict[str, float] = dict.fromkeys(get_args(Stage), 0.0)
        self._start = time.perf_counter()
        self._end = _Snapshot(self._start, self._stages.copy(), 0.0)
        self._ready: _Snapshot | None = None
        self._other_processes = 0.0
        self.images = 0

    @contextmanager
    def spent(self, stage: Stage) -> Iterator[None]:
        """Add the block's time in this thread to a stage."""
        start = time.thread_time()
        try:
            yield
        finally:
            seconds = time.thread_time() - start
            with self._lock:
                self._stages[stage] += seconds

    def add(self, stage: Stage, seconds: float) -> None:
        """Add the time of another process to a stage."""
        with self._lock:
            self._stages[stage] += seconds
            self._other_processes += seconds

    def listed(self, items: Iterable[Item]) -> Iterator[Item]:
        """Yield the items; the time to find each is list."""
        iterator = iter(items)
        while True:
            with self.spent("list"):
                item = next(iterator, None)
            if item is None:
                return
            yield item

    def written(self, items: Iterable[Item]) -> Iterator[Item]:
        """Yield the items; the consumer's time for each is write."""
        for item in items:
            with self.spent("write"):
                yield item

    def ready(self) -> None:
        """Mark the runtime as ready, the first time that this is called."""
        self._ready = self._ready or self._snapshot()

    def finish(self) -> None:
        """Mark the end of a run."""
        self._end = self._snapshot()

    def _snapshot(self) -> _Snapshot:
        with self._lock:
            process = time.process_time() + self._other_processes
            rest = process - sum(self._stages.values())
            return _Snapshot(time.perf_counter(), self._stages.copy(), rest)

    def table(self, processors: int) -> list[str]:
        """Return lines for a person: each stage's seconds and share, and the steady rate.

        The steady rate counts from when the runtime was ready. The ideal rate is that of
        processors that only decode and infer.
        """
        end = self._end
        ready = self._ready or end
        infer = max(0.0, end.rest - ready.rest)
        rows: dict[str, float] = {"start": ready.rest, **end.stages, "infer": infer}
        available = processors * (end.wall - self._start)
        rows["wait"] = max(0.0, available - sum(rows.values()))
        total = sum(rows.values()) or 1.0
        lines = [
            f"{name:>8} {seconds:9.2f} s {seconds / total:6.1%}" for name, seconds in rows.items()
        ]
        steady = end.wall - ready.wall
        useful = infer + end.stages["decode"] - ready.stages["decode"]
        if self.images and steady > 0 and useful > 0:
            rate, ideal = self.images / steady, self.images * processors / useful
            lines.append(
                f"Steady rate: {rate:.0f} images/s, {rate / ideal:.0%} of the {ideal:.0f} images/s "
                f"that {processors} processors could decode and infer."
            )
        return lines
