"""Files on web servers, over connections that are kept, with fsspec's event loop and aiohttp."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from time import sleep
from typing import TYPE_CHECKING, Any, BinaryIO
from urllib.parse import urljoin

from nasnet_cli.errors import InputError
from nasnet_cli.images.spool import Spool
from nasnet_cli.images.urls import sendable, shown
from nasnet_cli.models.hub.download import PASSING_STATUSES, REDIRECTS, redirect_allowed

if TYPE_CHECKING:
    from aiohttp import ClientSession

# Timeouts in seconds: without any data, and for a file as a whole.
_SILENCE_SECONDS, _FILE_SECONDS = 60.0, 300.0
# For errors that may pass (a server that is busy or restarts): tries, and seconds before the second.
_TRIES, _PAUSE_SECONDS = 3, 0.5
# The longest time that a server may ask to wait for.
_LONGEST_PAUSE = 30.0
_MAX_REDIRECTS = 10
_CHUNK_BYTES = 1 << 16


class _StatusError(Exception):
    """A server's answer that is no file; pause is how long it asks to wait, in seconds."""

    def __init__(self, status: int, pause: float) -> None:
        super().__init__(status)
        self.status = status
        self.pause = pause


def read_web(url: str, max_bytes: int) -> BinaryIO:
    """Return a file as a stream of its bytes.

    The URL is sent as given; redirects are followed where those of a model's download are. A server
    that is busy is asked again, after the time that it wishes for. Raises InputError.
    """
    from fsspec.asyn import sync

    try:
        target = sendable(url)
    except ValueError as error:
        raise InputError("not_found", "It is not a valid URL.") from error
    files = _files()
    for number in range(_TRIES):
        try:
            stream: BinaryIO = sync(files.loop, _get, files, target, max_bytes)
            return stream
        except Exception as error:
            pause = max(_PAUSE_SECONDS * 2**number, getattr(error, "pause", 0.0))
            if number + 1 == _TRIES or not _may_pass(error) or pause > _LONGEST_PAUSE:
                raise _explain(error) from error
            sleep(pause)
    raise AssertionError("unreachable")


@functools.cache
def _files() -> Any:
    """Return fsspec's file system for the web, which keeps a session for all requests."""
    from fsspec.implementations.http import HTTPFileSystem

    from nasnet_cli import __version__

    headers = {"User-Agent": f"nasnet-cli/{__version__}"}
    # trust_env: proxies from the environment, as for a model's download.
    return HTTPFileSystem(client_kwargs={"headers": headers, "trust_env": True})


async def _get(files: Any, url: str, max_bytes: int) -> BinaryIO:
    import aiohttp
    from yarl import URL

    timeout = aiohttp.ClientTimeout(
        total=_FILE_SECONDS, sock_connect=_SILENCE_SECONDS, sock_read=_SILENCE_SECONDS
    )
    session: ClientSession = await files.set_session()
    for _ in range(_MAX_REDIRECTS):
        get = session.get(URL(url, encoded=True), allow_redirects=False, timeout=timeout)
        async with get as response:
            if response.status == 200:
                with Spool(max_bytes) as spool:
                    async for chunk in response.content.iter_chunked(_CHUNK_BYTES):
                        spool.write(chunk)
                    return spool.take()
            if response.status not in REDIRECTS:
                raise _StatusError(response.status, _retry_after(response.headers))
            target = sendable(urljoin(url, response.headers.get("Location", "")))
        if not redirect_allowed(url, target):
            raise InputError(
                "unreadable", f"It redirects to {shown(target)}, which nasnet does not follow."
            )
        url = target
    raise InputError("unreadable", "Its redirects form a loop.")


def _retry_after(headers: Mapping[str, str]) -> float:
    """Return the seconds that a server asks to wait, as a number or a date; 0 if it doesn't."""
    value = headers.get("Retry-After", "").strip()
    if value.isascii() and value.isdigit():
        return float(value[:9])
    try:
        until = parsedate_to_datetime(value)
    except ValueError:
        return 0.0
    until = until if until.tzinfo else until.replace(tzinfo=UTC)
    return max(0.0, (until - datetime.now(UTC)).total_seconds())


def _may_pass(error: Exception) -> bool:
    """Return whether a second try may help: a busy server, or a connection that was cut."""
    import aiohttp

    if isinstance(error, _StatusError):
        return error.status in PASSING_STATUSES
    cut = (aiohttp.ServerDisconnectedError, aiohttp.ClientPayloadError, ConnectionResetError)
    return isinstance(error, cut)


def _explain(error: Exception) -> InputError:
    """Return the row's error, in our words: aiohttp's may quote the URL."""
    import aiohttp

    if isinstance(error, InputError):
        return error
    if isinstance(error, _StatusError):
        return status_error(error.status, error.pause)
    if isinstance(error, TimeoutError):
        return InputError("network", "The server doesn't answer.")
    if isinstance(error, aiohttp.InvalidURL | ValueError):
        return InputError("not_found", "It is not a valid URL.")
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return InputError("network", f"The certificate of {error.host} is not trusted.")
    if isinstance(error, aiohttp.ClientConnectorError):
        return InputError("network", f"There is no connection to {error.host}.")
    return InputError("network", "The connection was cut.")


def status_error(status: int, pause: float = 0.0) -> InputError:
    """Return the row's error for a server's status; pause is how long it asks to wait."""
    if status in (404, 410):
        return InputError("not_found", "There is no such file.")
    if status in PASSING_STATUSES or status >= 500:
        wait = f" and asks to wait {pause:,.0f} s" if pause else ""
        return InputError("network", f"The server answers {status}{wait}.")
    return InputError("unreadable", f"The server answers {status}.")
