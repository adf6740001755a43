"""Fetches a file over HTTPS, with patience: redirects, pauses, retries, and on from a cut.

Python's own urllib does it. It takes proxies and certificates from the environment as everything
else does (HTTPS_PROXY, NO_PROXY, SSL_CERT_FILE), and one file needs neither requests' sessions nor
urllib3's pools.

NASNET_MIRROR=https://mirror.example/hub has every URL fetched from there, its host as the first
part of the path: https://tfhub.dev/x from https://mirror.example/hub/tfhub.dev/x.
"""

from __future__ import annotations

import errno
import hashlib
import http.client
import ipaddress
import json
import os
import re
import socket
import ssl
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

from nasnet_cli.cache import cannot_write
from nasnet_cli.errors import ModelError
from nasnet_cli.models.listener import ProgressListener

MIRROR = "NASNET_MIRROR"
_CHUNK = 2**16
_REDIRECTS = 10
_MOST_TRIES = 100
_LONGEST_PAUSE = 30.0
_SIZE_LIMIT = 8 * 2**30
# The answers for which waiting helps.
_PASSING = (408, 425, 429, 500, 502, 503, 504)
_NO_WAY = (errno.ECONNREFUSED, errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN)


@dataclass(frozen=True)
class Patience:
    """How long to wait for a server: seconds, tries and the pause before the second try.

    silence is how long it may say nothing. Fewer than least bytes in window seconds is a server
    that is stuck.
    """

    silence: float = 30.0
    window: float = 60.0
    least: int = 4096
    tries: int = 4
    pause: float = 0.5


PATIENT = Patience()


@dataclass(frozen=True)
class Fetched:
    """A file that is whole."""

    path: Path
    size: int
    sha256: str
    md5: str


class DownloadError(ModelError):
    """url could not be fetched; reason says why in a few words about the server.

    unreachable is True when no server was reached at all, as without a network.
    """

    def __init__(self, url: str, reason: str, remedy: str, unreachable: bool = False) -> None:
        super().__init__(f"{url} can't be fetched: {reason}.", remedy)
        self.args = (url, reason, remedy, unreachable)
        self.url = url
        self.reason = reason
        self.unreachable = unreachable


class _PassingError(Exception):
    """What may go better in a while; the words that say what it is."""

    def __init__(self, reason: str, pause: float = 0.0) -> None:
        super().__init__(reason)
        self.pause = pause


