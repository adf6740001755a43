# Paths stay the strings that the user wrote: Path would turn "" into "." and "a/./b" into "a/b".
# ruff: noqa: PTH116
"""One input and its bytes: a file on disk, a member of an archive, a remote object."""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO

from nasnet_cli.errors import InputError

MAX_BYTES = 1 << 30
"""Files and archive members above this many bytes are too_large, unless told otherwise."""

WHOLE_BYTES = 1 << 24
"""Files up to this many bytes are read at once and then decoded, larger ones while they are."""


@dataclass(slots=True)
class SkipCounter:
    """What a search of folders and archives left out.

    passed_over counts the files that are no pictures, the hidden files and folders, the archives
    within folders, and the pipes, sockets and devices.
    """

    passed_over: int = 0


@dataclass(frozen=True, slots=True)
class Source:
    """One input, whether or not it can be read.

    path is its name in the results; bytes that are not UTF-8 are Python's surrogate escapes, and
    a member of an archive is named like photos.zip!/a/b.jpg. Exactly one of the next three is
    set: file, the path to open, for a plain file; member, a function from a limit to bytes, for a
    member of an archive or a remote object; failure, when it is known already that there is
    nothing to read. version, where a remote object has one, is another when the object is.
    """

    path: str
    file: str | None = None
    member: Callable[[int], bytes] | None = None
    failure: InputError | None = None
    version: str | None = None

    def open(self, max_bytes: int = MAX_BYTES) -> BinaryIO:
        """The input's bytes as a seekable stream, which the caller closes. Safe from any thread.

        They are in memory but for a file of more than WHOLE_BYTES, or one that changes. Raises
        InputError: not_found, unreadable, too_large (over max_bytes) or archive.
        """
        if self.failure is not None:
            raise self.failure
        if self.member is not None:
            data = self.member(max_bytes)
            check_size(len(data), max_bytes)
            return io.BytesIO(data)
        descriptor, size = _open_regular(self.path if self.file is None else self.file)
        try:
            check_size(size, max_bytes)
            content = _whole(descriptor, size)
        except BaseException:
            os.close(descriptor)
            raise
        if content is None:
            return os.fdopen(descriptor, "rb")
        os.close(descriptor)
        return io.BytesIO(content)

    def read(self, max_bytes: int = MAX_BYTES) -> bytes:
        """The input's bytes, at most max_bytes of them. Raises InputError like open."""
        with self.open(max_bytes) as stream:
            try:
                data = read_up_to(stream, max_bytes + 1)
            except OSError as error:
                raise explain_os_error(error) from error
        check_size(len(data), max_bytes)
        return data


def read_up_to(stream: BinaryIO, limit: int) -> bytes:
    """A file's first bytes, limit of them if there are as many.

    Reading takes memory for as many bytes as it is told to, so that it is told the file's size.
    """
    if isinstance(stream, io.BytesIO):
        return stream.read(limit)
    size = min(os.fstat(stream.fileno()).st_size + 1, limit)
    data = stream.read(size)
    if len(data) == size < limit:  # it has grown, or is of a file system that tells no sizes
        data += stream.read(limit - size)
    return data


def open_regular(path: str) -> BinaryIO:
    """Opens a regular file for reading, and nothing else.

    Pipes, sockets and devices are not opened: opening alone can block or wind a tape. Raises
    InputError: not_found or unreadable.
    """
    descriptor, _ = _open_regular(path)
    return os.fdopen(descriptor, "rb")


def _open_regular(path: str) -> tuple[int, int]:
    """open_regular's descriptor, and the file's size in bytes."""
    try:
        check_regular(os.stat(path).st_mode)
        # A pipe put in the file's place since the line above must not block either.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    except (OSError, ValueError) as error:
        raise explain_os_error(error) from error
    try:
        status = os.fstat(descriptor)
        check_regular(status.st_mode)
    except InputError:
        os.close(descriptor)
        raise
    return descriptor, status.st_size


def _whole(descriptor: int, size: int) -> bytes | None:
    """A file's bytes; None where they are many, or not as many as its size said.

    With one call to the system. A stream of Python's makes six more, and after each the thread
    waits for its turn again.
    """
    if size > WHOLE_BYTES:
        return None
    try:
        content = os.pread(descriptor, size + 1, 0)
    except OSError as error:
        raise explain_os_error(error) from error
    return content if len(content) == size else None


def check_regular(mode: int) -> None:
    """Raises InputError (unreadable) unless a file's st_mode is that of a regular file."""
    if stat.S_ISDIR(mode):
        raise InputError("unreadable", "It is a folder.")
    if not stat.S_ISREG(mode):
        raise InputError("unreadable", "It is a pipe, a socket or a device, not a file.")


def check_size(size: int, max_bytes: int) -> None:
    """Raises InputError (too_large) when size, in bytes, is over max_bytes."""
    if size > max_bytes:
        raise InputError("too_large", f"It has more than {max_bytes:,} bytes.")


def explain_os_error(error: OSError | ValueError) -> InputError:
    """The row's error for what the operating system said about a path.

    A ValueError is Python's own answer to a name that no file can have.
    """
    if isinstance(error, ValueError):
        return InputError("not_found", "No file can have this name.")
    if isinstance(error, (FileNotFoundError, NotADirectoryError)):
        return InputError("not_found", "There is no such file.")
    return InputError("unreadable", f"It cannot be read: {error.strerror or 'input/output error'}.")
