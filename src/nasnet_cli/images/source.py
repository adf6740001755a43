# Paths stay the strings that the user wrote: Path would turn "" into "." and "a/./b" into "a/b".
# ruff: noqa: PTH110, PTH116, PTH122
"""One input and its bytes: a file on disk, a member of an archive, a remote object."""

from __future__ import annotations

import io
import os
import re
import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from nasnet_cli.errors import InputError
from nasnet_cli.systems import open_flags, read_at

if TYPE_CHECKING:
    from nasnet_cli.images.preprocess import Pixels

MAX_BYTES = 1 << 30
"""Default limit in bytes: larger files and archive members are too_large."""

WHOLE_BYTES = 1 << 24
"""Files up to this many bytes are read at once; larger ones are read while they are decoded."""

ARCHIVE_SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz")

_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")


def is_archive(path: str) -> bool:
    """Return whether a file's name has the suffix of an archive that can be listed."""
    return path.lower().endswith(ARCHIVE_SUFFIXES)


def member_of(path: str) -> tuple[str, str] | None:
    """Return the archive and the member of a path like photos.zip!/a.jpg, else None."""
    end = path.find("!/")
    while end >= 0:
        if is_archive(path[:end]) and os.path.exists(path[:end]):
            return path[:end], path[end + 2 :]
        end = path.find("!/", end + 1)
    return None


def is_remote(path: str) -> bool:
    """Return whether a path is a URL. A file with such a name is reached as ./s3://…"""
    return _URL.match(path) is not None


@dataclass(slots=True)
class SkipCounter:
    """Counts, by kind, of the entries of folders and archives that are not inputs.

    A kind is a file's suffix in capitals (XMP), or what else is the reason: hidden, excluded, link,
    the name of a folder that is never entered, and so on.
    """

    kinds: dict[str, int] = field(default_factory=dict)
    on_nothing: Callable[[str], None] = lambda path: None
    """Called with each path that was named and is missing, or has no image in it."""

    @property
    def count(self) -> int:
        """The number of all of them."""
        return sum(self.kinds.values())

    def add(self, kind: str) -> None:
        """Count an entry."""
        self.kinds[kind] = self.kinds.get(kind, 0) + 1

    def add_file(self, name: str) -> None:
        """Count a file that is not an image, by its suffix."""
        suffix = os.path.splitext(name)[1][1:]
        self.add(suffix.upper() if suffix.isalnum() and len(suffix) <= 8 else "other")


class FileStat(NamedTuple):
    """A file's size in bytes and time of modification, by which a change is noticed."""

    size: int
    mtime_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> FileStat:
        """Return the relevant part of what os.stat says."""
        return cls(status.st_size, status.st_mtime_ns)


@dataclass(frozen=True, slots=True)
class Source:
    """One input, readable or not.

    path is its name in the results; bytes that are not UTF-8 are Python's surrogate escapes, and a
    member of an archive is named like photos.zip!/a/b.jpg. Exactly one of the next four is set:
    file, the path to open, for a plain file; member, a function from a limit to bytes, or to a
    stream of its own, for a member of an archive or a remote object; failure, when listing it has
    already failed; pixels, what the model takes, for an image in memory, which is not opened.

    The rest is what listing learned: stat of the file, or of the archive that holds the member;
    archive, the path of that archive, and number, the member's among its files; url, a remote
    object's whole URL, of which path leaves out secrets; version, the store's version of it, if it
    has one.
    """

    path: str
    file: str | None = None
    member: Callable[[int], bytes | BinaryIO] | None = None
    failure: InputError | None = None
    pixels: Pixels | None = field(default=None, compare=False)
    stat: FileStat | None = None
    archive: str | None = None
    number: int | None = None
    url: str | None = None
    version: str | None = None

    def open(self, max_bytes: int = MAX_BYTES) -> BinaryIO:
        """Open the input as a seekable stream, which the caller closes. Safe from any thread.

        The bytes are in memory unless the file has more than WHOLE_BYTES or changes meanwhile.
        Raises InputError: not_found, unreadable, too_large (over max_bytes) or archive.
        """
        if self.failure is not None:
            raise self.failure
        if self.member is not None:
            data = self.member(max_bytes)
            if not isinstance(data, bytes):
                return data
            check_size(len(data), max_bytes)
            return io.BytesIO(data)
        descriptor, size = _open_regular(self.path if self.file is None else self.file)
        try:
            check_size(size, max_bytes)
            content = _read_whole(descriptor, size)
        except BaseException:
            os.close(descriptor)
            raise
        if content is None:
            return os.fdopen(descriptor, "rb")
        os.close(descriptor)
        return io.BytesIO(content)

    def read(self, max_bytes: int = MAX_BYTES) -> bytes:
        """Return the input's bytes. Raises InputError as open does."""
        with self.open(max_bytes) as stream:
            try:
                data = read_up_to(stream, max_bytes + 1)
            except OSError as error:
                raise explain_os_error(error) from error
        check_size(len(data), max_bytes)
        return data


