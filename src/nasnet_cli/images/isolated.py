"""Decoding in separate processes, for uncommon formats whose decoders may crash or hang.

Every browser exercises the decoders of the common formats on hostile bytes. Those of TIFF, JPEG
2000, AVIF and the like see less of that, and Python cannot catch a crash in one. A separate process
can be ended, and its end is one image's error.

The two sides talk over a socket. The parent sends a line of JSON with the file's descriptor. The
worker answers with the number of pixels that decoding holds in memory, and waits for an empty line,
which means that there is room, before each attempt to decode. It then sends a line of JSON and the
bytes of the array. isolated_worker is the other side.
"""

from __future__ import annotations

import io
import json
import math
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, BinaryIO, Self, cast

import numpy as np

from nasnet_cli.errors import InputError, NasnetError, exhaustion
from nasnet_cli.images.preprocess import Pixels, Preprocessing
from nasnet_cli.images.source import explain_os_error
from nasnet_cli.systems import memory_file

COMMON_FORMATS = frozenset(("JPEG", "PNG", "WEBP", "GIF", "BMP"))
"""Formats, as formats.signature names them, that are decoded in this process."""

READY = b"ready\n"
"""The first line that a worker sends."""

TIMEOUT = 60.0
"""Seconds allowed for an image, plus one for each million of its pixels and of its file's bytes:
several times what the slowest decoder needs on a busy machine."""

# For the imports of a new worker, from however slow a disk.
_START_TIMEOUT = 300.0
# Between the end of a worker's socket and that of its process.
_EXIT_TIMEOUT = 1.0
_CODE = (
    "import sys; sys.path[:] = sys.argv[1:]\n"
    "from nasnet_cli.images.isolated_worker import serve\n"
    "serve()"
)
# Workers multiply no matrices: threads for that would only take time and memory.
_SINGLE_THREADED = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}


class PoolClosedError(RuntimeError):
    """The run is over: nothing is decoded any more."""


class DecoderPool:
    """Worker processes that decode images for the threads of this process.

    A worker starts when an image finds none idle, and then serves any thread: there are never more
    workers than threads that decode at once. A worker also ends with the thread that started it.
    The pool's owner closes it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idle: list[_Worker] = []
        self._busy: set[_Worker] = set()
        self._is_closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End all workers at once, busy ones too. Nothing is decoded afterwards."""
        with self._lock:
            self._is_closed = True
            idle, self._idle = self._idle, []
            for worker in self._busy:
                worker.kill()  # the thread that waits for it cleans up
        for worker in idle:
            worker.end()

    def load(
        self,
        stream: BinaryIO,
        preprocessing: Preprocessing,
        *,
        max_pixels: int,
        reserve: Callable[[int], object],
        add_seconds: Callable[[float], object],
    ) -> Pixels:
        """Decode and preprocess like load.decode_and_preprocess, in a worker.

        add_seconds is called with the processor time that the worker took. Raises InputError, with
        two more kinds: timeout and crashed; NasnetError when no worker starts.
        """
        with _file_descriptor(stream) as descriptor:
            task = _Task(descriptor, preprocessing, max_pixels, reserve, add_seconds)
            worker = self._take()
            try:
                try:
                    return self._run(worker, task)
                except _ExitedError:
                    # The image before may have caused that; in a new worker it cannot have.
                    if worker.is_new:
                        raise
                    return self._run(self._start(), task)
            except _ExitedError as exit_error:
                raise InputError("crashed", f"Decoding it crashed ({exit_error}).") from None

    def _take(self) -> _Worker:
        with self._lock:
            if self._idle:
                worker = self._idle.pop()
                self._busy.add(worker)
                return worker
        return self._start()

    def _start(self) -> _Worker:
        try:
            worker = _Worker()
        except _KilledAtStartError:  # by whoever is short of memory: once, that may pass
            worker = _Worker()
        with self._lock:
            if not self._is_closed:
                self._busy.add(worker)
                return worker
        worker.end()
        raise PoolClosedError("the decoder pool is closed")

    def _run(self, worker: _Worker, task: _Task) -> Pixels:
        try:
            return worker.run(task)
        finally:
            with self._lock:
                self._busy.discard(worker)
                if self._is_closed:
                    worker.end()
                elif not worker.has_ended:
                    worker.is_new = False
                    self._idle.append(worker)


@dataclass(frozen=True, slots=True)
class _Task:
    """One image to decode: its open file, its settings and its callbacks."""

    descriptor: int
    preprocessing: Preprocessing
    max_pixels: int
    reserve: Callable[[int], object]
    add_seconds: Callable[[float], object]


