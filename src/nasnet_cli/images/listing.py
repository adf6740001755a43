# Paths stay the strings that the user wrote: Path would turn "" into "." and "a/./b" into "a/b".
# ruff: noqa: PTH116, PTH118
"""Which inputs a user's paths stand for: files, folders, archives and URLs, as a stream.

Importing this imports neither NumPy nor Pillow, nor what reads archives and URLs: listing is light.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

from nasnet_cli.errors import InputError
from nasnet_cli.images.formats import HEAD_BYTES, has_image_suffix, signature
from nasnet_cli.images.names import is_archive, is_remote
from nasnet_cli.images.sorted_names import sorted_names
from nasnet_cli.images.source import (
    MAX_BYTES,
    SkipCounter,
    Source,
    check_regular,
    explain_os_error,
    open_regular,
)

__all__ = ["MAX_BYTES", "SkipCounter", "Source", "list_sources", "read_list"]

_CHUNK_BYTES = 1 << 16


def list_sources(
    paths: Iterable[str],
    *,
    recursive: bool = True,
    listing: SkipCounter,
    max_bytes: int = MAX_BYTES,
) -> Iterator[Source]:
    """The inputs that paths name, in order, found while they are asked for.

    A folder gives its pictures and, unless recursive is False, those of the folders in it, each
    folder's names sorted by their bytes. A picture is what has a picture's suffix, or else its
    first bytes. Hidden entries, archives and other files in folders are passed over and counted
    in listing. A symbolic link is followed unless it leads to a folder that the walk is in.
    A file named outright is always an input; a .zip, .tar, .tar.gz or .tgz stands for its
    pictures; a URL for an object or for what is below it (find_remote). max_bytes bounds what a
    member of a compressed tar may expand to, since such members are held in memory from here on.

    Raises nothing for a bad input: a path that is missing or can't be read is a Source with a
    failure, so that it gets its row. Raises NasnetError when the package for a URL is missing.
    """
    for path in paths:
        if is_remote(path):
            from nasnet_cli.images.remote import find_remote

            yield from find_remote(path, recursive=recursive, listing=listing)
            continue
        try:
            status = os.stat(path)
            folder = _list_folder(path, status) if stat.S_ISDIR(status.st_mode) else None
            if folder is None:
                check_regular(status.st_mode)
        except (OSError, ValueError) as error:
            yield Source(path, failure=explain_os_error(error))
            continue
        except InputError as failure:
            yield Source(path, failure=failure)
            continue
        if folder is not None:
            yield from _walk(folder, recursive, listing)
        elif is_archive(path):
            from nasnet_cli.images.archives import members

            yield from members(path, listing=listing, max_bytes=max_bytes)
        else:
            yield Source(path, file=path)


@dataclass(slots=True)
class _Folder:
    """A folder that the walk is in; names are the ones still to come."""

    path: str
    identity: tuple[int, int]
    names: Iterator[bytes]


def _list_folder(path: str, status: os.stat_result) -> _Folder:
    return _Folder(path, (status.st_dev, status.st_ino), sorted_names(os.fsencode(path)))


def _walk(top: _Folder, recursive: bool, listing: SkipCounter) -> Iterator[Source]:
    # The trail is kept by hand: a deep tree must not run into Python's recursion limit.
    trail = [top]
    while trail:
        folder = trail[-1]
        next_name = next(folder.names, None)
        if next_name is None:
            trail.pop()
            continue
        name = os.fsdecode(next_name)
        path = os.path.join(folder.path, name)
        if name.startswith("."):
            listing.passed_over += 1
            continue
        try:
            status = os.stat(path)
        except OSError as error:  # a link that leads nowhere, or the entry has gone
            if has_image_suffix(name):
                yield Source(path, failure=explain_os_error(error))
            else:
                listing.passed_over += 1
            continue
        if stat.S_ISDIR(status.st_mode):
            if recursive and not any(_is(status, above) for above in trail):
                try:
                    trail.append(_list_folder(path, status))
                except OSError as error:
                    yield Source(path, failure=explain_os_error(error))
        elif stat.S_ISREG(status.st_mode) and (has_image_suffix(name) or _sniff(path)):
            yield Source(path, file=path)
        else:
            listing.passed_over += 1


def _is(status: os.stat_result, folder: _Folder) -> bool:
    return (status.st_dev, status.st_ino) == folder.identity


def _sniff(path: str) -> bool:
    """Whether a file of another suffix begins like a picture."""
    try:
        with open_regular(path) as stream:
            return signature(stream.read(HEAD_BYTES)) is not None
    except (InputError, OSError):
        return False


def read_list(stream: BinaryIO) -> Iterator[str]:
    """The names in a list of files, as they arrive.

    Names end with a newline (a carriage return before it is dropped) or, when a NUL comes with
    the first of them, with a NUL, as `find -print0` writes. Empty names are skipped. Bytes that
    are not UTF-8 become Python's surrogate escapes.
    """
    # read1 gives what a pipe holds now; read would wait until a whole chunk is there.
    read: Callable[[int], bytes] = getattr(stream, "read1", stream.read)
    rest = b""
    while b"\n" not in rest and b"\0" not in rest:
        chunk = read(_CHUNK_BYTES)
        if not chunk:
            break
        rest += chunk
    end = b"\0" if b"\0" in rest else b"\n"
    while True:
        *names, rest = rest.split(end)
        yield from _clean(names, end)
        chunk = read(_CHUNK_BYTES)
        if not chunk:
            yield from _clean([rest], end)
            return
        rest += chunk


def _clean(names: list[bytes], end: bytes) -> Iterator[str]:
    for name in names:
        cleaned = name.removesuffix(b"\r") if end == b"\n" else name
        if cleaned:
            yield os.fsdecode(cleaned)