def read_up_to(stream: BinaryIO, limit: int) -> bytes:
    """Return a file's first bytes, up to limit of them.

    read(n) allocates n bytes, so the file's size is asked for rather than the limit.
    """
    if isinstance(stream, io.BytesIO):
        return stream.read(limit)
    size = min(os.fstat(stream.fileno()).st_size + 1, limit)
    data = stream.read(size)
    if len(data) == size < limit:  # it has grown, or its file system reports no sizes
        data += stream.read(limit - size)
    return data


def open_regular(path: str) -> BinaryIO:
    """Open a regular file for reading, and nothing else.

    Pipes, sockets and devices are not opened: opening alone can block or wind a tape. Raises
    InputError: not_found or unreadable.
    """
    descriptor, _ = _open_regular(path)
    return os.fdopen(descriptor, "rb")


_FLAGS = open_flags("O_NONBLOCK", "O_CLOEXEC", "O_NOCTTY")


def _open_regular(path: str) -> tuple[int, int]:
    """Return open_regular's descriptor, and the file's size in bytes."""
    try:
        check_regular(os.stat(path).st_mode)
        # A pipe that replaces the file after the line above must not block either.
        descriptor = os.open(path, os.O_RDONLY | _FLAGS)
    except (OSError, ValueError) as error:
        raise explain_os_error(error) from error
    try:
        status = os.fstat(descriptor)
        check_regular(status.st_mode)
    except InputError:
        os.close(descriptor)
        raise
    return descriptor, status.st_size


def _read_whole(descriptor: int, size: int) -> bytes | None:
    """Return a file's bytes; None where they are many, or not as many as its size said.

    One system call. A Python stream makes six more, and after each of them the thread waits for
    the interpreter lock again.
    """
    if size > WHOLE_BYTES:
        return None
    try:
        content = read_at(descriptor, size + 1, 0)
    except OSError as error:
        raise explain_os_error(error) from error
    return content if len(content) == size else None


def check_regular(mode: int) -> None:
    """Raise InputError (unreadable) unless st_mode is that of a regular file."""
    if stat.S_ISDIR(mode):
        raise InputError("unreadable", "It is a folder.")
    if not stat.S_ISREG(mode):
        raise InputError("unreadable", "It is a pipe, a socket or a device, not a file.")


def check_size(size: int, max_bytes: int) -> None:
    """Raise InputError (too_large) when size, in bytes, is over max_bytes."""
    if size > max_bytes:
        raise InputError("too_large", f"It has more than {max_bytes:,} bytes.")


def explain_os_error(error: OSError | ValueError) -> InputError:
    """Return the row's error for an error of the operating system about a path.

    A ValueError is Python's own answer to a name that no file can have.
    """
    if isinstance(error, ValueError):
        return InputError("not_found", "No file can have this name.")
    if isinstance(error, (FileNotFoundError, NotADirectoryError)):
        return InputError("not_found", "There is no such file.")
    return InputError("unreadable", f"It cannot be read: {error.strerror or 'input/output error'}.")
