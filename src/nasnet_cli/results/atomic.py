"""Output files that appear complete or not at all, and the errors of writing them.

Bytes go to a hidden file beside the target, which takes the target's name when all is on disk.
"""

from __future__ import annotations

import errno
import io
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Protocol

from nasnet_cli.atomic import hidden_path, leftovers
from nasnet_cli.errors import NasnetError, OutputError
from nasnet_cli.results.meta import COMPANION_SUFFIXES
from nasnet_cli.systems import copy_mode, open_flags

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

StrPath = str | os.PathLike[str]


@contextmanager
def open_output(path: StrPath, *, overwrite: bool) -> Iterator[BinaryIO]:
    """Open a binary stream whose bytes become the file path when the block ends without an error.

    A symbolic link is followed: the file that it points to is replaced. A character device, a pipe
    or a descriptor (/dev/null, /dev/stdout, a named pipe, bash's >(…)) is written to directly, and
    needs no overwrite. Raises OutputError: before the block, if path exists and overwrite is
    false, or path cannot be written; in the block or at its end, if the disk is full or the folder
    gone. A pipe whose reader has closed it raises BrokenPipeError, as everywhere.
    """
    with open_outputs(path, overwrite=overwrite) as (stream,):
        yield stream


def open_existing(path: Path, display_name: str) -> BinaryIO:
    """Return a stream to write over a file, whose errors, OutputErrors, give it another name."""
    try:
        return io.BufferedWriter(_Raw(os.open(path, os.O_WRONLY | open_flags()), display_name))
    except OSError as error:
        raise in_words(display_name, error) from error


@contextmanager
def open_outputs(
    result: StrPath, *companions: StrPath, overwrite: bool
) -> Iterator[list[BinaryIO]]:
    """Open a stream for a result and one for each of its companion files, in this order.

    They are like open_output's. All are written before the first takes its name, and the result
    takes its name last: whoever sees the result finds its companions. An exception leaves none of
    them. Where the result is written to directly, the companions' bytes are dropped.

    A companion OUT.meta.json or OUT.inputs whose result is gone is replaced without overwrite:
    people delete a result and run again.
    """
    files: list[_File] = []
    try:
        if is_direct(result):
            files = [_Direct(os.fspath(result)), *(_Direct(os.devnull) for _ in companions)]
        else:
            names = [os.fspath(path) for path in (result, *companions)]
            for name in names:
                is_companion = name != names[0] and name.endswith(COMPANION_SUFFIXES)
                check_free(name, overwrite or is_companion)
            for name in names:
                files.append(_Replacement(name))
        yield [file.stream for file in files]
        for file in files:
            file.complete()
        if not (overwrite or is_direct(result)):  # another job may have finished first
            check_free(os.fspath(result), overwrite)
        for file in reversed(files):
            file.publish()
    except BaseException:
        for file in files:
            file.discard()
        raise


def remove_leftovers(path: Path) -> None:
    """Remove the hidden files of killed writers of path, which no other process may be writing."""
    for hidden in leftovers(path.resolve()):
        with suppress(OSError):
            hidden.unlink(missing_ok=True)


def is_direct(path: StrPath) -> bool:
    """Return whether path is a character device, a pipe or a descriptor, not a file."""
    if _descriptor(os.fspath(path)) is not None:
        return True
    try:
        mode = Path(path).stat().st_mode
    except OSError:
        return False
    return stat.S_ISCHR(mode) or stat.S_ISFIFO(mode)


def _descriptor(name: str) -> int | None:
    # Opened by its name, /dev/stdout would truncate the file behind `> file` and overwrite that
    # behind `>> file`: the descriptor itself is written to.
    if match := re.fullmatch(r"/(?:dev|proc/self)/fd/(\d{1,9})", name):
        return int(match[1])
    return {"/dev/stdout": 1, "/dev/stderr": 2}.get(name)


def check_free(name: str, overwrite: bool) -> None:
    """Raise OutputError if name cannot be a file's, or the file exists and overwrite is false."""
    if name.endswith(os.sep):
        raise OutputError(f"{name} names a folder, not a file.", "Give the file a name too.")
    try:
        mode = Path(name).stat().st_mode
    except FileNotFoundError:
        return
    except OSError as error:
        raise in_words(name, error) from error
    if stat.S_ISDIR(mode):
        raise OutputError(f"{name} is a folder, not a file.", "Name a file in it.")
    if not stat.S_ISREG(mode):
        raise OutputError(f"{name} is not a file, a pipe or a terminal.", "Name another file.")
    if not overwrite:
        raise OutputError(
            f"{name} already exists.", "Use --overwrite to replace it, or name another file."
        )


