"""Download from a real server that misbehaves in the ways that servers do."""

from __future__ import annotations

import os
import re
import socket

import pytest

from nasnet_cli.cache import CacheError
from nasnet_cli.errors import ModelError
from nasnet_cli.models.hub.download import DownloadError, RetryPolicy, download, state_file
from nasnet_cli.models.listener import ProgressListener
from support.hub_server import Answer, hub_server

DATA = os.urandom(700_000)
IMPATIENT = RetryPolicy(timeout=0.5, tries=3, pause=0.01)
DEMANDING = RetryPolicy(timeout=60, stalled_after=0.3, stalled_bytes=10**9, tries=3, pause=0.01)
PATIENT = RetryPolicy(timeout=60, tries=3, pause=0.01)
ONE_TRY = RetryPolicy(timeout=60, tries=1)


class Recorder(ProgressListener):
    def __init__(self):
        self.notes, self.steps = [], []

    def note(self, message):
        self.notes.append(message)

    def progress(self, name, done, total):
        self.steps.append((name, done, total))


@pytest.fixture
def hub(monkeypatch):
    monkeypatch.delenv("NASNET_MIRROR", raising=False)
    with hub_server() as server:
        yield server


@pytest.fixture
def part(tmp_path):
    return tmp_path / "partial" / "module.part"


def get(url, part, listener=None, policy=PATIENT):
    download(url, part, name="it", listener=listener or Recorder(), policy=policy)


def test_file_is_downloaded_with_progress(hub, part):
    listener = Recorder()
    get(hub.put("/m", Answer(DATA)), part, listener)
    assert part.read_bytes() == DATA
    assert listener.steps[-1] == ("it", len(DATA), len(DATA))
    assert [done for _, done, _ in listener.steps] == sorted(done for _, done, _ in listener.steps)
    assert listener.notes == []


def test_response_without_a_length_is_read_to_its_end(hub, part):
    listener = Recorder()
    get(hub.put("/m", Answer(DATA, has_length=False)), part, listener)
    assert part.read_bytes() == DATA
    assert listener.steps[-1] == ("it", len(DATA), None)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_followed(hub, part, status):
    hub.put("/there", Answer(DATA))
    get(hub.put("/m", Answer(status=status, location="/there")), part)
    assert part.read_bytes() == DATA


def test_cut_download_resumes_where_it_stopped(hub, part):
    listener = Recorder()
    get(hub.put("/m", Answer(DATA, cuts=(100_000, 300_000, 600_000, 650_000))), part, listener)
    assert part.read_bytes() == DATA
    assert [r for _, r in hub.requests] == [
        None,
        "bytes=100000-",
        "bytes=300000-",
        "bytes=600000-",
        "bytes=650000-",
    ]
    assert "cut at 100,000 of 700,000 bytes; trying again" in listener.notes[0]


@pytest.mark.parametrize("lacks", ["ranges", "has_etag"])
def test_cut_download_starts_over_where_it_cannot_resume(hub, part, lacks):
    get(hub.put("/m", Answer(DATA, cuts=(100_000,), **{lacks: False})), part)
    assert part.read_bytes() == DATA
    assert hub.count("/m") == 2


def test_download_that_is_always_cut_fails(hub, part):
    with pytest.raises(DownloadError, match=r"cut at 9,000 of 700,000 bytes \(3 tries\)"):
        get(hub.put("/m", Answer(DATA, cuts=(9_000,) * 9, has_etag=False)), part)


def test_part_from_an_earlier_process_is_resumed(hub, part):
    url = hub.put("/m", Answer(DATA, cuts=(100_000, 100_000)))
    with pytest.raises(DownloadError):
        get(url, part, policy=ONE_TRY)
    assert part.stat().st_size == 100_000
    hub.answers["/m"].cuts = ()
    get(url, part)
    assert part.read_bytes() == DATA
    assert hub.requests[-1][1] == "bytes=100000-"


def test_part_of_a_changed_file_is_discarded(hub, part):
    url = hub.put("/m", Answer(os.urandom(500_000), cuts=(400_000,)))
    with pytest.raises(DownloadError):
        get(url, part, policy=ONE_TRY)
    hub.put("/m", Answer(DATA))
    get(url, part)
    assert part.read_bytes() == DATA


def test_part_from_another_url_is_discarded(hub, part):
    other = hub.put("/other", Answer(os.urandom(500_000), cuts=(400_000,)))
    with pytest.raises(DownloadError):
        get(other, part, policy=ONE_TRY)
    get(hub.put("/m", Answer(DATA)), part)
    assert part.read_bytes() == DATA


