"""From inputs to a model's outputs: decoding beside inference, results in order, memory bounded.

A thread takes the sources, threads of a pool read and decode them, and one more, the feeder, opens
the runtime while the first are decoded and hands it requests. None waits for the others until as
many pictures are under way as may be; results come as soon as they and all before them are there,
however slowly sources do, or a moment later where there is more to come at once.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import TypeVar

import numpy as np

from nasnet_cli.errors import InputError
from nasnet_cli.images.source import Source
from nasnet_cli.runtime.base import LARGEST_REQUEST, Pending, Runtime
from nasnet_cli.timings import Timings

DEFAULT_BATCH_SIZE = 256
"""Pictures decoded ahead of the model, unless told otherwise: enough that neither a slow one nor
the opening of the runtime stops the others, few enough that they take no memory to speak of."""

# Inputs that go into the runtime's hands together: more than a request holds only where some failed.
_LARGEST_GROUP = 4 * LARGEST_REQUEST

# The most results that are taken from the runtime together.
_MOST_TOGETHER = 4 * _LARGEST_GROUP

# Seconds that a picture may wait for others: to fill its request, and to be written with them.
_PATIENCE = 0.05


@dataclass(frozen=True, slots=True)
class Result:
    """What a run gave for one input: outputs by name, or an error.

    Each is [depth] float32, but for what reduce has made of it.
    """

    source: Source
    outputs: dict[str, np.ndarray] | None
    error: InputError | None = None


@dataclass(frozen=True, slots=True)
class _End:
    """There is no more: all is done, or an error has stopped it."""

    error: BaseException | None = None


Decode = Callable[[Source], np.ndarray]
Reduce = Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]
_Decoding = tuple[Source, Future[np.ndarray | InputError]]
_Ended = tuple[Source, InputError | None]
_Group = tuple[list[_Ended], Pending]
_Entry = TypeVar("_Entry")


def run(
    sources: Iterable[Source],
    decode: Decode,
    open_runtime: Callable[[], Runtime],
    *,
    workers: int,
    batch_size: int = DEFAULT_BATCH_SIZE,
    reduce: Reduce = lambda outputs: outputs,
    stop_decoding: Callable[[], object] = lambda: None,
    timings: Timings | None = None,
) -> Iterator[Result]:
    """Decodes sources in threads and runs them, and yields a result for each, in their order.

    decode gives [height, width, 3] or raises InputError, which becomes the input's result; workers
    threads call it. sources are taken in another thread, batch_size of them ahead of those that the
    runtime has or waits for; open_runtime is called once, in one more. The errors of both are
    raised here, after the results of what came before. Results don't depend on workers and
    batch_size. reduce makes of the outputs of n pictures, each [n, depth], what is wanted of them,
    n rows as well. stop_decoding is called when no more results are wanted, while some may still
    be decoded; nothing that decodes may make the end wait. timings learns where the time went.
    """
    timings = timings or Timings()
    # A worker has one in its hands; a group that is being filled and one that runs always fit.
    room = threading.Semaphore(batch_size + workers + 2 * _LARGEST_GROUP)
    stopped = threading.Event()
    decoding: SimpleQueue[_Decoding | _End] = SimpleQueue()
    groups: SimpleQueue[_Group | _End] = SimpleQueue()
    pool = ThreadPoolExecutor(workers, thread_name_prefix="decode")

    def list_sources() -> None:
        error = None
        try:
            for source in timings.listed(sources):
                room.acquire()
                if stopped.is_set():
                    break
                decoding.put((source, pool.submit(_attempt, decode, source)))
        except BaseException as caught:  # whatever it is, it is the caller's to see
            error = caught
        decoding.put(_End(error))

    feeder = threading.Thread(
        target=_feed, args=(decoding, open_runtime, groups, timings), name="feed", daemon=True
    )
    feeder.start()
    threading.Thread(target=list_sources, name="list", daemon=True).start()
    try:
        for ended, outputs in _bursts(groups, lambda: not decoding.empty(), room.release):
            with timings.spent("write"):
                reduced = reduce(outputs)
            yield from timings.written(_results(ended, reduced))
    finally:
        # Who lists is not waited for: it may be reading from a pipe into which nothing comes.
        stopped.set()
        room.release()
        pool.shutdown(wait=False, cancel_futures=True)
        stop_decoding()
        pool.shutdown(wait=True)
        decoding.put(_End())
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
    timings: Timings,
) -> None:
    """Gives the runtime what is decoded, a request's worth at a time, until the end comes."""
    try:
        runtime = open_runtime()
        timings.ready()
        request_size = runtime.plan.request_size
        group: list[_Ended] = []
        pixels: list[np.ndarray] = []
        while True:
            entry = _next(decoding, _PATIENCE if group else None)
            if isinstance(entry, tuple):
                source, future = entry
                array = future.result()
                if isinstance(array, InputError):
                    group.append((source, array))
                else:
                    group.append((source, None))
                    pixels.append(array)
                if len(pixels) < request_size and len(group) < _LARGEST_GROUP:
                    continue
            if group:
                groups.put((group, runtime.submit(pixels)))
                group, pixels = [], []
            if isinstance(entry, _End):
                groups.put(entry)
                return
    except BaseException as error:  # whatever it is, it is the caller's to see
        groups.put(_End(error))


def _next(queue: SimpleQueue[_Entry], patience: float | None) -> _Entry | None:
    """What comes next; None when nothing has come for patience seconds."""
    try:
        return queue.get(timeout=patience)
    except Empty:
        return None


def _bursts(
    groups: SimpleQueue[_Group | _End],
    is_busy: Callable[[], bool],
    give_room: Callable[[int], None],
) -> Iterator[tuple[list[_Ended], dict[str, np.ndarray]]]:
    """The inputs whose requests have ended, with their outputs: many together where the runtime is
    fast and there is more to come.

    Each time that Python is called up between decoding and inference it finds none of its own in
    the processor's caches, and takes several times as long. Whatever stops this, an interruption
    too, is raised after what there is.
    """
    group: _Group | _End | None = None
    while not isinstance(group := group or groups.get(), _End):
        ended: list[_Ended] = []
        parts: list[dict[str, np.ndarray]] = []
        until: float | None = None
        stopped: BaseException | None = None
        try:
            while isinstance(group, tuple):
                inputs, pending = group
                parts.append(pending.result(None if until is None else _left(until)))
                ended += inputs
                give_room(len(inputs))
                group = None
                if len(ended) >= _MOST_TOGETHER or not is_busy():
                    break
                until = until or time.monotonic() + _PATIENCE
                group = _next(groups, _left(until))
        except TimeoutError as error:
            stopped = None if ended else error  # what was waited for comes with the next
        except BaseException as error:
            stopped = error
        if ended:
            yield ended, {name: np.concatenate([p[name] for p in parts]) for name in parts[0]}
        if stopped is not None:
            raise stopped
    if group.error is not None:
        raise group.error


def _left(until: float) -> float:
    return max(0.0, until - time.monotonic())


def _results(ended: list[_Ended], outputs: dict[str, np.ndarray]) -> Iterator[Result]:
    row = 0
    for source, error in ended:
        if error is not None:
            yield Result(source, None, error)
        else:
            yield Result(source, {name: values[row] for name, values in outputs.items()})
            row += 1
