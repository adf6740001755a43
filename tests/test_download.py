"""Files fetched from a real server that misbehaves in the ways that servers do."""

from __future__ import annotations

import hashlib
import os
import re
import socket

import pytest

from nasnet_cli.cache import CacheError
from nasnet_cli.errors import ModelError
from nasnet_cli.models.hub.download import DownloadError, Patience, fetch, state_file
from nasnet_cli.models.listener import ProgressListener
from support.hub_server import Answer, hub_server

DATA = os.urandom(700_000)
QUICK = Patience(silence=0.5, window=0.3, least=10**9, tries=3, pause=0.01)
STEADY = Patience(silence=5, tries=3, pause=0.01)


class Ear(ProgressListener):
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


def get(url, part, ear=None, patience=STEADY):
    return fetch(url, part, what="it", listener=ear or Ear(), patience=patience)


def test_a_file_is_fetched_with_progress_and_checksums(hub, part):
    ear = Ear()
    got = get(hub.put("/m", Answer(DATA)), part, ear)
    assert part.read_bytes() == DATA
    assert (got.size, got.sha256) == (len(DATA), hashlib.sha256(DATA).hexdigest())
    assert got.md5 == hashlib.md5(DATA).hexdigest()
    assert ear.steps[-1] == ("it", len(DATA), len(DATA))
    assert [done for _, done, _ in ear.steps] == sorted(done for _, done, _ in ear.steps)
    assert ear.notes == []


def test_without_a_length_it_is_fetched_to_the_end(hub, part):
    ear = Ear()
    get(hub.put("/m", Answer(DATA, has_length=False)), part, ear)
    assert part.read_bytes() == DATA
    assert ear.steps[-1] == ("it", len(DATA), None)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_followed(hub, part, status):
    hub.put("/there", Answer(DATA))
    get(hub.put("/m", Answer(status=status, location="/there")), part)
    assert part.read_bytes() == DATA


def test_a_cut_download_goes_on_where_it_stopped(hub, part):
    ear = Ear()
    get(hub.put("/m", Answer(DATA, cuts=(100_000, 300_000, 600_000, 650_000))), part, ear)
    assert part.read_bytes() == DATA
    assert [r for _, r in hub.requests] == [
        None,
        "bytes=100000-",
        "bytes=300000-",
        "bytes=600000-",
        "bytes=650000-",
    ]
    assert "cut at 100,000 of 700,000 bytes; trying again" in ear.notes[0]


@pytest.mark.parametrize("lacks", ["ranges", "has_etag"])
def test_a_cut_download_begins_anew_where_it_cannot_go_on(hub, part, lacks):
    get(hub.put("/m", Answer(DATA, cuts=(100_000,), **{lacks: False})), part)
    assert part.read_bytes() == DATA
    assert hub.count("/m") == 2


def test_a_download_that_is_always_cut_is_given_up(hub, part):
    with pytest.raises(DownloadError, match=r"cut at 9,000 of 700,000 bytes \(3 tries\)"):
        get(hub.put("/m", Answer(DATA, cuts=(9_000,) * 9, has_etag=False)), part)


def test_an_earlier_process_part_is_gone_on_with(hub, part):
    url = hub.put("/m", Answer(DATA, cuts=(100_000, 100_000)))
    with pytest.raises(DownloadError):
        get(url, part, patience=Patience(silence=5, tries=1))
    assert part.stat().st_size == 100_000
    hub.answers["/m"].cuts = ()
    get(url, part)
    assert part.read_bytes() == DATA
    assert hub.requests[-1][1] == "bytes=100000-"


def test_a_part_of_a_file_that_has_changed_is_dropped(hub, part):
    url = hub.put("/m", Answer(os.urandom(500_000), cuts=(400_000,)))
    with pytest.raises(DownloadError):
        get(url, part, patience=Patience(silence=5, tries=1))
    hub.put("/m", Answer(DATA))
    get(url, part)
    assert part.read_bytes() == DATA


def test_a_part_of_another_address_is_dropped(hub, part):
    other = hub.put("/other", Answer(os.urandom(500_000), cuts=(400_000,)))
    with pytest.raises(DownloadError):
        get(other, part, patience=Patience(silence=5, tries=1))
    get(hub.put("/m", Answer(DATA)), part)
    assert part.read_bytes() == DATA


def test_a_part_that_is_whole_costs_one_byte(hub, part):
    url = hub.put("/m", Answer(DATA))
    get(url, part)
    get(url, part)
    assert hub.requests[-1][1] == f"bytes={len(DATA) - 1}-"
    assert part.read_bytes() == DATA


