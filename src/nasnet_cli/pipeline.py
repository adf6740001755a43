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

import numpy as np

from nasnet_cli.errors import InputError
from nasnet_cli.images.files import Source
from nasnet_cli.runtime.base import LARGEST_REQUEST, Pending, Runtime
from nasnet_cli.timings import Timings

DEFAULT_BATCH_SIZE = 256
"""Pictures decoded ahead of the model, unless told otherwise: enough that neither a slow one nor
the opening of the runtime stops the others, few enough that they take no memory to speak of."""

# Inputs that go into the runtime's hands together: more than a request holds only where some failed.
_LARGEST_GROUP = 4 * LARGEST_REQUEST

# Results that are taken from the runtime together, while there are more to come.
_TAKEN_TOGETHER = 4 * _LARGEST_GROUP

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
    batch_size. reduce makes of a request's outputs, each [n, depth], what is wanted of them, of as
    many rows: once for several pictures. stop_decoding is called when no more results are wanted, while some may still be
    decoded; nothing that decodes may make the end wait. timings learns where the time went.
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
        end = None
        while end is None:
            some, end = _finished(groups, lambda: not decoding.empty())
            for ended, _ in some:
                room.release(len(ended))
            yield from _results(some, reduce, timings)
        if end.error is not None:
            raise end.error
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


def _next(
    decoding: SimpleQueue[_Decoding | _End], patience: float | None
) -> _Decoding | _End | None:
    """What comes next; None when nothing has come for patience seconds."""
    try:
        return decoding.get(timeout=patience)
    except Empty:
        return None


def _finished(
    groups: SimpleQueue[_Group | _End], is_busy: Callable[[], bool]
) -> tuple[list[_Group], _End | None]:
    """The next groups, several while there is more to come soon, and the end if that is there.

    Each time that Python is called up between decoding and inference it finds none of its own in
    the processor's caches, and takes several times as long.
    """
    some: list[_Group] = []
    count = 0
    group = groups.get()
    until = time.monotonic() + _PATIENCE
    while not isinstance(group, _End):
        some.append(group)
        patience = until - time.monotonic()
        count += len(group[0])
        if not is_busy() or patience <= 0 or count >= _TAKEN_TOGETHER:
            return some, None
        try:
            group = groups.get(timeout=patience)
        except Empty:
            return some, None
    return some, group


def _results(some: list[_Group], reduce: Reduce, timings: Timings) -> Iterator[Result]:
    """The results of groups; the error of one that fails comes after those before it."""
    ended: list[_Ended] = []
    parts: list[dict[str, np.ndarray]] = []
    failed = None
    for group, pending in some:
        try:
            parts.append(pending.result())
        except Exception as error:  # whatever it is, it is the caller's to see
            failed = error
            break
        ended += group
    if parts:
        with timings.spent("write"):
            whole = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
            outputs = reduce(whole)
        yield from timings.written(_rows(ended, outputs))
    if failed is not None:
        raise failed


def _rows(ended: list[_Ended], outputs: dict[str, np.ndarray]) -> Iterator[Result]:
    row = 0
    for source, error in ended:
        if error is not None:
            yield Result(source, None, error)
        else:
            yield Result(source, {name: values[row] for name, values in outputs.items()})
            row += 1
