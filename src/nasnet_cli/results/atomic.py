"""Files that appear whole or not at all.

What is written goes to a hidden file beside the target, and takes the target's name only when all
is on disk. Whoever looks at the target sees the old file or the new one. An exception removes the
hidden file; kill -9 leaves it behind (.NAME.random.partial), and nothing else.
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
from nasnet_cli.errors import OutputError
from nasnet_cli.results.meta import META_SUFFIX

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

StrPath = str | os.PathLike[str]


@contextmanager
def open_output(path: StrPath, *, overwrite: bool) -> Iterator[BinaryIO]:
    """A binary stream whose bytes become the file path when the block ends well.

    A symlink is followed: the file that it points to is replaced. A character device, a pipe or a
    descriptor (/dev/null, /dev/stdout, a named pipe, bash's >(…)) is written to directly, and
    needs no overwrite. Raises OutputError, before the block, if path exists and overwrite is
    false, or cannot be written; in the block or at its end, if the disk is full or the folder
    gone. A pipe whose reader has left raises BrokenPipeError, as everywhere.
    """
    with open_outputs(path, overwrite=overwrite) as (stream,):
        yield stream


@contextmanager
def open_outputs(
    result: StrPath, *companions: StrPath, overwrite: bool
) -> Iterator[list[BinaryIO]]:
    """Like open_output, for a result and the files that belong to it: a stream for each, in order.

    All are written before the first takes its name, and the result takes its name last: whoever
    sees the result finds its companions. An exception leaves none of them. Where the result is
    written to directly, there is no place beside it, and the companions' bytes are dropped.

    A companion OUT.meta.json whose result is gone is replaced without being asked: people delete
    a result and run again.
    """
    files: list[_File] = []
    try:
        if is_direct(result):
            files = [_Direct(os.fspath(result)), *(_Direct(os.devnull) for _ in companions)]
        else:
            names = [os.fspath(path) for path in (result, *companions)]
            for name in names:
                check_free(name, overwrite or (name != names[0] and name.endswith(META_SUFFIX)))
            for name in names:
                files.append(_Replacement(name))
        yield [file.stream for file in files]
        for file in files:
            file.complete()
        if not (overwrite or is_direct(result)):  # another job may have been quicker
            check_free(os.fspath(result), overwrite)
        for file in reversed(files):
            file.publish()
    except BaseException:
        for file in files:
            file.discard()
        raise


def remove_leftovers(path: Path) -> None:
    """Removes the hidden files of writers of path that were killed.

    For those who know that no one else is writing path now.
    """
    for hidden in leftovers(path.resolve()):
        with suppress(OSError):
            hidden.unlink(missing_ok=True)


def is_direct(path: StrPath) -> bool:
    """Whether path is a character device, a pipe or a descriptor: nothing to put in place."""
    if _descriptor(os.fspath(path)) is not None:
        return True
    try:
        mode = Path(path).stat().st_mode
    except OSError:
        return False
    return stat.S_ISCHR(mode) or stat.S_ISFIFO(mode)


def _descriptor(name: str) -> int | None:
    # Opened by name, /dev/stdout is a file of its own when it stands for one: `> file` would be
    # cut to nothing and `>> file` overwritten. So it is the descriptor that is written to.
    if match := re.fullmatch(r"/(?:dev|proc/self)/fd/(\d{1,9})", name):
        return int(match[1])
    return {"/dev/stdout": 1, "/dev/stderr": 2}.get(name)


def check_free(name: str, overwrite: bool) -> None:
    """Raises OutputError when name can't be a new file, or is there and overwrite is false."""
    if name.endswith(os.sep):
        raise OutputError(f"{name} names a folder, not a file.", "Give the file a name too.")
    try:
        mode = Path(name).stat().st_mode
    except FileNotFoundError:
        return
    except OSError as error:
        raise in_words(name, error) from error
    if stat.S_ISDIR(mode):
        raise OutputError(f"{name} is a folder, not a file.", "Name a file inside of it.")
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
    """A device, pipe or descriptor that takes the bytes as they come."""

    def __init__(self, name: str) -> None:
        descriptor = _descriptor(name)
        try:
            if descriptor is None:
                number = os.open(name, os.O_WRONLY | os.O_NOCTTY)
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
        # Closing writes what is buffered, so that the reader gets whole rows.
        with suppress(OSError, OutputError):
            self.stream.close()


class _Replacement:
    """A hidden file that is to take the name of another."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._target = Path(name).resolve()
        self._hidden = hidden_path(self._target)
        self._published = False
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        try:
            self._old_mode = self._target.stat().st_mode if self._target.exists() else None
            self._raw = _Raw(os.open(self._hidden, flags, 0o666), name)
        except OSError as error:
            raise in_words(name, error) from error
        if self._old_mode is not None:  # as if written in place: closed to whom it was closed
            os.fchmod(self._raw.fileno(), stat.S_IMODE(self._old_mode) & 0o777)
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
        self._raw.close()  # under the buffer, so that nothing more goes to a disk that is full
        with suppress(OSError):
            if not self._published:
                self._hidden.unlink()
            elif self._old_mode is None:
                self._target.unlink()


class _Raw(io.FileIO):
    """A file whose errors are in words, where they happen: others in the block are not its own."""

    def __init__(self, descriptor: int, shown: str) -> None:
        super().__init__(descriptor, "w")
        self._shown = shown

    def write(self, data: ReadableBuffer, /) -> int:
        try:
            return super().write(data)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise in_words(self._shown, error) from error


_ELSEWHERE = "Write to another place."
_REASONS = {
    errno.ENOSPC: ("there is no space left on the disk", "Free some, or write to another disk."),
    errno.EDQUOT: ("your quota of the disk is used up", "Free some, or write to another disk."),
    errno.EFBIG: ("the file is larger than allowed there", _ELSEWHERE),
    errno.EACCES: ("permission is denied", "Write to a folder that is yours."),
    errno.EPERM: ("permission is denied", "Write to a folder that is yours."),
    errno.EROFS: ("the disk is read-only", _ELSEWHERE),
    errno.ENAMETOOLONG: ("the name is too long", "Choose a shorter one."),
    errno.ELOOP: ("its symbolic links go round in a circle", _ELSEWHERE),
    errno.EISDIR: ("a folder has that name", "Choose another name."),
    errno.EBADF: ("nothing is open there", _ELSEWHERE),
}


def in_words(name: str, error: OSError) -> OutputError:
    """The error to raise when the system refuses to write what the user calls name."""
    folder = Path(error.filename or name).parent
    if error.errno in (errno.ENOENT, errno.ENOTDIR) and not folder.is_dir():
        reason, remedy = f"there is no folder {folder}", "Create it, or write to another place."
    elif error.errno == errno.ENOENT:
        reason, remedy = "its unfinished file was taken away", "Run again."
    else:
        unknown = (f"the system says {error.strerror!r}", _ELSEWHERE)
        reason, remedy = _REASONS.get(error.errno or 0, unknown)
    return OutputError(f"Cannot write {name}: {reason}.", remedy)
