"""Download of a file over HTTPS: with redirects, retries, and resuming after a cut connection.

Python's own urllib does it. It takes proxies and certificates from the environment like everything
else (HTTPS_PROXY, NO_PROXY, SSL_CERT_FILE), and one file needs neither requests' sessions nor
urllib3's pools.

NASNET_MIRROR=https://mirror.example/hub fetches every URL from that mirror, with the host as the
first part of the path: https://tfhub.dev/x from https://mirror.example/hub/tfhub.dev/x.
"""

from __future__ import annotations

import errno
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
from nasnet_cli.kept_files import parse_json, read_kept
from nasnet_cli.models.listener import ProgressListener
from nasnet_cli.systems import open_flags

MIRROR = "NASNET_MIRROR"
_CHUNK = 2**16
_MAX_REDIRECTS = 10
_MAX_TRIES = 100
_MAX_PAUSE = 30.0
_MAX_BYTES = 8 * 2**30
REDIRECTS = (301, 302, 303, 307, 308)
PASSING_STATUSES = (408, 425, 429, 500, 502, 503, 504)
_NO_CONNECTION = (errno.ECONNREFUSED, errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN)


@dataclass(frozen=True)
class RetryPolicy:
    """Limits after which a server is given up; times in seconds.

    timeout is the longest silence. A server that sends fewer than stalled_bytes in stalled_after
    is stuck. tries counts attempts in a row without progress; pause is the wait before the second,
    and doubles.
    """

    timeout: float = 30.0
    stalled_after: float = 60.0
    stalled_bytes: int = 4096
    tries: int = 4
    pause: float = 0.5


class DownloadError(ModelError):
    """url cannot be fetched; reason is a clause about the server.

    unreachable is True when no server answered at all, as without a network.
    """

    def __init__(self, url: str, reason: str, remedy: str, unreachable: bool = False) -> None:
        super().__init__(f"Cannot fetch {url}: {reason}.", remedy)
        self.args = (url, reason, remedy, unreachable)
        self.url = url
        self.reason = reason
        self.unreachable = unreachable


class _TemporaryError(Exception):
    """A failure that a retry may fix; the message is a clause about the server."""

    def __init__(self, reason: str, pause: float = 0.0) -> None:
        super().__init__(reason)
        self.pause = pause


