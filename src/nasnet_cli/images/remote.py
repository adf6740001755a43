"""Images in object stores (s3://, gs://, az:// and the like) and on web servers, through fsspec.

fsspec and its packages for each scheme (extra `remote`) are imported only when a URL is named, so
that no other run uses the network. Credentials and endpoints come from where these packages look
for them (AWS_PROFILE, AWS_ENDPOINT_URL, GOOGLE_APPLICATION_CREDENTIALS, FSSPEC_S3, …).
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

from nasnet_cli.errors import ErrorKind, InputError, NasnetError, describe_error
from nasnet_cli.images.formats import HEAD_BYTES, has_image_suffix, signature
from nasnet_cli.images.selection import Selection
from nasnet_cli.images.source import SkipCounter, Source
from nasnet_cli.images.spool import IN_MEMORY, spooled
from nasnet_cli.images.urls import scheme_of, shown

_WEB = ("http", "https")
_STORES = ("s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "oss")

# For errors that may pass (a server that is busy or restarts): tries, and seconds before the second.
_TRIES, _PAUSE_SECONDS = 3, 0.5
# Bytes of each request for an object that is larger than the first one.
_RANGE_BYTES = 16 << 20
# Objects in a page of a listing: the most that S3 returns for a request.
_PAGE_OBJECTS = 1000

# Errors of connections, by name: a store's packages are only imported for it.
_NETWORK_ERRORS = frozenset((
    "builtins.ConnectionError", "builtins.TimeoutError", "_socket.gaierror", "socket.gaierror",
    "aiohttp.ClientError", "botocore.ConnectionError", "botocore.HTTPClientError",
))  # fmt: skip

# Fields of a listing by which a change of an object is noticed, the best first; stores differ.
_VERSION_FIELDS = (
    "ETag",
    "etag",
    "md5Hash",
    "content_md5",
    "updated",
    "last_modified",
    "LastModified",
)


def find_remote(url: str, selection: Selection, *, skips: SkipCounter) -> Iterator[Source]:
    """Yield the inputs that a URL stands for: an object, or all images below a prefix.

    http and https stand for one file, which is not looked at yet. In an object store, a URL that
    is not an object is a folder, and its images come in the order of their keys' bytes, while they
    are listed. An image has an image's suffix, or no suffix at all and an image's first bytes.
    Raises NasnetError when the package for the scheme is not installed; any other error is a
    Source with a failure.
    """
    scheme = scheme_of(url)
    if scheme not in (*_WEB, *_STORES):
        known = ", ".join((*_WEB, *_STORES))
        message = f"{scheme}:// cannot be read, only {known}. Download the images first."
        yield Source(shown(url), failure=InputError("unsupported", message))
        return
    location = _locate(url)
    if scheme in _WEB:
        yield remote_source(url)
        return
    try:
        yield from _list_objects(location, selection, skips)
    except Exception as error:  # each store's package has errors of its own
        yield Source(shown(url), failure=_explain(error, url))


def remote_source(url: str, version: str | None = None) -> Source:
    """Return the object at url as a Source, which is read when it is asked for.

    Its path is the URL without secrets (urls.shown). version is Source.version.
    """
    read = functools.partial(_read, url)
    return Source(shown(url), member=read, url=url, version=version)


@dataclass(frozen=True, slots=True)
class _Location:
    """A URL, its file system, and its path there, without a slash at the end."""

    url: str
    files: Any
    path: str

    def url_of(self, path: str) -> str:
        """Return the URL of a path below this one."""
        return self.url.rstrip("/") + "/" + self.relative(path)

    def relative(self, path: str) -> str:
        """Return a path below this one relative to it."""
        return path.removeprefix(self.path).removeprefix("/")


def _locate(url: str) -> _Location:
    scheme = scheme_of(url)
    url = f"{scheme}://{url.partition('://')[2]}"
    try:
        import fsspec

        filesystem = fsspec.get_filesystem_class(scheme)
        # Not fsspec.core.url_to_fs: it takes "::" in a key for a chain of file systems.
        files = filesystem(**filesystem._get_kwargs_from_urls(url))
    except ImportError as error:
        needed = "gcsfs" if scheme in ("gs", "gcs") else str(error)
        raise NasnetError(
            f"{shown(url)} cannot be read: the package for {scheme}:// is not installed ({needed}).",
            "Install it with: pip install 'nasnet-cli[remote]'",
        ) from error
    return _Location(url, files, str(filesystem._strip_protocol(url)).rstrip("/"))


def _list_objects(
    location: _Location, selection: Selection, skips: SkipCounter
) -> Iterator[Source]:
    if not location.url.endswith("/"):
        info = location.files.info(location.path)
        if info["type"] != "directory":
            yield remote_source(location.url, _version(info))
            return
    is_empty = True
    for info in _objects(location, location.path, selection.recursive):
        is_empty = False
        relative = location.relative(info["name"])
        if reason := selection.path_reason(relative):
            skips.add(reason)
        elif _is_image(location, info):
            yield remote_source(location.url_of(info["name"]), _version(info))
        else:
            skips.add_file(relative)
    if is_empty:
        missing = InputError("not_found", "There is nothing there.")
        yield Source(shown(location.url), failure=missing)


def _objects(location: _Location, folder: str, recursive: bool) -> Iterator[Mapping[str, Any]]:
    """Yield the objects below a folder, in the order of the bytes of whole keys."""
    if location.url.startswith(("s3:", "s3a:")) and recursive:
        yield from _s3_objects(location, folder)
        return
    entries = location.files.ls(folder, detail=True, refresh=True)
    # A slash belongs to a folder's key: "a.jpg" comes before "a/b.jpg".
    for info in sorted(entries, key=_key):
        if info["type"] != "directory":
            if info["name"].rstrip("/") != folder:  # the marker of an empty folder
                yield info
        elif recursive:
            yield from _objects(location, info["name"].rstrip("/"), recursive)


def _key(info: Mapping[str, Any]) -> bytes:
    slash = "/" if info["type"] == "directory" else ""
    return (str(info["name"]).rstrip("/") + slash).encode("utf-8", "surrogatepass")


def _s3_objects(location: _Location, folder: str) -> Iterator[Mapping[str, Any]]:
    # By pages: s3fs's own find() and ls() hold every object of the folder, a kilobyte each.
    bucket, _, prefix = folder.partition("/")
    query = {"Bucket": bucket, "Prefix": prefix + "/" if prefix else "", "MaxKeys": _PAGE_OBJECTS}
    while True:
        page = location.files.call_s3("list_objects_v2", **query)
        for info in page.get("Contents", ()):
            if not info["Key"].endswith("/"):  # the marker of a folder
                yield {**info, "name": f"{bucket}/{info['Key']}", "size": info["Size"]}
        if not page.get("IsTruncated"):
            return
        query["ContinuationToken"] = page["NextContinuationToken"]


def _is_image(location: _Location, info: Mapping[str, Any]) -> bool:
    name = info["name"].rpartition("/")[2]
    if has_image_suffix(name) or "." in name or not info["size"]:
        return has_image_suffix(name)
    return signature(location.files.cat_file(info["name"], start=0, end=HEAD_BYTES)) is not None


def _version(info: Mapping[str, Any]) -> str | None:
    version = next((info[name] for name in _VERSION_FIELDS if info.get(name)), None)
    return None if version is None else f"{info['size']} {str(version).strip(chr(34))}"


def _read(url: str, max_bytes: int) -> BinaryIO:
    """Return an object as a stream. Raises InputError."""
    from nasnet_cli.images.web import read_web

    return (read_web if scheme_of(url) in _WEB else _read_from_store)(url, max_bytes)


def _read_from_store(url: str, max_bytes: int) -> BinaryIO:
    from nasnet_cli.models.hub.download import PASSING_STATUSES

    location = _locate(url)
    for number in range(_TRIES):
        try:
            return spooled(_read_object(location, max_bytes), max_bytes)
        except Exception as error:
            if number + 1 == _TRIES or _status(error) not in PASSING_STATUSES:
                raise _explain(error, url) from error
            time.sleep(_PAUSE_SECONDS * 2**number)
    raise AssertionError("unreachable")


def _read_object(location: _Location, max_bytes: int) -> Iterator[bytes]:
    # Mostly one request, and never more than one byte over what is allowed.
    read: Callable[..., bytes] = location.files.cat_file
    start, end = 0, min(IN_MEMORY, max_bytes + 1)
    while True:
        try:
            part = read(location.path, start=start, end=end)
        except (FileNotFoundError, PermissionError):
            raise
        except OSError:
            # An object that ends here has no such range.
            if location.files.info(location.path)["size"] <= start:
                return
            raise
        yield part
        if len(part) < end - start or end > max_bytes:
            return
        start, end = end, min(end + _RANGE_BYTES, max_bytes + 1)


def _explain(error: BaseException, url: str) -> InputError:
    """Return the row's error for an error of fsspec or a store's package."""
    from nasnet_cli.images.web import status_error

    if isinstance(error, InputError):
        return error
    if isinstance(error, FileNotFoundError):
        return InputError("not_found", "There is no such file.")
    if isinstance(error, TimeoutError):
        return InputError("network", "The server doesn't answer.")
    if status := _status(error):
        return status_error(status)
    reason = describe_error(error).replace(url, shown(url))
    kind: ErrorKind = "network" if _is_of_network(error) else "unreadable"
    return InputError(kind, f"It cannot be read: {reason}.")


def _status(error: BaseException) -> int | None:
    """Return the status of a server's answer that an error stands for, if it has one."""
    for place in (error, error.__cause__):
        response = getattr(place, "response", None)  # botocore's, which s3fs turns into an OSError
        if isinstance(response, Mapping):
            status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        else:
            status = getattr(place, "status", None) or getattr(place, "code", None)
        if isinstance(status, int) and status >= 400:
            return status
    return None


def _is_of_network(error: BaseException) -> bool:
    """Return whether no server was reached, or the connection to it broke."""
    names = {
        f"{kind.__module__.partition('.')[0]}.{kind.__name__}"
        for place in (error, error.__cause__)
        for kind in type(place).__mro__
    }
    return not names.isdisjoint(_NETWORK_ERRORS)
