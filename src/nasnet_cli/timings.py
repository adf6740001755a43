"""Where a run's time went: what its stages had of the processors, added up over threads."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Literal, TypeVar

Item = TypeVar("Item")
Stage = Literal["list", "read", "decode", "write"]


class Timings:
    """Adds up what each stage takes. Cheap enough to be always there; safe from any thread.

    Seconds are processor time, which doesn't grow when threads wait for each other; a disk or a
    network that is waited for shows as wait.

    start is all until the runtime was ready but for the other stages; infer is what the process
    has had of the processors since then but for the other stages, as a runtime's threads are its
    own; wait is what nobody had.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._begin = time.perf_counter()
        self._cpu: dict[str, float] = dict.fromkeys(("list", "read", "decode", "write"), 0.0)
        self._end = _Moment(self._begin, 0.0, self._cpu.copy())
        self._ready: _Moment | None = None
        self._elsewhere = 0.0
        self._pictures = 0

    @contextmanager
    def spent(self, stage: Stage) -> Iterator[None]:
        """Adds what the block takes in this thread."""
        begin = time.thread_time()
        try:
            yield
        finally:
            spent = time.thread_time() - begin
            with self._lock:
                self._cpu[stage] += spent

    def add(self, stage: Stage, seconds: float) -> None:
        """Adds what another process took."""
        with self._lock:
            self._cpu[stage] += seconds
            self._elsewhere += seconds

    def listed(self, items: Iterable[Item]) -> Iterator[Item]:
        """The items; finding them is list."""
        iterator = iter(items)
        while True:
            with self.spent("list"):
                try:
                    item = next(iterator)
                except StopIteration:
                    return
            yield item

    def written(self, items: Iterable[Item]) -> Iterator[Item]:
        """The items; what their taker does with each is write."""
        for item in items:
            with self.spent("write"):
                yield item
            self._pictures += 1

    def ready(self) -> None:
        """The runtime is there: from the first time on, what no stage takes is infer."""
        self._ready = self._ready or self._now()

    def finish(self) -> None:
        """The run is over."""
        self._end = self._now()

    def _now(self) -> _Moment:
        with self._lock:
            process = time.process_time() + self._elsewhere
            return _Moment(time.perf_counter(), process, self._cpu.copy())

    def table(self, processors: int) -> list[str]:
        """Lines for a person: seconds and share of each stage, and the steady rate.

        The steady rate counts from when the runtime was ready. The ideal one is what the
        processors would do if they did nothing but decode and infer.
        """
        end = self._end
        ready = self._ready or end
        infer = max(0.0, end.unaccounted - ready.unaccounted)
        rows: dict[str, float] = {"start": ready.unaccounted}
        rows.update(end.cpu)
        rows["infer"] = infer
        whole = processors * (end.elapsed - self._begin)
        rows["wait"] = max(0.0, whole - sum(rows.values()))
        shares = sum(rows.values()) or 1.0
        lines = [
            f"{name:>8} {seconds:9.2f} s {seconds / shares:6.1%}" for name, seconds in rows.items()
        ]
        steady = end.elapsed - ready.elapsed
        useful = infer + end.cpu["decode"] - ready.cpu["decode"]
        if self._pictures and steady > 0 and useful > 0:
            rate, ideal = self._pictures / steady, self._pictures * processors / useful
            lines.append(
                f"Steady rate: {rate:.0f} a second, {rate / ideal:.0%} of the {ideal:.0f} that "
                f"{processors} processors could decode and infer."
            )
        return lines


class _Moment:
    """What had been spent at some time; unaccounted is what no stage had of the processors."""

    def __init__(self, elapsed: float, process: float, cpu: dict[str, float]) -> None:
        self.elapsed = elapsed
        self.cpu = cpu
        self.unaccounted = process - sum(cpu.values())