def test_complete_part_costs_one_byte(hub, part):
    url = hub.put("/m", Answer(DATA))
    get(url, part)
    get(url, part)
    assert hub.requests[-1][1] == f"bytes={len(DATA) - 1}-"
    assert part.read_bytes() == DATA


def test_damaged_state_file_is_ignored(hub, part):
    url = hub.put("/m", Answer(DATA))
    get(url, part)
    for state in (b"", b"[1]", b"{", b'{"url": 5}'):
        state_file(part).write_bytes(state)
        get(url, part)
        assert part.read_bytes() == DATA


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_temporary_status_is_retried(hub, part, status):
    get(hub.put("/m", Answer(DATA, failures=2, failing=status)), part)
    assert part.read_bytes() == DATA
    assert hub.count("/m") == 3


def test_temporary_status_that_persists_fails_with_a_remedy(hub, part):
    with pytest.raises(DownloadError, match=r"HTTP 500\) \(3 tries\)\. Try again later"):
        get(hub.put("/m", Answer(status=500)), part)


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (401, r"denies access \(HTTP 401\).*with a browser.*--model"),
        (403, r"denies access \(HTTP 403\).*with a browser.*--model"),
        (404, r"nothing at this address \(HTTP 404\)"),
        (410, r"nothing at this address \(HTTP 410\)"),
        (418, "answered HTTP 418"),
    ],
)
def test_permanent_status_fails_without_a_retry(hub, part, status, message):
    with pytest.raises(DownloadError, match=message) as caught:
        get(hub.put("/m", Answer(status=status)), part)
    assert hub.count("/m") == 1
    assert not caught.value.unreachable
    assert not part.exists()


def test_silent_server_fails(hub, part):
    with pytest.raises(DownloadError, match=r"did not answer within 0\.5 s \(3 tries\)"):
        get(hub.put("/m", Answer(silent=True)), part, policy=IMPATIENT)


def test_stalled_server_fails(hub, part):
    with pytest.raises(DownloadError, match=r"sends almost nothing"):
        get(hub.put("/m", Answer(DATA, pause=0.2, has_etag=False)), part, policy=DEMANDING)


def test_closed_port_is_unreachable(part):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    with pytest.raises(DownloadError, match=r"no connection to 127\.0\.0\.1") as caught:
        get(f"http://127.0.0.1:{port}/m", part)
    assert caught.value.unreachable


def test_unknown_host_is_unreachable(part, monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    with pytest.raises(DownloadError, match=r"no connection to nasnet\.invalid") as caught:
        get("https://nasnet.invalid/m", part)
    assert caught.value.unreachable


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("http://example.com/m", "not encrypted"),
        ("ftp://example.com/m", "Start it with https://"),
        ("file:///etc/passwd", "Start it with https://"),
        ("https://user:secret@example.com/m", "contains a user name or a password"),
    ],
)
def test_bad_urls_are_refused_before_anything_is_sent(part, url, message):
    with pytest.raises(ModelError, match=message) as caught:
        get(url, part)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("target", ["http://example.com/m", "file:///etc/passwd", "ftp://a/b", ""])
def test_redirect_off_https_is_not_followed(hub, part, target):
    answer = Answer(status=302, location=target or "/m")
    with pytest.raises(DownloadError, match=re.escape(target) if target else "form a loop"):
        get(hub.put("/m", answer), part)


def test_mirror_serves_other_hosts_by_their_paths(hub, part, monkeypatch):
    monkeypatch.setenv("NASNET_MIRROR", hub.url + "/mirror/")
    hub.put("/mirror/tfhub.dev/m/1", Answer(status=302, location="https://cdn.example:8443/x?a=b"))
    hub.put("/mirror/cdn.example:8443/x", Answer(DATA))
    get("https://tfhub.dev/m/1?tf-hub-format=compressed", part)
    assert part.read_bytes() == DATA
    assert [url for url, _ in hub.requests] == [
        "/mirror/tfhub.dev/m/1?tf-hub-format=compressed",
        "/mirror/cdn.example:8443/x?a=b",
    ]


def test_proxy_is_not_used_for_loopback(hub, part, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    get(hub.put("/m", Answer(DATA)), part)
    assert part.read_bytes() == DATA


def test_unwritable_folder_is_a_cache_error(hub, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(CacheError, match="NASNET_CACHE_DIR"):
        get(hub.put("/m", Answer(DATA)), tmp_path / "file" / "part")
