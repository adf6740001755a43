"""What runs in a process apart: it decodes what the other side of its socket asks for (see apart)."""

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
from nasnet_cli.images.load import in_memory, pixels_of
from nasnet_cli.images.preprocess import Preprocessing

_REQUEST_BYTES = 1 << 16
_PR_SET_PDEATHSIG = 1

# What a picture may take in memory: far more than any honest one does, so that what fails is the
# picture which asks for all there is, before others do.
_MEMORY_BYTES, _MEMORY_BYTES_PER_PIXEL = 4 << 30, 64


def serve() -> None:
    """Answers the requests from standard input, which is a socket, until nobody can ask any more."""
    _restrain()
    with socket.socket(fileno=0) as asker:
        asker.sendall(READY)
        while True:
            request, descriptors, *_ = socket.recv_fds(asker, _REQUEST_BYTES, 1)
            if not request:
                return
            _answer(asker, request, descriptors[0])


def _restrain() -> None:
    """Makes this process end with its parent, and be the one that ends when memory does."""
    # A decoder that hangs would not notice that nobody waits for it any more.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")


def _allow_memory(pixels: int) -> None:
    """Limits what a decoder takes: to data, since address space alone costs nothing."""
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    wanted = _MEMORY_BYTES + _MEMORY_BYTES_PER_PIXEL * pixels
    if hard == resource.RLIM_INFINITY or wanted <= hard:
        resource.setrlimit(resource.RLIMIT_DATA, (wanted, hard))


def _answer(asker: socket.socket, request: bytes, descriptor: int) -> None:
    def reserve(pixels: int) -> None:
        asker.sendall(json.dumps({"pixels": pixels}).encode() + b"\n")
        if not asker.recv(1):
            raise SystemExit
        _allow_memory(pixels)

    asked = json.loads(request)
    head: dict[str, object] = {}
    body = b""
    begin = time.process_time()
    _allow_memory(0)
    try:
        with open(descriptor, "rb") as file:
            file.seek(0)  # where the other side is in it, this one is too
            pixels = pixels_of(
                in_memory(file),
                Preprocessing.from_dict(asked["preprocessing"]),
                max_pixels=asked["max_pixels"],
                reserve=reserve,
            )
        body = pixels.tobytes()
    except InputError as error:
        head["error"] = error.kind, error.message
    except MemoryError:
        head["error"] = "too_large", "There is not enough memory to decode it."
    head["seconds"] = time.process_time() - begin
    asker.sendall(json.dumps(head).encode() + b"\n" + body)
