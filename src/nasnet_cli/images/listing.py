# Paths stay the strings that the user wrote: Path would turn "" into "." and "a/./b" into "a/b".
# ruff: noqa: PTH116, PTH118
"""From a user's paths to inputs: files, folders, archives and URLs, as a stream.

Importing this imports neither NumPy nor Pillow, nor what reads archives and URLs.
"""

from __future__ import annotations

import codecs
import heapq
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import IO, BinaryIO

from nasnet_cli.errors import InputError, NasnetError
from nasnet_cli.images.formats import HEAD_BYTES, has_image_suffix, signature
from nasnet_cli.images.source import (
    MAX_BYTES,
    FileStat,
    SkipCounter,
    Source,
    check_regular,
    explain_os_error,
    is_archive,
    is_remote,
    open_regular,
)

_BLOCK_BYTES = 1 << 16

# Names of a folder that are sorted in memory; more are sorted in parts, in temporary files.
_NAMES_IN_MEMORY = 100_000


def list_sources(
    paths: Iterable[str],
    *,
    recursive: bool = True,
    skips: SkipCounter,
    max_bytes: int = MAX_BYTES,
) -> Iterator[Source]:
    """Yield the inputs that paths name, in order, found while they are asked for.

    A folder stands for its images and, if recursive, those of its subfolders, each folder's names
    sorted by their bytes. A file is an image by its suffix, or else by its first bytes. Hidden
    entries, archives and other files in folders are skipped and counted in skips. A symbolic link
    is followed unless it leads to a folder that the walk is in. A file named outright is always an
    input; a .zip, .tar, .tar.gz or .tgz stands for its images; a URL for an object or for what is
    below it (find_remote). max_bytes limits the members of compressed tars, which are held in
    memory from here on.

    A path that is missing or cannot be read is a Source with a failure, so that it gets its row.
    Raises NasnetError when the package for a URL is missing.
    """
    for path in paths:
        if is_remote(path):
            from nasnet_cli.images.remote import find_remote

            yield from find_remote(path, recursive=recursive, skips=skips)
            continue
        try:
            status = os.stat(path)
            folder = _open_folder(path, status) if stat.S_ISDIR(status.st_mode) else None
            if folder is None:
                check_regular(status.st_mode)
        except (OSError, ValueError) as error:
            yield Source(path, failure=explain_os_error(error))
            continue
        except InputError as failure:
            yield Source(path, failure=failure)
            continue
        if folder is not None:
            yield from _walk(folder, recursive, skips)
        elif is_archive(path):
            from nasnet_cli.images.archives import members

            yield from members(path, FileStat.of(status), skips=skips, max_bytes=max_bytes)
        else:
            yield Source(path, file=path, stat=FileStat.of(status))


@dataclass(slots=True)
class _Folder:
    """A folder that the walk is in; names are those still to come."""

    path: str
    identity: tuple[int, int]
    names: Iterator[bytes]


def _open_folder(path: str, status: os.stat_result) -> _Folder:
    return _Folder(path, (status.st_dev, status.st_ino), sorted_names(os.fsencode(path)))


def _walk(top: _Folder, recursive: bool, skips: SkipCounter) -> Iterator[Source]:
    # A stack of its own: a deep tree must not reach Python's recursion limit.
    stack = [top]
    while stack:
        folder = stack[-1]
        next_name = next(folder.names, None)
        if next_name is None:
            stack.pop()
            continue
        name = os.fsdecode(next_name)
        path = os.path.join(folder.path, name)
        if name.startswith("."):
            skips.count += 1
            continue
        try:
            status = os.stat(path)
        except OSError as error:
            failure = explain_os_error(error)
            if not os.access(folder.path, os.X_OK, effective_ids=True):
                stack.pop()  # it can be listed but not entered: one row for all of it
                yield Source(folder.path, failure=failure)
            elif failure.kind != "not_found" or has_image_suffix(name):
                yield Source(path, failure=failure)
            else:  # a dangling link, or the entry has gone
                skips.count += 1
            continue
        if stat.S_ISDIR(status.st_mode):
            identity = (status.st_dev, status.st_ino)
            if recursive and all(identity != parent.identity for parent in stack):
                try:
                    stack.append(_open_folder(path, status))
                except OSError as error:
                    yield Source(path, failure=explain_os_error(error))
        elif stat.S_ISREG(status.st_mode) and (has_image_suffix(name) or _is_image(path)):
            yield Source(path, file=path, stat=FileStat.of(status))
        else:
            skips.count += 1


def _is_image(path: str) -> bool:
    """Return whether a file's first bytes are those of an image."""
    try:
        with open_regular(path) as stream:
            return signature(stream.read(HEAD_BYTES)) is not None
    except (InputError, OSError):
        return False


def sorted_names(folder: bytes) -> Iterator[bytes]:
    """Return a folder's names in the order of their bytes, never all of them in memory.

    All have been read when this returns. Raises OSError when the folder cannot be listed.
    """
    with os.scandir(folder) as entries:
        names = (entry.name for entry in entries)
        part = sorted(islice(names, _NAMES_IN_MEMORY))
        if len(part) < _NAMES_IN_MEMORY:
            return iter(part)
        parts = []
        while part:
            parts.append(_stored_names(part))
            part = sorted(islice(names, _NAMES_IN_MEMORY))
    return heapq.merge(*parts)


def _stored_names(names: list[bytes]) -> Iterator[bytes]:
    import tempfile

    try:
        file = tempfile.TemporaryFile()  # noqa: SIM115 - its reader closes it
        file.write(b"\0".join(names))
        file.seek(0)
    except OSError:  # no space there: they stay in memory after all
        return iter(names)
    return _read_names(file)


def _read_names(file: IO[bytes]) -> Iterator[bytes]:
    with file:
        rest = b""
        while block := file.read(_BLOCK_BYTES):
            *names, rest = (rest + block).split(b"\0")
            yield from names
        yield rest


def read_list(stream: BinaryIO) -> Iterator[str]:
    """Yield the names in a list of files, as they arrive.

    Names end with a newline (a carriage return before it is dropped) or, when a NUL comes with
    the first of them, with a NUL, as `find -print0` writes. Empty names are skipped. Bytes that
    are not UTF-8 become Python's surrogate escapes; a UTF-8 byte order mark is dropped. Raises
    NasnetError for UTF-16.
    """
    # read1 returns what a pipe holds now; read would wait for a whole block.
    read: Callable[[int], bytes] = getattr(stream, "read1", stream.read)
    rest = b""
    while b"\n" not in rest and b"\0" not in rest:
        block = read(_BLOCK_BYTES)
        if not block:
            break
        rest += block
    if rest.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise NasnetError("The list of paths is UTF-16.", "Save it as UTF-8.")
    rest = rest.removeprefix(codecs.BOM_UTF8)
    end = b"\0" if b"\0" in rest else b"\n"
    while True:
        *names, rest = rest.split(end)
        yield from _decoded(names, end)
        block = read(_BLOCK_BYTES)
        if not block:
            yield from _decoded([rest], end)
            return
        rest += block


def _decoded(names: list[bytes], end: bytes) -> Iterator[str]:
    for name in names:
        cleaned = name.removesuffix(b"\r") if end == b"\n" else name
        if cleaned:
            yield os.fsdecode(cleaned)
