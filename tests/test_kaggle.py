"""Kaggle's copies of the published modules: kagglehub itself, against a server that answers it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from nasnet_cli import cache
from nasnet_cli.errors import ModelError
from nasnet_cli.model import load_model
from nasnet_cli.modules.fetch import fetch_published
from nasnet_cli.modules.listener import SILENT
from nasnet_cli.modules.published import PUBLISHED, Published

# Where kagglehub looks for Kaggle when it is told that it is under test.
ADDRESS = ("localhost", 7777)
SERVICE = "/api/v1/models.ModelApiService/"

KAGGLE = [replace(p, places=(p.places[2],), handles=()) for p in PUBLISHED.values()]


class Kaggle(ThreadingHTTPServer):
    """Answers as Kaggle does for any model: with the files of a folder.

    status is of every answer; cut leaves out so many bytes of each file.
    """

    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        super().__init__(ADDRESS, _Handler)
        self.folder = folder
        self.status = 200
        self.cut = 0
        self.asked: list[tuple[str, dict[str, Any]]] = []


class _Handler(BaseHTTPRequestHandler):
    server: Kaggle

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        method, asked = self.path.removeprefix(SERVICE), json.loads(body)
        self.server.asked.append((method, asked))
        if self.server.status != 200:
            return self._answer(b"{}", self.server.status)
        folder = self.server.folder
        if method == "ListModelInstanceVersionFiles":
            files = [p for p in sorted(folder.rglob("*")) if p.is_file()]
            names = [{"name": p.relative_to(folder).as_posix()} for p in files]
            return self._answer(json.dumps({"files": names, "nextPageToken": ""}).encode())
        assert method == "DownloadModelInstanceVersion"
        return self._answer((folder / asked["path"]).read_bytes())

    def _answer(self, data: bytes, status: int = 200) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data[: len(data) - self.server.cut])

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def kaggle(
    tiny_module: Path, cache_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Kaggle]:
    pytest.importorskip("kagglehub", reason="the extra `kaggle` is not installed")
    monkeypatch.setenv("KAGGLE_API_ENVIRONMENT", "TEST")
    monkeypatch.setenv("KAGGLEHUB_CACHE", str(tmp_path / "kagglehub"))
    monkeypatch.setenv("KAGGLE_CONFIG_DIR", str(tmp_path / "none"))
    for name in ("KAGGLE_USERNAME", "KAGGLE_KEY", "KAGGLE_API_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    try:
        server = Kaggle(tiny_module)
    except OSError:
        pytest.skip(f"the port {ADDRESS[1]}, which kagglehub asks under test, is in use")
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.parametrize("published", KAGGLE, ids=[p.name for p in KAGGLE])
def test_a_published_module_comes_from_kaggle(
    kaggle: Kaggle, published: Published, tmp_path: Path
) -> None:
    folder = fetch_published(published, SILENT)
    kind = "classification" if published.classification else "feature-vector"
    asked = [a for method, a in kaggle.asked if method == "ListModelInstanceVersionFiles"]
    assert [(a["ownerSlug"], a["modelSlug"], a["instanceSlug"]) for a in asked] == [
        ("google", "nasnet", f"{published.size}-{kind}")
    ]
    assert load_model(folder).module.classes == 7
    # From here on it is ours, whatever becomes of kagglehub's copy.
    kaggle.status = 500
    shutil.rmtree(tmp_path / "kagglehub")
    assert fetch_published(published, SILENT) == folder


def test_kagglehubs_own_words_are_not_shown(kaggle: Kaggle) -> None:
    code = (
        "from test_kaggle import KAGGLE, SILENT, fetch_published\n"
        "print(fetch_published(KAGGLE[0], SILENT))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parent, capture_output=True, check=True
    )
    assert done.stderr == b""
    assert done.stdout.decode() == f"{fetch_published(KAGGLE[0], SILENT)}\n"


@pytest.mark.parametrize("status", [401, 403, 404, 500])
def test_what_kaggle_says_is_passed_on(kaggle: Kaggle, status: int) -> None:
    kaggle.status = status
    with pytest.raises(ModelError, match=rf"Kaggle.*kagglehub says .*{status}") as caught:
        fetch_published(KAGGLE[0], SILENT)
    assert "\n" not in str(caught.value)
    assert not any(cache.modules_folder().glob("*"))


def test_a_download_that_is_cut_leaves_nothing(kaggle: Kaggle) -> None:
    kaggle.cut = 5
    with pytest.raises(ModelError, match="kagglehub says"):
        fetch_published(KAGGLE[0], SILENT)
    assert not any(cache.modules_folder().glob("*"))
    kaggle.cut = 0
    assert load_model(fetch_published(KAGGLE[0], SILENT)).module.classes == 7


def test_a_model_that_is_none_is_not_kept(kaggle: Kaggle, tmp_path: Path) -> None:
    kaggle.folder = tmp_path / "other"
    kaggle.folder.mkdir()
    (kaggle.folder / "readme.txt").write_text("no model")
    with pytest.raises(ModelError, match="Kaggle"):
        fetch_published(KAGGLE[0], SILENT)
    assert not any(cache.modules_folder().glob("*"))


def test_without_kagglehub_it_says_what_to_install(
    cache_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "kagglehub", None)
    with pytest.raises(ModelError, match=r"pip install 'nasnet-cli\[kaggle\]'"):
        fetch_published(KAGGLE[0], SILENT)
