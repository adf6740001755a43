"""Pictures of uncommon formats are decoded in processes apart, which may crash or hang.

The decoders of the common formats are tried on hostile bytes every day, by every browser; those of
TIFF, JPEG 2000, AVIF and the like less, and a crash in one is out of Python's hands. A process of
its own can be ended, and its end is one picture's error.

The two talk over a socket: a request, which is a line of JSON and the file's descriptor; from the
other side the pixels that decoding will have in memory; when there is room for them, an empty line;
then the answer, a line of JSON and the bytes of the array. decoding_process is the other side.
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

from nasnet_cli.errors import InputError, NasnetError
from nasnet_cli.images.preprocess import Pixels, Preprocessing
from nasnet_cli.images.source import explain_os_error

COMMON_FORMATS = frozenset(("JPEG", "PNG", "WEBP", "GIF", "BMP"))
"""Pictures that are decoded in this process, by formats.signature's names."""

READY = b"ready\n"
"""What a process says first."""

PATIENCE = 60.0
"""Seconds that a picture may take, beside one for each million of its pixels and of its file's
bytes: several times what the slowest decoder needs on a busy machine."""

# Until a process has imported what it needs, from however slow a disk.
_START_SECONDS = 300.0
# From the socket's end to the process's own.
_LAST_SECONDS = 1.0
_CODE = (
    "import sys; sys.path[:] = sys.argv[1:]\n"
    "from nasnet_cli.images.isolated_worker import serve\n"
    "serve()"
)
# It multiplies no matrices: threads for that would only take time and memory.
_ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}


class DecoderPool:
    """Processes that decode pictures for the threads of this one.

    One is started when a picture finds none idle, and serves any thread after that: there are never
    more of them than threads that decode at once. A process also ends with the thread that started
    it. Whoever makes a DecoderPool closes it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idle: list[_Process] = []
        self._busy: set[_Process] = set()
        self._is_closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends all processes at once, those too that a thread waits for; nothing is decoded then."""
        with self._lock:
            self._is_closed = True
            idle, self._idle = self._idle, []
            for process in self._busy:
                process.kill()  # its thread does the rest
        for process in idle:
            process.end()

    def load(
        self,
        stream: BinaryIO,
        preprocessing: Preprocessing,
        *,
        max_pixels: int,
        reserve: Callable[[int], object],
        spent: Callable[[float], object],
    ) -> Pixels:
        """What load.pixels_of gives, with the same errors and two more: timeout and crashed.

        spent is told the seconds of processor time that it took. Raises NasnetError when no process
        can be started.
        """
        reserved = False

        def reserve_once(pixels: int) -> None:
            nonlocal reserved
            if not reserved:
                reserve(pixels)
                reserved = True

        with _descriptor(stream) as descriptor:
            task = _Task(descriptor, preprocessing, max_pixels, reserve_once, spent)
            process = self._take()
            try:
                try:
                    return self._do(process, task)
                except _ExitedError:
                    # That may be the doing of the picture before; in a new process it is not.
                    if process.is_new:
                        raise
                    return self._do(self._start(), task)
            except _ExitedError as end:
                raise InputError("crashed", f"Decoding it crashed ({end}).") from None

    def _take(self) -> _Process:
        with self._lock:
            if self._idle:
                process = self._idle.pop()
                self._busy.add(process)
                return process
        return self._start()

    def _start(self) -> _Process:
        process = _Process()
        with self._lock:
            if not self._is_closed:
                self._busy.add(process)
                return process
        process.end()
        raise RuntimeError("these decoders are closed")

    def _do(self, process: _Process, task: _Task) -> Pixels:
        try:
            return process.do(task)
        finally:
            with self._lock:
                self._busy.discard(process)
                if self._is_closed:
                    process.end()
                elif not process.has_ended:
                    process.is_new = False
                    self._idle.append(process)


@dataclass(frozen=True, slots=True)
class _Task:
    """One picture: its open file, what is wanted of it, and who is to be told."""

    descriptor: int
    preprocessing: Preprocessing
    max_pixels: int
    reserve: Callable[[int], object]
    spent: Callable[[float], object]