class _File(Protocol):
    stream: BinaryIO

    def complete(self) -> None: ...
    def publish(self) -> None: ...
    def discard(self) -> None: ...


class _Direct:
    """A device, pipe or descriptor, which gets the bytes at once."""

    def __init__(self, name: str) -> None:
        descriptor = _descriptor(name)
        try:
            if descriptor is None:
                number = os.open(name, os.O_WRONLY | open_flags("O_NOCTTY"))
            else:
                number = os.dup(descriptor)
        except OSError as error:
            raise in_words(name, error) from error
        self.stream: BinaryIO = io.BufferedWriter(_Raw(number, name))

    def complete(self) -> None:
        self.stream.close()

    def publish(self) -> None:
        pass

    def discard(self) -> None:
        # Closing writes the buffer, so that the reader gets whole rows.
        with suppress(OSError, OutputError):
            self.stream.close()


class _Replacement:
    """A hidden file that will take the name of its target."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._target = Path(name).resolve()
        self._hidden = hidden_path(self._target)
        self._published = False
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | open_flags()
        try:
            self._old_mode = self._target.stat().st_mode if self._target.exists() else None
            self._raw = _Raw(os.open(self._hidden, flags, 0o666), name)
            self._raw.name = os.fspath(self._hidden)  # for SQLite, which opens the file itself
        except OSError as error:
            raise in_words(name, error) from error
        if self._old_mode is not None:  # as if written in place: it keeps its permissions
            mode = stat.S_IMODE(self._old_mode) & 0o777
            copy_mode(self._raw.fileno(), os.fspath(self._hidden), mode)
        self.stream: BinaryIO = io.BufferedWriter(self._raw)

    def complete(self) -> None:
        self.stream.flush()
        try:
            os.fsync(self._raw.fileno())
            self.stream.close()
        except OSError as error:
            raise in_words(self._name, error) from error

    def publish(self) -> None:
        try:
            self._hidden.replace(self._target)
        except OSError as error:
            raise in_words(self._name, error) from error
        self._published = True

    def discard(self) -> None:
        self._raw.close()  # below the buffer, which may not fit on a full disk
        with suppress(OSError):
            if not self._published:
                self._hidden.unlink()
            elif self._old_mode is None:
                self._target.unlink()


class _Raw(io.FileIO):
    """A file whose writes raise OutputError, unlike other code in the block."""

    def __init__(self, descriptor: int, display_name: str) -> None:
        super().__init__(descriptor, "w")
        self.display_name = display_name

    def write(self, data: ReadableBuffer, /) -> int:
        try:
            return super().write(data)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise in_words(self.display_name, error) from error


_ELSEWHERE = "Write to another folder."
_REASONS = {
    errno.ENOSPC: ("there is no space left on the disk", "Free some, or write to another disk."),
    errno.EDQUOT: ("your disk quota is used up", "Free some, or write to another disk."),
    errno.EFBIG: ("the file is larger than allowed there", _ELSEWHERE),
    errno.EACCES: ("permission is denied", "Write to a folder of your own."),
    errno.EPERM: ("permission is denied", "Write to a folder of your own."),
    errno.EROFS: ("the disk is read-only", _ELSEWHERE),
    errno.ENAMETOOLONG: ("the name is too long", "Choose a shorter one."),
    errno.ELOOP: ("its symbolic links form a loop", _ELSEWHERE),
    errno.EISDIR: ("it is the name of a folder", "Choose another name."),
    errno.EBADF: ("nothing is open there", _ELSEWHERE),
}
_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


@contextmanager
def errors_in_words(name: StrPath) -> Iterator[None]:
    """Raise in_words of the system's errors in a block that writes the file of that name.

    Libraries have exceptions of their own for what the system says, whose words they quote.
    """
    try:
        yield
    except OSError as error:
        raise in_words(os.fspath(name), error) from error
    except NasnetError:
        raise
    except Exception as error:
        quoted = [code for code in _DISK if os.strerror(code) in str(error)]
        if not quoted:
            raise
        raise in_words(os.fspath(name), OSError(quoted[0], os.strerror(quoted[0]))) from error


def in_words(name: str, error: OSError) -> OutputError:
    """Return the error to raise when the system cannot write the file that the user calls name."""
    folder = Path(error.filename or name).parent
    if error.errno in (errno.ENOENT, errno.ENOTDIR) and not folder.is_dir():
        reason, remedy = f"there is no folder {folder}", "Create it, or write to another folder."
    elif error.errno == errno.ENOENT:
        reason, remedy = "its unfinished file was removed", "Run again."
    else:
        unknown = (f"the system says {error.strerror!r}", _ELSEWHERE)
        reason, remedy = _REASONS.get(error.errno or 0, unknown)
    return OutputError(f"Cannot write {name}: {reason}.", remedy)
