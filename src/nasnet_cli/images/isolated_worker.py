"""The worker process that decodes uncommon formats (see isolated)."""

from __future__ import annotations

import json
import socket
import time

from nasnet_cli.errors import InputError
from nasnet_cli.images.isolated import READY
from nasnet_cli.images.load import UNEXPECTED, decode_and_preprocess, read_into_memory
from nasnet_cli.images.preprocess import Preprocessing
from nasnet_cli.systems import end_first_without_memory, end_with_parent, limit_data

_REQUEST_BYTES = 1 << 16

# The memory allowed for an image: far more than a valid one needs, so that an image which asks for
# all there is fails before other processes do.
_MEMORY_BYTES, _MEMORY_BYTES_PER_PIXEL = 4 << 30, 64


def serve() -> None:
    """Answer requests on standard input, a socket, until the other side closes it."""
    # A decoder that hangs doesn't notice that its parent has gone.
    end_with_parent()
    end_first_without_memory()
    with socket.socket(fileno=0) as connection:
        connection.sendall(READY)
        while True:
            request, descriptors, *_ = socket.recv_fds(connection, _REQUEST_BYTES, 1)
            if not request:
                return
            _answer(connection, request, descriptors[0])


def _limit_memory(pixels: int) -> None:
    """Limit the data that decoding may allocate."""
    limit_data(_MEMORY_BYTES + _MEMORY_BYTES_PER_PIXEL * pixels)


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
