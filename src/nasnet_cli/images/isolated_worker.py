"""The worker process that decodes uncommon formats (see isolated)."""

from __future__ import annotations

import contextlib
import ctypes
import json
import resource
import signal
import socket
import time
from pathlib import Path

from nasnet_cli.errors import InputError
from nasnet_cli.images.isolated import READY
from nasnet_cli.images.load import UNEXPECTED, decode_and_preprocess, read_into_memory
from nasnet_cli.images.preprocess import Preprocessing

_REQUEST_BYTES = 1 << 16
_PR_SET_PDEATHSIG = 1

# The memory allowed for an image: far more than a valid one needs, so that an image which asks for
# all there is fails before other processes do.
_MEMORY_BYTES, _MEMORY_BYTES_PER_PIXEL = 4 << 30, 64


def serve() -> None:
    """Answer requests on standard input, a socket, until the other side closes it."""
    _restrain()
    with socket.socket(fileno=0) as connection:
        connection.sendall(READY)
        while True:
            request, descriptors, *_ = socket.recv_fds(connection, _REQUEST_BYTES, 1)
            if not request:
                return
            _answer(connection, request, descriptors[0])


def _restrain() -> None:
    """End this process with its parent, and first when the system runs out of memory."""
    # A decoder that hangs doesn't notice that its parent has gone.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")


def _limit_memory(pixels: int) -> None:
    """Limit the data that decoding may allocate. Address space alone costs nothing."""
    hard_limit = resource.getrlimit(resource.RLIMIT_DATA)[1]
    limit = _MEMORY_BYTES + _MEMORY_BYTES_PER_PIXEL * pixels
    if hard_limit == resource.RLIM_INFINITY or limit <= hard_limit:
        resource.setrlimit(resource.RLIMIT_DATA, (limit, hard_limit))


def _answer(connection: socket.socket, request: bytes, descriptor: int) -> None:
    def reserve(pixels: int) -> None:
        connection.sendall(json.dumps({"pixels": pixels}).encode() + b"\n")
        if not connection.recv(1):
            raise SystemExit
        _limit_memory(pixels)

    settings = json.loads(request)
    head: dict[str, object] = {}
    body = b""
    begin = time.process_time()
    _limit_memory(0)
    try:
        with open(descriptor, "rb") as file:
            file.seek(0)  # both sides share the descriptor's position
            array = decode_and_preprocess(
                read_into_memory(file),
                Preprocessing.from_dict(settings["preprocessing"]),
                max_pixels=settings["max_pixels"],
                reserve=reserve,
            )
        body = array.tobytes()
    except InputError as error:
        head["error"] = error.kind, error.message, error.cause
    except MemoryError:
        head["error"] = "too_large", "There is not enough memory to decode it."
    except Exception as error:
        head["error"] = "decode_failed", UNEXPECTED, type(error).__name__
    head["seconds"] = time.process_time() - begin
    connection.sendall(json.dumps(head).encode() + b"\n" + body)
