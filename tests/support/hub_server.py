"""A real HTTP server on the loopback address for tensorflow-hub's protocol, which can misbehave.

`server.put("/m/1", Answer(data))` sets the answer for a path. The server records all requests. As a
mirror (NASNET_MIRROR) it serves the paths of other hosts: /storage.googleapis.com/x.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from support.loopback import serving


@dataclass
class Answer:
    """The answer for a path.

    The first failures requests get the status failing, with retry_after in its header. cuts are
    sizes after which one request each is cut off. A silent one never comes; of one that is held_at
    a size, the rest comes when the server lets go. pause is the wait in seconds after each 64 kB.
    With needs_format only ?tf-hub-format=compressed has the file, as on the hub.
    """

    data: bytes = b""
    status: int = 200
    location: str = ""
    failing: int = 503
    failures: int = 0
    retry_after: str = ""
    cuts: tuple[int, ...] = ()
    pause: float = 0.0
    silent: bool = False
    held_at: int | None = None
    ranges: bool = True
    has_length: bool = True
    has_etag: bool = True
    needs_format: bool = False


class HubServer:
    """The server, its answers by path, and the requests with their Range headers."""

    def __init__(self) -> None:
        self.answers: dict[str, Answer] = {}
        self.requests: list[tuple[str, str | None]] = []
        self.lock = threading.Lock()
        self.let_go = threading.Event()
        self.closed = threading.Event()
        outer = self

        class Handler(_Handler):
            hub = outer

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.http.server_port}"

    def put(self, path: str, answer: Answer) -> str:
        """Set the answer for a path and return its URL."""
        self.answers[path] = answer
        return self.url + path

    def count(self, path: str) -> int:
        """Return the number of requests for a path."""
        return sum(urlsplit(url).path == path for url, _ in self.requests)


@contextmanager
def hub_server() -> Iterator[HubServer]:
    server = HubServer()
    with serving(server.http):
        try:
            yield server
        finally:
            server.let_go.set()
            server.closed.set()


class _Handler(BaseHTTPRequestHandler):
    hub: HubServer

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        answer = self.hub.answers.get(parts.path)
        with self.hub.lock:
            self.hub.requests.append((self.path, self.headers.get("Range")))
            failing = answer is not None and answer.failures > 0
            if answer is not None and failing:
                answer.failures -= 1
        compressed = parse_qs(parts.query).get("tf-hub-format") == ["compressed"]
        if answer is None or (answer.needs_format and not compressed):
            self._plain(404)
        elif failing:
            self._plain(answer.failing, {"Retry-After": answer.retry_after})
        elif answer.location:
            self._plain(answer.status, {"Location": answer.location})
        elif answer.status != 200:
            self._plain(answer.status)
        else:
            self._file(answer)

    def _plain(self, status: int, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _file(self, answer: Answer) -> None:
        if answer.silent:
            self.hub.closed.wait()
            return
        data, status, start = answer.data, 200, 0
        etag = f'"{hashlib.sha256(data).hexdigest()[:16]}"'
        requested = self.headers.get("Range")
        if requested and answer.ranges and self.headers.get("If-Range") == etag:
            start, status = int(requested.removeprefix("bytes=").rstrip("-")), 206
        self.send_response(status)
        if status == 206:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        if answer.has_length:
            self.send_header("Content-Length", str(len(data) - start))
        if answer.has_etag:
            self.send_header("ETag", etag)
        self.end_headers()
        with self.hub.lock:
            end = len(data)
            if answer.cuts:
                end, *rest = answer.cuts
                answer.cuts = tuple(rest)
        try:
            for at in range(start, end, 2**16):
                if answer.held_at is not None and at >= answer.held_at:
                    self.hub.let_go.wait()
                self.wfile.write(data[at : min(end, at + 2**16)])
                self.wfile.flush()
                time.sleep(answer.pause)
        except OSError:
            pass
        self.close_connection = True


def tar_of(folder: Path, *, top: str = ".") -> bytes:
    """Return a folder as a .tar.gz, the same bytes each time, with its files below top."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for path in sorted(folder.rglob("*")):
            name = f"{top}/{path.relative_to(folder)}"
            tar.add(path, name, recursive=False, filter=_plain_owner)
    return gzip.compress(stream.getvalue(), 1, mtime=0)


def _plain_owner(info: tarfile.TarInfo) -> tarfile.TarInfo:
    info.uid = info.gid = info.mtime = 0
    info.uname = info.gname = ""
    return info