def check_url(url: str) -> None:
    """Raises ModelError unless url is https, or http to this very machine, without a password."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ModelError(f"{url} is no address of a module.", "Give one that begins with https://.")
    if parts.username or parts.password:
        raise ModelError(
            f"The address of {parts.hostname} has a user or a password in it.",
            "Leave them out: they would be stored with the module.",
        )
    if parts.scheme == "http" and not _is_loopback(parts.hostname):
        raise ModelError(
            f"{url} is not encrypted, so that anybody on the way could change the module.",
            "Use https://.",
        )


def fetch(
    url: str,
    path: Path,
    *,
    what: str,
    listener: ProgressListener,
    patience: Patience = PATIENT,
) -> Fetched:
    """Fetches url into path, going on with what is there of an earlier, interrupted fetch.

    path.state beside it says what that was; the server decides whether it is the same still. When
    this returns, path is whole, and both are the caller's to remove. Raises DownloadError when the
    server can't or won't give it, and ModelError when the disk won't take it.
    """
    check_url(url)
    transfer = _Transfer(url, path, what, listener, patience)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        transfer.run()
        return _measured(path)
    except OSError as error:
        raise cannot_write(error) from error


def state_file(path: Path) -> Path:
    """Where fetch remembers what the part at path belongs to."""
    return path.with_name(path.name + ".state")


class _Transfer:
    def __init__(
        self, url: str, path: Path, what: str, listener: ProgressListener, patience: Patience
    ) -> None:
        self.url = url
        self.path = path
        self.what = what
        self.listener = listener
        self.patience = patience

    def run(self) -> None:
        failures = 0
        for _ in range(_MOST_TRIES):
            before = self._size()
            try:
                self._attempt()
                return
            except _PassingError as problem:
                # A server that cuts every connection gets us there too, piece by piece.
                gained = self._size() > before and self._validator()
                failures = 1 if gained else failures + 1
                reason = str(problem)
                if failures >= self.patience.tries:
                    break
                pause = self.patience.pause * 2 ** (failures - 1)
                self.listener.note(f"{self.what}: {reason}; trying again.")
                time.sleep(min(max(pause, problem.pause), _LONGEST_PAUSE))
        raise DownloadError(
            self.url, f"{reason} ({failures} tries)", "Try again later; what is there is kept."
        )

    def _attempt(self) -> None:
        offset, validator = self._resumable()
        headers = {"Range": f"bytes={offset}-", "If-Range": validator} if offset else {}
        with self._open(headers) as response:
            if response.status == 206:
                total = self._joins(response, offset)
            else:
                offset = 0
                total = _number(response.headers.get("Content-Length"))
            if total is not None and total > _SIZE_LIMIT:
                raise self._failed(f"it is {total:,} bytes, more than any module", "Check the URL.")
            if not offset:
                self._begin(response, total)
            self._receive(response, offset, total)

    def _joins(self, response: Any, offset: int) -> int | None:
        """The whole size, when the answer begins where we stopped."""
        said = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
        if not offset or said is None or int(said[1]) != offset:
            self._forget()
            raise _PassingError("it answered with another part than was asked for")
        return _number(said[2])

    def _receive(self, response: Any, offset: int, total: int | None) -> None:
        done = offset
        mark, since = offset, time.monotonic()
        with self.path.open("r+b") as file:
            file.seek(offset)
            file.truncate()
            while chunk := self._read(response):
                file.write(chunk)
                done += len(chunk)
                if done > _SIZE_LIMIT:
                    raise self._failed("it is larger than any module", "Check the URL.")
                self.listener.progress(self.what, done, total)
                if time.monotonic() - since > self.patience.window:
                    if done - mark < self.patience.least:
                        raise _PassingError("it sends next to nothing")
                    mark, since = done, time.monotonic()
        if total is not None and done != total:
            raise _PassingError(f"the connection was cut at {done:,} of {total:,} bytes")

    def _read(self, response: Any) -> bytes:
        try:
            data: bytes = response.read1(_CHUNK)
            return data
        except TimeoutError:
            raise _PassingError(f"it fell silent for {self.patience.silence:g} s") from None
        except (OSError, http.client.HTTPException, ValueError):
            raise _PassingError("the connection was cut") from None

    def _open(self, headers: dict[str, str]) -> Any:
        """The answer with the file, after redirects. Raises what the answer means otherwise."""
        url = _mirrored(self.url)
        for _ in range(_REDIRECTS):
            answer = self._ask(url, headers)
            if answer.status in (200, 206):
                return answer
            with answer:
                if answer.status not in (301, 302, 303, 307, 308):
                    raise self._refusal(answer)
                target = urljoin(url, answer.headers.get("Location", ""))
            if not _may_lead(url, target):
                raise self._failed(f"it leads on to {target!r}", "Such a redirect isn't followed.")
            url = _mirrored(target)
        raise self._failed("its redirects go round in a circle", "Check the URL.")

    def _ask(self, url: str, headers: dict[str, str]) -> Any:
        from nasnet_cli import __version__

        # Whole and as they are: a server that packs them once more breaks their checksums.
        common = {"User-Agent": f"nasnet-cli/{__version__}", "Accept-Encoding": "identity"}
        request = urllib.request.Request(url, headers={**common, **headers})
        host = urlsplit(url).hostname or ""
        try:
            return _opener(host).open(request, timeout=self.patience.silence)
        except urllib.error.HTTPError as answer:
            return answer
        except urllib.error.URLError as error:
            raise self._unconnected(host, error.reason) from None
        except TimeoutError:
            silence = f"{host} doesn't answer within {self.patience.silence:g} s"
            raise _PassingError(silence) from None
        except (http.client.InvalidURL, UnicodeError):
            raise self._failed("it is no valid address", "Check it.") from None
        except (OSError, http.client.HTTPException):
            raise _PassingError(f"the connection to {host} was cut") from None

    def _unconnected(self, host: str, error: object) -> Exception:
        if isinstance(error, ssl.SSLCertVerificationError):
            remedy = "If your network has certificates of its own, name them with SSL_CERT_FILE."
            return self._failed(f"the certificate of {host} can't be trusted", remedy)
        # A timeout here is one of connecting: a network that swallows everything.
        lost = isinstance(error, (socket.gaierror, TimeoutError))
        if lost or getattr(error, "errno", None) in _NO_WAY:
            reason = f"there is no connection to {host}"
            return DownloadError(self.url, reason, "Check the network.", unreachable=True)
        return _PassingError(f"the connection to {host} was cut")

    def _refusal(self, answer: Any) -> Exception:
        code = answer.status
        if code == 416:
            self._forget()
            return _PassingError("it has less than we have of it")
        if code in _PASSING:
            pause = _number(answer.headers.get("Retry-After")) or 0
            busy = "it asks to wait" if code == 429 else "it has trouble of its own"
            return _PassingError(f"{busy} (HTTP {code})", float(pause))
        if code in (401, 403):
            remedy = "It may want a login: fetch it with a browser, and name the file with --model."
            return self._failed(f"it refuses to give it out (HTTP {code})", remedy)
        if code in (404, 410):
            return self._failed(f"there is nothing at this address (HTTP {code})", "Check it.")
        return self._failed(f"it answered HTTP {code}", "Check the address.")

    def _failed(self, reason: str, remedy: str) -> DownloadError:
        return DownloadError(self.url, reason, remedy)

    def _size(self) -> int:
        try:
            return self.path.stat().st_size
        except OSError:
            return 0

    def _begin(self, response: Any, total: int | None) -> None:
        """Empties the part, and notes what it is to become before a byte of it is there."""
        self._forget()
        etag = response.headers.get("ETag", "")
        # A weak ETag doesn't promise the same bytes.
        strong = etag if etag.startswith('"') else response.headers.get("Last-Modified", "")
        state = {"url": self.url, "validator": strong, "total": total}
        state_file(self.path).write_text(json.dumps(state))
        self.path.touch()

    def _state(self) -> dict[str, Any]:
        try:
            state = json.loads(state_file(self.path).read_bytes())
        except (OSError, ValueError):
            return {}
        return state if isinstance(state, dict) and state.get("url") == self.url else {}

    def _validator(self) -> str:
        said = self._state().get("validator")
        return said if isinstance(said, str) and said.isprintable() else ""

    def _resumable(self) -> tuple[int, str]:
        """From where to go on, 0 from the beginning, and what tells that the file is the same."""
        validator = self._validator()
        size = self._size() if validator else 0
        # There is no asking for nothing: of a part that is whole the last byte is fetched again.
        return (size - 1 if size == self._state().get("total") else size), validator

    def _forget(self) -> None:
        self.path.unlink(missing_ok=True)
        state_file(self.path).unlink(missing_ok=True)


def _measured(path: Path) -> Fetched:
    sha256, md5 = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(2**20):
            sha256.update(chunk)
            md5.update(chunk)
        return Fetched(path, file.tell(), sha256.hexdigest(), md5.hexdigest())


def _opener(host: str) -> urllib.request.OpenerDirector:
    """What opens http and https and nothing else, and leaves redirects to us."""
    opener = urllib.request.OpenerDirector()
    # A proxy's loopback isn't ours.
    proxies: dict[str, str] | None = {} if _is_loopback(host) else None
    for handler in (
        urllib.request.ProxyHandler(proxies),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
    ):
        opener.add_handler(handler)
    return opener


def _mirror() -> str:
    return os.environ.get(MIRROR, "").rstrip("/")


def _mirrored(url: str) -> str:
    mirror = _mirror()
    if not mirror or url.startswith(mirror + "/"):
        return url
    return f"{mirror}/{url.partition('://')[2]}"


def _may_lead(url: str, target: str) -> bool:
    """Whether a redirect is followed: not off https, and not from elsewhere to this machine."""
    parts = urlsplit(target)
    if parts.scheme == "https":
        return True
    is_ours = _is_loopback(parts.hostname or "") or target.startswith(f"{_mirror() or None}/")
    return parts.scheme == "http" and urlsplit(url).scheme == "http" and is_ours


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and re.fullmatch(r"[0-9]{1,18}", text) else None