def check_url(url: str) -> None:
    """Raise ModelError unless url is https, or http to this machine, without a password."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ModelError(f"{url} is not the address of a model.", "Start it with https://.")
    if parts.username or parts.password:
        raise ModelError(
            f"The address of {parts.hostname} contains a user name or a password.",
            "Leave them out: they would be stored with the model.",
        )
    if parts.scheme == "http" and not _is_loopback(parts.hostname):
        raise ModelError(
            f"{url} is not encrypted, so anyone on the way could change the model.",
            "Use https://.",
        )


def download(
    url: str,
    path: Path,
    *,
    name: str,
    listener: ProgressListener,
    policy: RetryPolicy = RetryPolicy(),
) -> None:
    """Download url to path, resuming an earlier, interrupted download of it.

    path.state beside it records what the partial file belongs to; the server decides whether that
    is still the same file. On return path is complete, and both files are the caller's to remove.
    name is the model's, for progress. Raises DownloadError when the server fails to deliver it,
    ModelError for a bad URL and CacheError when path cannot be written.
    """
    check_url(url)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _Download(url, path, name, listener, policy).run()
    except OSError as error:
        raise cannot_write(error) from error


def discard(path: Path) -> None:
    """Remove a complete or partial download."""
    path.unlink(missing_ok=True)
    state_file(path).unlink(missing_ok=True)


def state_file(path: Path) -> Path:
    """Return the file that records what the partial file at path belongs to."""
    return path.with_name(path.name + ".state")


@dataclass(frozen=True)
class _Download:
    url: str
    path: Path
    name: str
    listener: ProgressListener
    policy: RetryPolicy

    def run(self) -> None:
        failures = 0
        for _ in range(_MAX_TRIES):
            before = self._size()
            try:
                self._attempt()
                return
            except _TemporaryError as error:
                # A server that cuts every connection still delivers the file piece by piece.
                progressed = self._size() > before and self._validator()
                failures = 1 if progressed else failures + 1
                reason = str(error)
                if failures >= self.policy.tries:
                    break
                pause = self.policy.pause * 2 ** (failures - 1)
                self.listener.note(f"{self.name}: {reason}; trying again.")
                time.sleep(min(max(pause, error.pause), _MAX_PAUSE))
        raise self._failed(f"{reason} ({failures} tries)", "Try again later; it will resume.")

    def _attempt(self) -> None:
        offset, validator = self._resume_point()
        headers = {"Range": f"bytes={offset}-", "If-Range": validator} if offset else {}
        with self._open(headers) as response:
            if response.status == 206:
                total = self._partial_total(response, offset)
            else:
                offset = 0
                total = _parse_number(response.headers.get("Content-Length"))
            if total is not None and total > _MAX_BYTES:
                raise self._failed(
                    f"its {total:,} bytes are more than any model has", "Check the URL."
                )
            if not offset:
                self._start_over(response, total)
            self._receive(response, offset, total)

    def _partial_total(self, response: Any, offset: int) -> int | None:
        """Return the size of the whole file from a response that continues at offset."""
        content_range = response.headers.get("Content-Range", "")
        match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", content_range)
        if not offset or match is None or int(match[1]) != offset:
            discard(self.path)
            raise _TemporaryError("it sent another part of the file than requested")
        return _parse_number(match[2])

    def _receive(self, response: Any, offset: int, total: int | None) -> None:
        done = checked = offset
        checked_at = time.monotonic()
        # Not through a link: what lies there may be another's.
        descriptor = os.open(self.path, os.O_RDWR | open_flags("O_NOFOLLOW", "O_CLOEXEC"))
        with os.fdopen(descriptor, "r+b") as file:
            file.seek(offset)
            file.truncate()
            while chunk := self._read(response):
                file.write(chunk)
                done += len(chunk)
                if done > _MAX_BYTES:
                    raise self._failed("it is larger than any model", "Check the URL.")
                self.listener.progress(self.name, done, total)
                if time.monotonic() - checked_at > self.policy.stalled_after:
                    if done - checked < self.policy.stalled_bytes:
                        raise _TemporaryError("it sends almost nothing")
                    checked, checked_at = done, time.monotonic()
        if total is not None and done != total:
            raise _TemporaryError(f"the connection was cut at {done:,} of {total:,} bytes")

    def _read(self, response: Any) -> bytes:
        try:
            data: bytes = response.read1(_CHUNK)
            return data
        except TimeoutError:
            raise _TemporaryError(f"it sent nothing for {self.policy.timeout:g} s") from None
        except (OSError, http.client.HTTPException, ValueError):
            raise _TemporaryError("the connection was cut") from None

    def _open(self, headers: dict[str, str]) -> Any:
        """Return the response with the file, after redirects."""
        url = _mirrored(self.url)
        for _ in range(_MAX_REDIRECTS):
            response = self._request(url, headers)
            if response.status in (200, 206):
                return response
            with response:
                if response.status not in REDIRECTS:
                    raise self._status_error(response)
                target = urljoin(url, response.headers.get("Location", ""))
            if not redirect_allowed(url, target):
                raise self._failed(
                    f"it redirects to {target!r}", "nasnet does not follow such a redirect."
                )
            url = _mirrored(target)
        raise self._failed("its redirects form a loop", "Check the URL.")

    def _request(self, url: str, headers: dict[str, str]) -> Any:
        from nasnet_cli import __version__

        # identity: a server that compresses the file once more breaks its checksum.
        common = {"User-Agent": f"nasnet-cli/{__version__}", "Accept-Encoding": "identity"}
        request = urllib.request.Request(url, headers={**common, **headers})
        host = urlsplit(url).hostname or ""
        try:
            return _opener(host).open(request, timeout=self.policy.timeout)
        except urllib.error.HTTPError as response:
            return response
        except urllib.error.URLError as error:
            raise self._connection_error(host, error.reason) from None
        except TimeoutError:
            silence = f"{host} did not answer within {self.policy.timeout:g} s"
            raise _TemporaryError(silence) from None
        except (http.client.InvalidURL, UnicodeError):
            raise self._failed("the URL is not valid", "Check the URL.") from None
        except (OSError, http.client.HTTPException):
            raise _TemporaryError(f"the connection to {host} was cut") from None

    def _connection_error(self, host: str, error: object) -> Exception:
        if isinstance(error, ssl.SSLCertVerificationError):
            remedy = "If your network uses its own certificates, name them with SSL_CERT_FILE."
            return self._failed(f"the certificate of {host} is not trusted", remedy)
        # A timeout here is one of connecting: a network that swallows everything.
        lost = isinstance(error, (socket.gaierror, TimeoutError))
        if lost or getattr(error, "errno", None) in _NO_CONNECTION:
            reason = f"there is no connection to {host}"
            return DownloadError(self.url, reason, "Check the network.", unreachable=True)
        return _TemporaryError(f"the connection to {host} was cut")

    def _status_error(self, response: Any) -> Exception:
        code = response.status
        if code == 416:
            discard(self.path)
            return _TemporaryError("its file is shorter than the part fetched before")
        if code in PASSING_STATUSES:
            pause = _parse_number(response.headers.get("Retry-After")) or 0
            reason = "it asks to wait" if code == 429 else "the server has a problem"
            return _TemporaryError(f"{reason} (HTTP {code})", float(pause))
        reason, remedy = f"the server answered HTTP {code}", "Check the URL."
        if code in (401, 403):
            reason = f"the server denies access (HTTP {code})"
            remedy = "It may need a login: download it with a browser and pass the file to --model."
        elif code in (404, 410):
            reason = f"there is nothing at this address (HTTP {code})"
        return self._failed(reason, remedy)

    def _failed(self, reason: str, remedy: str) -> DownloadError:
        return DownloadError(self.url, reason, remedy)

    def _size(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    def _start_over(self, response: Any, total: int | None) -> None:
        """Empty the partial file, after recording what it will contain."""
        discard(self.path)
        etag = response.headers.get("ETag", "")
        # A weak ETag does not promise the same bytes.
        validator = etag if etag.startswith('"') else response.headers.get("Last-Modified", "")
        state = {"url": self.url, "validator": validator, "total": total}
        state_file(self.path).write_text(json.dumps(state))
        self.path.touch()

    def _state(self) -> dict[str, Any]:
        try:
            state = parse_json(read_kept(state_file(self.path)))
        except (OSError, ValueError):
            return {}
        return state if isinstance(state, dict) and state.get("url") == self.url else {}

    def _validator(self) -> str:
        validator = self._state().get("validator")
        return validator if isinstance(validator, str) and validator.isprintable() else ""

    def _resume_point(self) -> tuple[int, str]:
        """Return the offset to resume at, 0 to start over, and the validator of the file."""
        validator = self._validator()
        size = self._size() if validator else 0
        # An empty range cannot be requested: of a complete file the last byte is fetched again.
        return (size - 1 if size == self._state().get("total") else size), validator


def _opener(host: str) -> urllib.request.OpenerDirector:
    """Return an opener for http and https alone, which leaves redirects to us."""
    opener = urllib.request.OpenerDirector()
    # A proxy's loopback address is not this machine.
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


def redirect_allowed(url: str, target: str) -> bool:
    """Return whether a redirect stays on https, or on http on this machine or the mirror."""
    parts = urlsplit(target)
    if parts.scheme == "https":
        return True
    is_local = _is_loopback(parts.hostname or "") or target.startswith(f"{_mirror() or None}/")
    return parts.scheme == "http" and urlsplit(url).scheme == "http" and is_local


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _parse_number(text: str | None) -> int | None:
    return int(text) if text is not None and re.fullmatch(r"[0-9]{1,18}", text) else None
