"""From inputs to a model's outputs: decoding beside inference, results in order, memory bounded.

One thread takes the items, a pool of threads reads and decodes them, and another one, the feeder,
opens the runtime while the first images are decoded and hands it requests. No thread waits for
another until `most_ahead` items are under way. A result comes as soon as it and all before it are
finished, however slowly items come, or a moment later while more are about to finish.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any, Generic, TypeVar

import numpy as np

from nasnet_cli import interruption
from nasnet_cli.errors import InputError
from nasnet_cli.images.source import Source
from nasnet_cli.results.records import Failure
from nasnet_cli.runtime.base import LARGEST_REQUEST, Pending, Runtime
from nasnet_cli.timings import Timings

DEFAULT_BATCH_SIZE = 256
"""Images decoded ahead of the model: enough that neither a slow image nor opening the runtime
stops the others, few enough that they take little memory."""

# Items that are handed to the runtime together: more than a request holds only where some have no
# pixels.
_GROUP_ITEMS = 4 * LARGEST_REQUEST

# Results that are taken from the runtime together, at most about this many.
_BURST_ITEMS = 4 * _GROUP_ITEMS

# Seconds that an image may wait for others: to fill its request, and to be written with them.
_PATIENCE_SECONDS = 0.05

Context = TypeVar("Context")


@dataclass(frozen=True, slots=True)
class Item(Generic[Context]):
    """One input of a run. Its result gives the context back.

    An item that is_done is not decoded: it only takes its place in the order of the results.
    """

    source: Source
    context: Context
    is_done: bool = False


@dataclass(frozen=True, slots=True)
class Result(Generic[Context]):
    """The result of one item: the model's outputs by name, or an error; neither if it is done.

    source and context are the item's. Each output is [depth] float32, or what reduce made of it.
    """

    source: Source
    context: Context
    outputs: dict[str, np.ndarray] | None
    error: InputError | None = None

    @property
    def failure(self) -> Failure | None:
        """The error, as records have it."""
        error = self.error
        return None if error is None else Failure(error.kind, error.message, error.cause)


@dataclass(frozen=True, slots=True)
class _End:
    """The end of a queue: all is finished, or an error has stopped the run."""

    error: BaseException | None = None


Decode = Callable[[Source], np.ndarray]
Reduce = Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]
# An item that is being decoded, or that needs no decoding.
_Decoding = tuple[Item[Any], Future[np.ndarray | InputError] | None]
# An item and the error that it has instead of pixels.
_Decoded = tuple[Item[Any], InputError | None]
# Items in order, and the request for those of them that have pixels.
_Group = tuple[list[_Decoded], Pending | None]
_Entry = TypeVar("_Entry")


def most_ahead(workers: int, batch_size: int) -> int:
    """Return how many items run takes at most whose results have not been taken from it.

    They are batch_size waiting for the model, one in the hands of each worker, a group that is
    being filled, one that runs, and a burst of results.
    """
    return batch_size + workers + 2 * _GROUP_ITEMS + _BURST_ITEMS


def run(
    items: Iterable[Item[Context]],
    decode: Decode,
    open_runtime: Callable[[], Runtime],
    *,
    workers: int,
    batch_size: int = DEFAULT_BATCH_SIZE,
    reduce: Reduce = lambda outputs: outputs,
    stop_decoding: Callable[[], object] = lambda: None,
    timings: Timings | None = None,
) -> Iterator[Result[Context]]:
    """Decode items in threads, run the model on them, and yield a result for each, in order.

    decode returns pixels [height, width, 3] or raises InputError, which becomes the item's result;
    it is called in so many threads as workers. items are iterated in one more thread, at most
    most_ahead(workers, batch_size) ahead of the results; open_runtime is called once, in another.
    Errors of both are raised here, after the results before them. Results do not depend on workers
    and batch_size. reduce replaces the outputs of n images, each [n, depth], by others of n rows.
    stop_decoding is called when no more results are wanted while some items may still be decoded:
    after it, no decode may block. timings learns where the time goes.
    """
    timings = timings or Timings()
    room = threading.Semaphore(most_ahead(workers, batch_size))
    stopped = threading.Event()
    decoding: SimpleQueue[_Decoding | _End] = SimpleQueue()
    groups: SimpleQueue[_Group | _End] = SimpleQueue()
    pool = ThreadPoolExecutor(workers, thread_name_prefix="decode")

    def take_items() -> None:
        try:
            remaining = timings.listed(items)
            while room.acquire() and not stopped.is_set():
                item = next(remaining, None)
                if item is None:
                    break
                future = None if item.is_done else pool.submit(_attempt, decode, item.source)
                decoding.put((item, future))
        except BaseException as error:  # whatever it is, the caller gets it
            decoding.put(_End(error))
        else:
            decoding.put(_End())

    group_items = max(_GROUP_ITEMS, batch_size // 4)
    feeder = threading.Thread(
        target=_feed,
        args=(decoding, open_runtime, groups, group_items, timings),
        name="feed",
        daemon=True,
    )
    feeder.start()
    threading.Thread(target=take_items, name="list", daemon=True).start()
    try:
        for decoded, outputs in _bursts(groups, lambda: not decoding.empty()):
            with timings.spent("write"):
                reduced = reduce(outputs) if outputs else {}
            yield from timings.written(_results(decoded, reduced))
            timings.images += sum(not item.is_done for item, _ in decoded)
            room.release(len(decoded))
    finally:
        # The thread that takes items is not joined: it may be reading from an idle pipe.
        stopped.set()
        room.release()
        pool.shutdown(wait=False, cancel_futures=True)
        stop_decoding()
        decoding.put(_End())
        if not interruption.has_begun():  # or a decoder in C would hold up the end of the process
            pool.shutdown(wait=True)
            feeder.join()
        timings.finish()


def _attempt(decode: Decode, source: Source) -> np.ndarray | InputError:
    try:
        return decode(source)
    except InputError as error:
        return error


def _feed(
    decoding: SimpleQueue[_Decoding | _End],
    open_runtime: Callable[[], Runtime],
    groups: SimpleQueue[_Group | _End],
    group_items: int,
    timings: Timings,
) -> None:
    """Hand the runtime what is decoded, a request at a time, until the end comes."""
    try:
        runtime = open_runtime()
        timings.ready()
        request_size = runtime.plan.request_size
        group: list[_Decoded] = []
        pixels: list[np.ndarray] = []
        entry: _Decoding | _End | None = None
        while not isinstance(entry, _End):
            entry = _next(decoding, _PATIENCE_SECONDS if group else None)
            if group and (entry is None or isinstance(entry, _End) or not _is_soon(entry[1])):
                groups.put((group, runtime.submit(pixels) if pixels else None))
                group, pixels = [], []
            if isinstance(entry, tuple):
                item, future = entry
                decoded = None if future is None else future.result()
                if isinstance(decoded, np.ndarray):
                    pixels.append(decoded)
                    decoded = None
                group.append((item, decoded))
                if len(pixels) == request_size or len(group) >= group_items:
                    groups.put((group, runtime.submit(pixels) if pixels else None))
                    group, pixels = [], []
        groups.put(entry)
    except BaseException as error:  # whatever it is, the caller gets it
        groups.put(_End(error))


def _is_soon(future: Future[np.ndarray | InputError] | None) -> bool:
    """Return whether an item has been decoded, or is in a moment."""
    return future is None or bool(wait([future], _PATIENCE_SECONDS).done)


def _next(queue: SimpleQueue[_Entry], timeout: float | None) -> _Entry | None:
    """Return the next entry; None if none comes for so many seconds."""
    try:
        return queue.get(timeout=timeout)
    except Empty:
        return None


def _bursts(
    groups: SimpleQueue[_Group | _End], is_busy: Callable[[], bool]
) -> Iterator[tuple[list[_Decoded], dict[str, np.ndarray]]]:
    """Yield items that are finished, with their outputs: many at once while more are on the way.

    Each time that Python runs between decoding and inference, its data has left the processor's
    caches, and it takes several times as long. Any error, KeyboardInterrupt too, is raised after
    what is finished.
    """
    group: _Group | _End | None = None
    while not isinstance(group := group or groups.get(), _End):
        burst: list[_Decoded] = []
        parts: list[dict[str, np.ndarray]] = []
        until: float | None = None
        stopped: BaseException | None = None
        try:
            while isinstance(group, tuple):
                decoded, pending = group
                if pending is not None:
                    parts.append(pending.result(None if until is None else _left(until)))
                burst += decoded
                group = None
                if len(burst) >= _BURST_ITEMS or not is_busy():
                    break
                until = until or time.monotonic() + _PATIENCE_SECONDS
                group = _next(groups, _left(until))
        except TimeoutError as error:
            stopped = None if burst else error  # the unfinished request comes with the next burst
        except BaseException as error:
            stopped = error
        if burst:
            names = parts[0] if parts else ()
            yield burst, {name: np.concatenate([part[name] for part in parts]) for name in names}
        if stopped is not None:
            group = _End(stopped)
            del stopped
    if group.error is not None:
        try:
            raise group.error
        finally:
            # The traceback holds this frame; a circle would keep the model in memory.
            del group


def _left(until: float) -> float:
    return max(0.0, until - time.monotonic())


def _results(burst: list[_Decoded], outputs: dict[str, np.ndarray]) -> Iterator[Result[Any]]:
    row = 0
    for item, error in burst:
        own = None
        if error is None and not item.is_done:
            own = {name: values[row] for name, values in outputs.items()}
            row += 1
        yield Result(item.source, item.context, own, error)
