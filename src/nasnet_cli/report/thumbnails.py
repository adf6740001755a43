"""Thumbnails: small WebP images, made in threads, in order and with bounded memory."""

from __future__ import annotations

import io
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Self, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from nasnet_cli.errors import InputError
from nasnet_cli.images.archives import Archives
from nasnet_cli.images.isolated import DecoderPool
from nasnet_cli.images.load import load
from nasnet_cli.images.pixel_budget import PixelBudget
from nasnet_cli.images.preprocess import Preprocessing
from nasnet_cli.images.selection import Selection
from nasnet_cli.images.source import MAX_BYTES, SkipCounter, Source, is_remote, member_of

SIDE = 176
"""The longest side of a thumbnail in pixels."""

LARGEST = 4096
"""The most bytes of a thumbnail: 10,000 of them take 55 MB as base64."""

# The whole image within a square; load's other ways to fit one would cut it or distort it.
_FIT = Preprocessing((SIDE, SIDE), resize="pad", crop_fraction=1.0, resample="lanczos")
_PADDING = 128
_QUALITIES = (62, 45, 30, 15, 1)

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """A thumbnail as WebP, or the reason why there is none. Exactly one of both is set."""

    webp: bytes | None
    reason: str = ""


@dataclass
class Thumbnails:
    """The maker of thumbnails, with its threads and processes; a context manager."""

    workers: int
    _stack: ExitStack = field(default_factory=ExitStack)
    _budget: PixelBudget = field(default_factory=PixelBudget)

    def __enter__(self) -> Self:
        self._archives = Archives(Selection(), skips=SkipCounter(), max_bytes=MAX_BYTES)
        self._pool = ThreadPoolExecutor(self.workers, thread_name_prefix="thumbnail")
        self._stack.callback(self._pool.shutdown, cancel_futures=True)
        self._decoders = self._stack.enter_context(DecoderPool())  # closed first: no thread waits
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def of(
        self, items: Iterable[Item], path: Callable[[Item], str | None]
    ) -> Iterator[tuple[Item, Thumbnail | None]]:
        """Yield each item with the thumbnail of the image at its path, None where it has no path.

        Images are decoded a few ahead of the caller, and the results come in the order of the
        items.
        """
        waiting: deque[tuple[Item, Future[Thumbnail] | None]] = deque()
        for item in items:
            name = path(item)
            future = None if name is None else self._pool.submit(self._make, self._source(name))
            waiting.append((item, future))
            if len(waiting) >= 4 * self.workers:
                yield _finished(*waiting.popleft())
        while waiting:
            yield _finished(*waiting.popleft())

    def _source(self, path: str) -> Source:
        if is_remote(path):
            return Source(path, failure=InputError("network", "Nothing is fetched for a report."))
        if not os.path.lexists(path) and member_of(path) is not None:
            found = next(self._archives.find(path))
            if found.path == path:
                return found
            return Source(path, failure=InputError("not_found", "The archive has no such image."))
        return Source(path, file=path)

    def _make(self, source: Source) -> Thumbnail:
        try:
            pixels = load(source, _FIT, budget=self._budget, decoders=self._decoders)
        except InputError as error:
            return Thumbnail(None, error.message)
        return Thumbnail(encode(without_padding(pixels.astype(np.uint8, copy=False))))


def _finished(item: Item, future: Future[Thumbnail] | None) -> tuple[Item, Thumbnail | None]:
    return item, None if future is None else future.result()


def without_padding(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Cut the grey that fills a square off an image [height, width, 3].

    A border of the image's own that has exactly this grey goes too, which nobody misses.
    """
    has_colour = (pixels != _PADDING).any(axis=2)
    rows, columns = (np.flatnonzero(has_colour.any(axis=axis)) for axis in (1, 0))
    if not len(rows):
        return pixels
    return pixels[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def encode(pixels: NDArray[np.uint8]) -> bytes:
    """Return an image [height, width, 3] as WebP of at most LARGEST bytes where that is possible."""
    image = Image.fromarray(np.ascontiguousarray(pixels))
    for quality in _QUALITIES:
        stream = io.BytesIO()
        image.save(stream, "WEBP", quality=quality, method=3)
        if stream.tell() <= LARGEST:
            break
    return stream.getvalue()