class _KilledAtStartError(NasnetError):
    """A worker was killed before it was ready."""


class _ExitedError(Exception):
    """A worker has exited; the message says how."""


class _Worker:
    """One worker process, which runs one task at a time. It has_ended after any failure."""

    def __init__(self) -> None:
        self.is_new = True
        self.has_ended = False
        self._socket, worker_socket = socket.socketpair()
        command = [sys.executable, "-P", "-c", _CODE, *map(os.path.abspath, sys.path)]
        with worker_socket:
            try:
                # In a session of its own, so that Ctrl-C doesn't reach it. Nobody needs what the
                # decoders' libraries write to descriptor 2.
                self._process = subprocess.Popen(
                    command,
                    stdin=worker_socket.fileno(),
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    env={**os.environ, **_SINGLE_THREADED},
                    start_new_session=True,
                )
            except OSError as error:
                self._socket.close()
                exhausted = exhaustion(error)
                raise exhausted or _start_error(error.strerror or str(error)) from error
        self._answers = self._socket.makefile("rb")
        try:
            self._socket.settimeout(_START_TIMEOUT)
            is_ready = self._answers.readline() == READY
        except OSError:
            is_ready = False
        if not is_ready:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(_EXIT_TIMEOUT)
            was_killed = (self._process.poll() or 0) < 0
            raise _start_error(self.end(), _KilledAtStartError if was_killed else NasnetError)

    def run(self, task: _Task) -> Pixels:
        """Decode an image. Raises InputError from decoding or for a timeout, or _ExitedError."""
        file_size = os.fstat(task.descriptor).st_size
        timeout = _timeout(file_size)
        try:
            settings = task.preprocessing.to_dict()
            request = {"preprocessing": settings, "max_pixels": task.max_pixels}
            self._socket.settimeout(timeout)
            line = json.dumps(request).encode() + b"\n"
            socket.send_fds(self._socket, [line], [task.descriptor])
            answer = self._receive()
            while "pixels" in answer:
                task.reserve(answer["pixels"])
                timeout = _timeout(file_size + answer["pixels"])
                self._socket.settimeout(timeout)
                self._socket.sendall(b"\n")
                answer = self._receive()
            task.add_seconds(answer["seconds"])
            if "error" not in answer:
                return self._receive_array(task.preprocessing)
            input_error = InputError(*answer["error"])
        except TimeoutError:
            self.end()
            message = f"Decoding it took more than {timeout:.0f} seconds."
            raise InputError("timeout", message) from None
        # The worker has exited, or its answers make no sense.
        except (OSError, EOFError, ValueError, LookupError, TypeError) as error:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(_EXIT_TIMEOUT)
            raise _ExitedError(self.end()) from error
        except BaseException:  # an interruption: the worker may be in the middle of an answer
            self.end()
            raise
        raise input_error

    def _receive(self) -> dict[str, Any]:
        line = self._answers.readline()
        if not line:
            raise EOFError
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _receive_array(self, preprocessing: Preprocessing) -> Pixels:
        shape = (*preprocessing.size, 3)
        size = math.prod(shape) * np.dtype(preprocessing.dtype).itemsize
        array = np.frombuffer(self._answers.read(size), preprocessing.dtype).reshape(shape)
        return cast(Pixels, array)

    def kill(self) -> None:
        """Kill the process, from another thread than the one that waits for it."""
        self._process.kill()

    def end(self) -> str:
        """Kill the process unless it has exited, and return how it ended."""
        self.has_ended = True
        self._process.kill()
        self._answers.close()
        self._socket.close()
        status = self._process.wait()
        return signal.Signals(-status).name if status < 0 else f"exit status {status}"


def _timeout(size: int) -> float:
    return TIMEOUT + size / 1e6


def _start_error(reason: str, kind: type[NasnetError] = NasnetError) -> NasnetError:
    return kind(
        f"The process that decodes uncommon formats doesn't start ({reason}).",
        "Check whether this machine allows another process, and reinstall nasnet-cli.",
    )


@contextmanager
def _file_descriptor(stream: BinaryIO) -> Iterator[int]:
    """Yield the descriptor of the stream's file, or of a copy of its bytes in memory."""
    if not isinstance(stream, io.BytesIO):
        yield stream.fileno()
        return
    try:
        file = memory_file()
        file.write(stream.getbuffer())
        file.flush()
    except OSError as error:
        raise explain_os_error(error) from error
    with file:
        yield file.fileno()
