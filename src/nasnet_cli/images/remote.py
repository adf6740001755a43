"""Pictures in object stores (s3://, gs://, az:// and the like) and on web servers, through fsspec.

fsspec and what it needs for a scheme (extra `remote`) are imported when a remote thing is named,
and not before: nothing else goes to the network. Credentials, endpoints and the like are found as
those packages do (AWS_PROFILE, AWS_ENDPOINT_URL, GOOGLE_APPLICATION_CREDENTIALS, FSSPEC_S3, …).
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from nasnet_cli.errors import InputError, NasnetError
from nasnet_cli.images.formats import HEAD_BYTES, has_image_suffix, signature
from nasnet_cli.images.source import SkipCounter, Source, check_size

_WEB = ("http", "https")
_STORES = ("s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "oss")

# Seconds that a web server may say nothing, and that a whole file may take.
_SILENCE, _WHOLE = 60.0, 300.0
# For what may pass (a server that is busy or restarts): tries, and the pause before the second.
_TRIES, _PAUSE = 3, 0.5
_PASSING = (408, 425, 429, 500, 502, 503, 504)
_CHUNK = 1 << 16
# Objects in a page of a listing: the most that S3 gives for a request.
_PAGE = 1000

# What in a listing tells that an object has changed, the best first; stores differ.
_VERSIONS = ("ETag", "etag", "md5Hash", "content_md5", "updated", "last_modified", "LastModified")


def find_remote(url: str, *, recursive: bool, listing: SkipCounter) -> Iterator[Source]:
    """The inputs that a URL stands for: an object, or all pictures below a prefix.

    http and https stand for one file, which is not looked at yet. In an object store, what is no
    object is taken for a folder, and its pictures come in the order of their keys' bytes, while
    they are listed. A picture has a picture's suffix, or no suffix at all and a picture's first
    bytes. Raises NasnetError when the package for the scheme is not installed; what else goes
    wrong is a Source with a failure.
    """
    scheme = url.partition("://")[0]
    if scheme not in (*_WEB, *_STORES):
        known = ", ".join((*_WEB, *_STORES))
        message = f"{scheme}:// is not among the places that can be read: {known}."
        yield Source(url, failure=InputError("unsupported", message))
        return
    place = _place(url)
    if scheme in _WEB:
        yield remote_source(url)
        return
    try:
        yield from _found(place, recursive, listing)
    except Exception as error:  # each store's package has errors of its own
        yield Source(url, failure=_explain(error))


def remote_source(url: str, version: str | None = None) -> Source:
    """The object at url, which is read when it is asked for. version is as in Source."""
    return Source(url, member=functools.partial(_read, url), version=version)


@dataclass(frozen=True, slots=True)
class _Place:
    """A URL, the file system that it is in, and its path there, without a slash at the end."""

    url: str
    files: Any
    path: str

    def below(self, path: str) -> str:
        """The URL of a path below this one."""
        return self.url.rstrip("/") + "/" + self.tail(path)

    def tail(self, path: str) -> str:
        """A path below this one as seen from here."""
        return path.removeprefix(self.path).removeprefix("/")


def _place(url: str) -> _Place:
    scheme = url.partition("://")[0]
    try:
        import fsspec

        kind = fsspec.get_filesystem_class(scheme)
        # Not fsspec.core.url_to_fs: it takes "::" in a key for a chain of file systems.
        files = kind(**kind._get_kwargs_from_urls(url))
    except ImportError as error:
        needed = "gcsfs" if scheme in ("gs", "gcs") else str(error)
        raise NasnetError(
            f"{url} can't be read: the package for {scheme}:// is not installed ({needed}).",
            "Install it with: pip install 'nasnet-cli[remote]'",
        ) from error
    return _Place(url, files, str(kind._strip_protocol(url)).rstrip("/"))


def _found(place: _Place, recursive: bool, listing: SkipCounter) -> Iterator[Source]:
    if not place.url.endswith("/"):
        info = place.files.info(place.path)
        if info["type"] != "directory":
            yield remote_source(place.url, _version(info))
            return
    is_empty = True
    for info in _objects(place, place.path, recursive):
        is_empty = False
        if _is_picture(place, info):
            yield remote_source(place.below(info["name"]), _version(info))
        else:
            listing.passed_over += 1
    if is_empty:
        yield Source(place.url, failure=InputError("not_found", "There is nothing there."))


def _objects(place: _Place, folder: str, recursive: bool) -> Iterator[Mapping[str, Any]]:
    """What is below a folder, in the order of the bytes of whole keys."""
    if place.url.startswith(("s3:", "s3a:")) and recursive:
        yield from _s3_objects(place, folder)
        return
    entries = place.files.ls(folder, detail=True, refresh=True)
    # A slash belongs to a folder's key: "a.jpg" comes before "a/b.jpg".
    for info in sorted(entries, key=_key):
        if info["type"] != "directory":
            if info["name"].rstrip("/") != folder:  # the mark of an empty folder
                yield info
        elif recursive:
            yield from _objects(place, info["name"].rstrip("/"), recursive)


def _key(info: Mapping[str, Any]) -> bytes:
    slash = "/" if info["type"] == "directory" else ""
    return (str(info["name"]).rstrip("/") + slash).encode("utf-8", "surrogatepass")


def _s3_objects(place: _Place, folder: str) -> Iterator[Mapping[str, Any]]:
    # By pages: s3fs' own find() and ls() hold every object of the folder, a kilobyte each.
    bucket, _, prefix = folder.partition("/")
    asked = {"Bucket": bucket, "Prefix": prefix + "/" if prefix else "", "MaxKeys": _PAGE}
    while True:
        page = place.files.call_s3("list_objects_v2", **asked)
        for found in page.get("Contents", ()):
            if not found["Key"].endswith("/"):  # the mark of a folder
                yield {**found, "name": f"{bucket}/{found['Key']}", "size": found["Size"]}
        if not page.get("IsTruncated"):
            return
        asked["ContinuationToken"] = page["NextContinuationToken"]


def _is_picture(place: _Place, info: Mapping[str, Any]) -> bool:
    tail = place.tail(info["name"])
    if any(part.startswith(".") for part in tail.split("/")):
        return False
    name = tail.rpartition("/")[2]
    if has_image_suffix(name) or "." in name or not info["size"]:
        return has_image_suffix(name)
    return signature(place.files.cat_file(info["name"], start=0, end=HEAD_BYTES)) is not None


def _version(info: Mapping[str, Any]) -> str | None:
    said = next((info[name] for name in _VERSIONS if info.get(name)), None)
    return None if said is None else f"{info['size']} {str(said).strip(chr(34))}"


def _read(url: str, max_bytes: int) -> bytes:
    """The whole object. Raises InputError."""
    place = _place(url)
    read = _read_web if url.startswith(_WEB) else _read_object
    for number in range(_TRIES):
        try:
            data = read(place, max_bytes)
            break
        except Exception as error:
            if number + 1 == _TRIES or getattr(error, "status", None) not in _PASSING:
                raise _explain(error) from error
            time.sleep(_PAUSE * 2**number)
    check_size(len(data), max_bytes)
    return data


def _read_object(place: _Place, max_bytes: int) -> bytes:
    # One request, for one byte more than is allowed.
    read: Callable[..., bytes] = place.files.cat_file
    try:
        return read(place.path, start=0, end=max_bytes + 1)
    except (FileNotFoundError, PermissionError):
        raise
    except OSError:
        if place.files.info(place.path)["size"] == 0:  # of nothing, no part can be asked for
            return b""
        raise


def _read_web(place: _Place, max_bytes: int) -> bytes:
    import aiohttp

    timeout = aiohttp.ClientTimeout(total=_WHOLE, sock_connect=_SILENCE, sock_read=_SILENCE)
    data = bytearray()
    # As a stream (block_size=0), and without a request for its size before (any size will do).
    with place.files.open(place.url, block_size=0, size=1, timeout=timeout) as stream:
        while len(data) <= max_bytes and (chunk := stream.read(_CHUNK)):
            data += chunk
    return bytes(data)


def _explain(error: Exception) -> InputError:
    """A row's error for what fsspec or a store's package raised."""
    if isinstance(error, InputError):
        return error
    if isinstance(error, FileNotFoundError):
        return InputError("not_found", "There is no such file.")
    if isinstance(error, TimeoutError):
        return InputError("timeout", "The server doesn't answer.")
    if status := getattr(error, "status", None):
        return InputError("unreadable", f"The server answers {status}.")
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
    return InputError("unreadable", f"It cannot be read: {reason}.")
