"""Work done ahead in threads, with results in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from nasnet_cli.runtime.base import available_cores

Item = TypeVar("Item")
Result = TypeVar("Result")


def computed_ahead(compute: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """Yield compute's result for each item, in order; a thread for each core computes the next ones.

    Items are taken when there is room for them: few results are in memory at once.
    """
    threads = available_cores()
    waiting: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(threads, thread_name_prefix="compute") as pool:
        for item in items:
            waiting.append(pool.submit(compute, item))
            if len(waiting) > threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