def test_a_broken_state_file_is_no_hindrance(hub, part):
    url = hub.put("/m", Answer(DATA))
    get(url, part)
    for state in (b"", b"[1]", b"{", b'{"url": 5}'):
        state_file(part).write_bytes(state)
        get(url, part)
        assert part.read_bytes() == DATA


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_a_server_in_trouble_is_asked_again(hub, part, status):
    get(hub.put("/m", Answer(DATA, failures=2, failing=status)), part)
    assert part.read_bytes() == DATA
    assert hub.count("/m") == 3


def test_a_server_that_stays_in_trouble_is_told_with_what_to_do(hub, part):
    with pytest.raises(DownloadError, match=r"HTTP 500\) \(3 tries\)\. Try again later"):
        get(hub.put("/m", Answer(status=500)), part)


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (401, r"refuses to give it out \(HTTP 401\).*with a browser.*--model"),
        (403, r"refuses to give it out \(HTTP 403\).*with a browser.*--model"),
        (404, r"nothing at this address \(HTTP 404\)"),
        (410, r"nothing at this address \(HTTP 410\)"),
        (418, "answered HTTP 418"),
    ],
)
def test_a_refusal_is_told_in_words_and_not_asked_for_again(hub, part, status, words):
    with pytest.raises(DownloadError, match=words) as caught:
        get(hub.put("/m", Answer(status=status)), part)
    assert hub.count("/m") == 1
    assert not caught.value.unreachable
    assert not part.exists()


def test_a_silent_server_is_given_up(hub, part):
    with pytest.raises(DownloadError, match=r"doesn't answer within 0\.5 s \(3 tries\)"):
        get(hub.put("/m", Answer(DATA, silent=2)), part, patience=QUICK)


def test_a_server_that_trickles_is_given_up(hub, part):
    with pytest.raises(DownloadError, match=r"sends next to nothing"):
        get(hub.put("/m", Answer(DATA, pause=0.2, has_etag=False)), part, patience=QUICK)


def test_no_server_is_told_at_once_as_unreachable(part):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    with pytest.raises(DownloadError, match=r"no connection to 127\.0\.0\.1") as caught:
        get(f"http://127.0.0.1:{port}/m", part)
    assert caught.value.unreachable


def test_a_name_that_does_not_resolve_is_unreachable(part, monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    with pytest.raises(DownloadError, match=r"no connection to nasnet\.invalid") as caught:
        get("https://nasnet.invalid/m", part)
    assert caught.value.unreachable


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://example.com/m", "not encrypted"),
        ("ftp://example.com/m", "begins with https://"),
        ("file:///etc/passwd", "begins with https://"),
        ("https://user:secret@example.com/m", "a password in it"),
    ],
)
def test_other_addresses_are_refused_before_anything_is_sent(part, url, words):
    with pytest.raises(ModelError, match=words) as caught:
        get(url, part)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("target", ["http://example.com/m", "file:///etc/passwd", "ftp://a/b", ""])
def test_a_redirect_that_leads_astray_is_not_followed(hub, part, target):
    answer = Answer(status=302, location=target or "/m")
    with pytest.raises(DownloadError, match=re.escape(target) if target else "in a circle"):
        get(hub.put("/m", answer), part)


def test_a_mirror_serves_other_hosts_by_their_paths(hub, part, monkeypatch):
    monkeypatch.setenv("NASNET_MIRROR", hub.url + "/mirror/")
    hub.put("/mirror/tfhub.dev/m/1", Answer(status=302, location="https://cdn.example:8443/x?a=b"))
    hub.put("/mirror/cdn.example:8443/x", Answer(DATA))
    get("https://tfhub.dev/m/1?tf-hub-format=compressed", part)
    assert part.read_bytes() == DATA
    assert [asked for asked, _ in hub.requests] == [
        "/mirror/tfhub.dev/m/1?tf-hub-format=compressed",
        "/mirror/cdn.example:8443/x?a=b",
    ]


def test_a_proxy_of_the_environment_is_not_asked_for_this_machine(hub, part, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    get(hub.put("/m", Answer(DATA)), part)
    assert part.read_bytes() == DATA


def test_a_disk_that_takes_nothing_is_told_as_such(hub, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(CacheError, match="NASNET_CACHE_DIR"):
        get(hub.put("/m", Answer(DATA)), tmp_path / "file" / "part")