class _ExitedError(Exception):
    """A process is no more; the message says how it ended."""


class _Process:
    """One process, with one task at a time. After any trouble it has_ended."""

    def __init__(self) -> None:
        self.is_new = True
        self.has_ended = False
        self._socket, theirs = socket.socketpair()
        command = [sys.executable, "-P", "-c", _CODE, *map(os.path.abspath, sys.path)]
        with theirs:
            try:
                # A session of its own, so that Ctrl-C is not its business. What the decoders'
                # libraries write to descriptor 2 is nobody's.
                self._process = subprocess.Popen(
                    command,
                    stdin=theirs.fileno(),
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    env={**os.environ, **_ONE_THREAD},
                    start_new_session=True,
                )
            except OSError as error:
                self._socket.close()
                raise _not_started(error.strerror or str(error)) from error
        self._answers = self._socket.makefile("rb")
        try:
            self._socket.settimeout(_START_SECONDS)
            is_ready = self._answers.readline() == READY
        except OSError:
            is_ready = False
        if not is_ready:
            raise _not_started(self.end())

    def do(self, task: _Task) -> Pixels:
        """Raises InputError, as decoding does and for too long a wait, or _ExitedError."""
        size = os.fstat(task.descriptor).st_size
        patience = _patience(size)
        try:
            answer = self._ask(task, patience)
            if "pixels" in answer:
                task.reserve(answer["pixels"])
                patience = _patience(size + answer["pixels"])
                self._socket.settimeout(patience)
                self._socket.sendall(b"\n")
                answer = self._answer()
            task.spent(answer["seconds"])
            if "error" not in answer:
                return self._array(task.preprocessing)
            error = InputError(*answer["error"])
        except TimeoutError:
            self.end()
            message = f"Decoding it took more than {patience:.0f} seconds."
            raise InputError("timeout", message) from None
        # It is gone, or what it says makes no sense.
        except (OSError, EOFError, ValueError, LookupError, TypeError) as trouble:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(_LAST_SECONDS)
            raise _ExitedError(self.end()) from trouble
        except BaseException:  # not its fault, but the conversation is broken off
            self.end()
            raise
        raise error

    def _ask(self, task: _Task, patience: float) -> dict[str, Any]:
        request = {"preprocessing": task.preprocessing.to_dict(), "max_pixels": task.max_pixels}
        self._socket.settimeout(patience)
        line = json.dumps(request).encode() + b"\n"
        socket.send_fds(self._socket, [line], [task.descriptor])
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        line = self._answers.readline()
        if not line:
            raise EOFError
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _array(self, preprocessing: Preprocessing) -> Pixels:
        shape = (*preprocessing.size, 3)
        size = math.prod(shape) * np.dtype(preprocessing.dtype).itemsize
        array = np.frombuffer(self._answers.read(size), preprocessing.dtype).reshape(shape)
        return cast(Pixels, array)

    def kill(self) -> None:
        """Ends the process from another thread than the one that waits for it."""
        self._process.kill()

    def end(self) -> str:
        """Ends the process, unless it has ended by itself, and says how it did."""
        self.has_ended = True
        self._process.kill()
        self._answers.close()
        self._socket.close()
        status = self._process.wait()
        return signal.Signals(-status).name if status < 0 else f"exit status {status}"


def _patience(size: int) -> float:
    return PATIENCE + size / 1e6


def _not_started(reason: str) -> NasnetError:
    return NasnetError(
        f"The process that decodes uncommon formats doesn't start ({reason}).",
        "See whether this machine allows another process, and whether the installation is whole.",
    )


@contextmanager
def _descriptor(stream: BinaryIO) -> Iterator[int]:
    """A descriptor of the stream's file, or of its bytes when they are in memory."""
    if not isinstance(stream, io.BytesIO):
        yield stream.fileno()
        return
    try:
        file = os.fdopen(os.memfd_create("picture"), "wb")
        file.write(stream.getbuffer())
        file.flush()
    except OSError as error:
        raise explain_os_error(error) from error
    with file:
        yield file.fileno()
