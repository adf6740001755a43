"""A real HTTP server on the loopback address that imitates Kaggle for kagglehub.

kagglehub has fixed names of servers. KAGGLE_API_ENVIRONMENT=LOCALHOST makes it use
http://localhost, and http_proxy redirects that to this server on a free port.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

from support.loopback import serving

SERVICE = "/api/v1/models.ModelApiService"


class KaggleServer:
    """A server of one model, with its files by name.

    It answers with status unless that is 200, and with token only to requests that have it. It
    sends half of the file named cut, and other bytes than the checksum's for the one named
    changed. requested has the names of the requested files.
    """

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.status = 200
        self.token = self.cut = self.changed = ""
        self.requested: list[str] = []
        outer = self

        class Handler(_Handler):
            kaggle = outer

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.http.server_port}"

    def put(self, folder: Path) -> None:
        """Serve the files in a folder."""
        paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
        self.files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


@contextmanager
def kaggle_server() -> Iterator[KaggleServer]:
    server = KaggleServer()
    with serving(server.http):
        yield server


class _Handler(BaseHTTPRequestHandler):
    kaggle: KaggleServer

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        service = urlsplit(self.path).path
        kaggle = self.kaggle
        if kaggle.status != 200:
            self._json({"code": kaggle.status, "message": "No."}, kaggle.status)
        elif kaggle.token and self.headers["Authorization"] != f"Bearer {kaggle.token}":
            self._json({"code": 403, "message": "Log in."}, 403)
        elif service == f"{SERVICE}/ListModelInstanceVersionFiles":
            self._json({"files": [{"name": name} for name in kaggle.files], "nextPageToken": ""})
        elif service == f"{SERVICE}/DownloadModelInstanceVersion":
            kaggle.requested.append(request["path"])
            self._answer(302, b"", {"Location": f"http://localhost/storage/{request['path']}"})
        else:
            self._json({"code": 404, "message": "There is no such service."}, 404)

    def do_GET(self) -> None:
        name = unquote(urlsplit(self.path).path).removeprefix("/storage/")
        data = self.kaggle.files[name]
        md5 = base64.b64encode(hashlib.md5(data).digest()).decode()
        if name == self.kaggle.changed:
            data = bytes(len(data))
        sent = data[: len(data) // 2] if name == self.kaggle.cut else data
        self._answer(200, sent, {"X-Goog-Hash": f"md5={md5}"}, len(data))
        self.close_connection = True

    def _json(self, value: object, status: int = 200) -> None:
        self._answer(status, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _answer(
        self, status: int, data: bytes, headers: dict[str, str], length: int | None = None
    ) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data) if length is None else length))
        self.end_headers()
        self.wfile.write(data)
