"""From inputs to a model's outputs: decoding beside inference, results in order, memory bounded.

The thread that iterates the results also takes the sources; threads of a pool read and decode them;
one more thread, the feeder, opens the runtime while the first are decoded and hands it requests.
Neither waits for the other until as many pictures are under way as may be.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from queue import SimpleQueue

import numpy as np

from nasnet_cli.errors import InputError
from nasnet_cli.images.files import Source
from nasnet_cli.runtime.base import REQUEST_SIZE, Output, Pending, Runtime
from nasnet_cli.timings import Timings

DEFAULT_BATCH_SIZE = 64
"""Pictures decoded ahead of the model, unless told otherwise: enough that a slow one doesn't stop
the others, few enough that they take no memory to speak of."""

# Inputs that go into the runtime's hands together: more than a request holds only where some failed.
_LARGEST_GROUP = 4 * REQUEST_SIZE


@dataclass(frozen=True, slots=True)
class Result:
    """What a run gave for one input: outputs by name, each [depth] float32, or an error."""

    source: Source
    outputs: dict[Output, np.ndarray] | None
    error: InputError | None = None


Decode = Callable[[Source], np.ndarray]
_Decoded = tuple[Source, np.ndarray | InputError]
_Group = tuple[list[_Decoded], Pending]


def run(
    sources: Iterable[Source],
    decode: Decode,
    open_runtime: Callable[[], Runtime],
    *,
    workers: int,
    batch_size: int = DEFAULT_BATCH_SIZE,
    stop_decoding: Callable[[], object] = lambda: None,
    timings: Timings | None = None,
) -> Iterator[Result]:
    """Decodes sources in threads and runs them, and yields a result for each, in their order.

    decode gives [height, width, 3] or raises InputError, which becomes the input's result; workers
    threads call it. open_runtime is called once, in another thread, and its error is raised here.
    Sources are taken in the caller's thread, batch_size of them ahead of those that the runtime
    has or waits for. Results don't depend on workers and batch_size. stop_decoding is called when
    no more results are wanted, while some may still be decoded; nothing that decodes may make the
    end wait. timings learns where the time went.
    """
    timings = timings or Timings()
    # A worker has one in its hands; a group that is being filled and one that runs always fit.
    limit = batch_size + workers + 2 * _LARGEST_GROUP
    decoded: SimpleQueue[tuple[Source, Future[np.ndarray | InputError]] | None] = SimpleQueue()
    groups: SimpleQueue[_Group | BaseException] = SimpleQueue()
    pool = ThreadPoolExecutor(workers, thread_name_prefix="decode")
    feeder = threading.Thread(
        target=_feed, args=(decoded, open_runtime, groups, timings), name="feed", daemon=True
    )
    feeder.start()
    under_way = 0
    try:
        for source in timings.listed(sources):
            decoded.put((source, pool.submit(_attempt, decode, source)))
            under_way += 1
            # Results that are there are given at once: sources may come slowly.
            while under_way >= limit or not groups.empty():
                group = _next(groups)
                under_way -= len(group[0])
                yield from timings.written(_results(group))
        decoded.put(None)
        while under_way:
            group = _next(groups)
            under_way -= len(group[0])
            yield from timings.written(_results(group))
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        stop_decoding()
        pool.shutdown(wait=True)
        decoded.put(None)
        feeder.join()
        timings.finish()


def _attempt(decode: Decode, source: Source) -> np.ndarray | InputError:
    try:
        return decode(source)
    except InputError as error:
        return error


def _feed(
    decoded: SimpleQueue[tuple[Source, Future[np.ndarray | InputError]] | None],
    open_runtime: Callable[[], Runtime],
    groups: SimpleQueue[_Group | BaseException],
    timings: Timings,
) -> None:
    """Gives the runtime what is decoded, a request's worth at a time, until None comes."""
    try:
        runtime = open_runtime()
        timings.ready()
        group: list[_Decoded] = []
        pixels: list[np.ndarray] = []
        while (entry := decoded.get()) is not None:
            source, future = entry
            array = future.result()
            group.append((source, array))
            if isinstance(array, np.ndarray):
                pixels.append(array)
            if len(pixels) == REQUEST_SIZE or len(group) == _LARGEST_GROUP:
                groups.put((group, runtime.submit(pixels)))
                group, pixels = [], []
        if group:
            groups.put((group, runtime.submit(pixels)))
    except BaseException as error:  # whatever it is, it is the caller's to see
        groups.put(error)


def _next(groups: SimpleQueue[_Group | BaseException]) -> _Group:
    group = groups.get()
    if isinstance(group, BaseException):
        raise group
    return group


def _results(group: _Group) -> Iterator[Result]:
    decoded, pending = group
    outputs = pending.result()
    row = 0
    for source, array in decoded:
        if isinstance(array, InputError):
            yield Result(source, None, array)
        else:
            yield Result(source, {name: values[row] for name, values in outputs.items()})
            row += 1
