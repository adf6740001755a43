"""From inputs to a model's outputs: decoding beside inference, results in order, memory bounded."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from nasnet_cli.errors import InputError
from nasnet_cli.images.files import Source
from nasnet_cli.runtime.base import REQUEST_SIZE, Output, Runtime

# Pictures decoded ahead of the oldest one that is not done yet, for each decoding thread: enough
# that one slow picture doesn't stop the others, few enough that memory stays flat.
_AHEAD = 8


@dataclass(frozen=True, slots=True)
class Result:
    """What a run gave for one input: outputs by name, each [depth] float32, or an error."""

    source: Source
    outputs: dict[Output, np.ndarray] | None
    error: InputError | None = None


def run(
    sources: Iterable[Source],
    decode: Callable[[Source], np.ndarray],
    runtime: Runtime,
    *,
    workers: int,
) -> Iterator[Result]:
    """Decodes sources in threads and runs them, and yields a result for each, in their order.

    decode gives [height, width, 3] or raises InputError, which becomes the input's result.
    """
    groups: deque[list[_Decoded]] = deque()
    for outputs in runtime.run(_batches(_decoded(sources, decode, workers), groups)):
        yield from _results(groups.popleft(), outputs)
    for rest in groups:  # at the end, inputs that failed and had no batch to go with
        yield from _results(rest, {})


_Decoded = tuple[Source, np.ndarray | InputError]


def _decoded(
    sources: Iterable[Source], decode: Callable[[Source], np.ndarray], workers: int
) -> Iterator[_Decoded]:
    def attempt(source: Source) -> np.ndarray | InputError:
        try:
            return decode(source)
        except InputError as error:
            return error

    pool = ThreadPoolExecutor(workers, thread_name_prefix="decode")
    under_way: deque[tuple[Source, Future[np.ndarray | InputError]]] = deque()
    try:
        for source in sources:
            under_way.append((source, pool.submit(attempt, source)))
            if len(under_way) > workers * _AHEAD:
                first, future = under_way.popleft()
                yield first, future.result()
        while under_way:
            first, future = under_way.popleft()
            yield first, future.result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _batches(decoded: Iterable[_Decoded], groups: deque[list[_Decoded]]) -> Iterator[np.ndarray]:
    """Batches of up to REQUEST_SIZE pictures; what each is made of goes to groups first."""
    group: list[_Decoded] = []
    arrays: list[np.ndarray] = []
    for entry in decoded:
        group.append(entry)
        if isinstance(entry[1], np.ndarray):
            arrays.append(entry[1])
        if len(arrays) == REQUEST_SIZE:
            groups.append(group)
            yield np.stack(arrays)
            group, arrays = [], []
    if group:
        groups.append(group)
    if arrays:
        yield np.stack(arrays)


def _results(group: list[_Decoded], outputs: dict[Output, np.ndarray]) -> Iterator[Result]:
    row = 0
    for source, decoded in group:
        if isinstance(decoded, InputError):
            yield Result(source, None, decoded)
        else:
            yield Result(source, {name: values[row] for name, values in outputs.items()})
            row += 1
