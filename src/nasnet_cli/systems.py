"""System calls that not every system has, each with a way around it.

Linux has all of them. macOS has no memfd_create, prctl and /proc, Windows no fcntl, resource,
pread, descriptors in messages and most flags of open. Nothing else in the package may name them
(tests/test_systems.py).
"""

from __future__ import annotations

import contextlib
import io
import os
import signal
import stat
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType
from typing import BinaryIO, Literal

fcntl: ModuleType | None
resource: ModuleType | None
try:
    import fcntl
except ImportError:
    fcntl = None
try:
    import resource
except ImportError:
    resource = None

_PR_SET_PDEATHSIG = 1
_PARENT_SECONDS = 1.0
_HELD = "nasnet-held-"

# mallopt's parameter. Pillow allocates images in blocks of up to 16 MB.
_M_MMAP_THRESHOLD, _LARGE_BLOCK_BYTES = -3, 8 << 20
# A thread keeps so many free bytes, or the system would clear the same memory for every image.
_M_TRIM_THRESHOLD, _KEPT_BYTES = -1, 16 << 20

_reading = threading.Lock()


def can_send_descriptors() -> bool:
    """Return whether a process can pass open files to another."""
    import socket

    return hasattr(socket, "send_fds") and hasattr(socket, "AF_UNIX")


def open_flags(
    *names: Literal["O_CLOEXEC", "O_DIRECTORY", "O_NOCTTY", "O_NOFOLLOW", "O_NONBLOCK"],
) -> int:
    """Return the flags of os.open with these names that there are. Files are always binary."""
    flags = getattr(os, "O_BINARY", 0)
    for name in names:
        flags |= getattr(os, name, 0)
    return flags


def with_slashes(path: str) -> str:
    """Return a path with slashes between its parts, which Windows takes too."""
    return path.replace(os.sep, "/")


def can_enter(folder: str) -> bool:
    """Return whether this user may look at the entries of a folder."""
    return os.access(folder, os.X_OK, effective_ids=os.access in os.supports_effective_ids)


def link_or_copy(source: Path, target: Path) -> None:
    """Make target another name of a file or folder, or a copy where links need rights or fail.

    Raises OSError.
    """
    try:
        target.symlink_to(source)
    except OSError:
        import shutil

        (shutil.copytree if source.is_dir() else shutil.copyfile)(source, target)


def sync_file(path: str | os.PathLike[str]) -> None:
    """Wait until the bytes of a file are on disk, where that can be asked for. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError:
        if os.name != "nt":  # which does so for files opened to write only
            raise
    finally:
        os.close(descriptor)


def is_mine(status: os.stat_result) -> bool:
    """Return whether a file is this user's, where the system tells."""
    return not has_owners() or status.st_uid == os.geteuid()


def has_owners() -> bool:
    """Return whether the system tells whose files are."""
    return hasattr(os, "geteuid")


def only_ours(status: os.stat_result) -> bool:
    """Return whether only this user and root can write to a file, where the system tells."""
    if not has_owners():
        return True
    is_ours = is_mine(status) or status.st_uid == 0
    return is_ours and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def read_at(descriptor: int, size: int, offset: int) -> bytes:
    """Return up to size bytes of a file, whose position stays. Raises OSError."""
    if hasattr(os, "pread"):
        return os.pread(descriptor, size, offset)
    with _reading:
        position = os.lseek(descriptor, 0, os.SEEK_CUR)
        os.lseek(descriptor, offset, os.SEEK_SET)
        try:
            return os.read(descriptor, size)
        finally:
            os.lseek(descriptor, position, os.SEEK_SET)


def memory_file() -> BinaryIO:
    """Return a new file in memory, or a temporary one. Raises OSError."""
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("nasnet"), "w+b")
    import tempfile

    return tempfile.TemporaryFile()


@contextmanager
def temporary_files(count: int) -> Iterator[list[Path]]:
    """Yield the paths of new, empty files that are gone after the block.

    Where the system has paths for open files, they have no others, and are also gone when the
    process is killed. Raises OSError.
    """
    import tempfile

    with contextlib.ExitStack() as stack:
        if Path("/proc/self/fd").exists():
            made = [
                stack.enter_context(tempfile.TemporaryFile(prefix="nasnet-")) for _ in range(count)
            ]
            yield [Path(f"/proc/self/fd/{file.fileno()}") for file in made]
            return
        folder = stack.enter_context(temporary_folder())
        paths = [folder / str(number) for number in range(count)]
        for path in paths:
            path.touch()
        yield paths


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """Yield a new folder, which is removed after the block: by a later call, if we are killed.

    Raises OSError.
    """
    import tempfile

    place = Path(tempfile.gettempdir())
    remove_abandoned(place.glob(f"{_HELD}*"))
    folder = place / f"{_HELD}{os.urandom(8).hex()}"
    with held_folder(folder, mode=0o700):
        yield folder


@contextmanager
def held_folder(folder: Path, mode: int = 0o777) -> Iterator[None]:
    """Make a folder, and remove it after the block: remove_abandoned does, if we are killed.

    This process holds a lock on it, where there are such locks. The block may rename it. Raises
    OSError.
    """
    import shutil

    new = folder.with_name(f".{folder.name}.new")
    try:
        new.mkdir(mode, parents=True)
        with _flock(new):
            new.rename(folder)  # which has its name only once it is held
            yield
    finally:
        for path in (new, folder):
            shutil.rmtree(path, ignore_errors=True)


def remove_abandoned(folders: Iterable[Path]) -> None:
    """Remove those of held_folder's folders that no process holds any more."""
    import shutil

    for folder in folders:
        with contextlib.suppress(OSError), _flock(folder) as is_held:
            # Without locks, it cannot be told whose run has ended.
            if is_held and is_mine(folder.lstat()):
                shutil.rmtree(folder)


@contextmanager
def _flock(folder: str | Path) -> Iterator[bool]:
    """Hold a lock on a folder; yield whether the system, and the file system, has such locks.

    Raises BlockingIOError when another process holds it, NotADirectoryError for a file.
    """
    if fcntl is None:
        yield False
        return
    descriptor = os.open(folder, os.O_RDONLY | open_flags("O_DIRECTORY", "O_CLOEXEC"))
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            is_held = True
        except BlockingIOError:
            raise
        except OSError:  # as on some networks' file systems
            is_held = False
        yield is_held
    finally:
        os.close(descriptor)


def opened_again(file: BinaryIO) -> BinaryIO:
    """Return another stream of an open file, with a position of its own. Raises OSError."""
    name = Path(f"/proc/self/fd/{file.fileno()}")
    if name.exists():
        return name.open("rb")
    content = io.BytesIO()
    while part := read_at(file.fileno(), 1 << 20, content.tell()):
        content.write(part)
    content.seek(0)
    return content


def copy_mode(descriptor: int, path: str, mode: int) -> None:
    """Give an open file of this user, which lies at path, permissions. Raises OSError.

    Where files have none of their own, as on FAT, nothing happens.
    """
    with suppress(PermissionError):
        if hasattr(os, "fchmod"):
            os.fchmod(descriptor, mode)
        else:
            Path(path).chmod(mode)


def sync_folder(folder: str | os.PathLike[str]) -> None:
    """Wait until the names in a folder are on disk, where that can be asked for. Raises OSError."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def locked_folder(folder: str, locks: Path) -> Iterator[None]:
    """Keep other processes out of a folder, as far as they ask here too.

    Where folders cannot be locked, a file in the folder locks is. Raises BlockingIOError when
    another process is in it, NotADirectoryError for a file.
    """
    with _lock_file(folder, locks) if fcntl is None else _flock(folder):
        yield


@contextmanager
def _lock_file(folder: str, locks: Path) -> Iterator[None]:
    import hashlib

    from filelock import FileLock, Timeout

    os.scandir(folder).close()
    name = hashlib.sha256(os.fsencode(os.path.realpath(folder))).hexdigest()[:16]
    locks.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = FileLock(locks / f"folder-{name}.lock")
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise BlockingIOError from None
    try:
        yield
    finally:
        lock.release()


def available_memory() -> int | None:
    """Return how many bytes of memory are free, or that the system would make free.

    Those of the control group, if it has fewer. None where the system does not say.
    """
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        sizes = [1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable")]
    except (OSError, ValueError, IndexError):
        return None
    with contextlib.suppress(OSError, ValueError):  # no such limit
        group = Path("/sys/fs/cgroup")
        limit, used = ((group / f"memory.{name}").read_text() for name in ("max", "current"))
        sizes.append(int(limit) - int(used))
    return max(0, min(sizes)) if sizes else None


def return_freed_memory() -> None:
    """Make glibc return large blocks to the system as soon as they are freed.

    Otherwise the first large image raises its threshold, and each thread keeps its freed blocks:
    a gigabyte for eight threads.
    """
    import ctypes

    with contextlib.suppress(OSError, AttributeError, TypeError):  # another C library
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_MMAP_THRESHOLD, _LARGE_BLOCK_BYTES)
        mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)


def end_with_parent() -> None:
    """End this process when its parent ends, even while it computes."""
    import ctypes

    try:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    except (OSError, AttributeError, TypeError):
        parent = os.getppid()
        threading.Thread(target=_watch_parent, args=(parent,), daemon=True).start()


def _watch_parent(parent: int) -> None:
    never = threading.Event()
    while os.getppid() == parent:
        never.wait(_PARENT_SECONDS)
    os._exit(1)


def end_first_without_memory() -> None:
    """Have the system end this process before others when memory is short, without a core file."""
    if resource is not None:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")


def limit_data(count: int) -> None:
    """Limit the bytes of data that this process may allocate. Address space alone costs nothing."""
    # macOS has the limit and does not keep to it.
    if resource is None or sys.platform == "darwin":
        return
    hard_limit = resource.getrlimit(resource.RLIMIT_DATA)[1]
    if hard_limit == resource.RLIM_INFINITY or count <= hard_limit:
        resource.setrlimit(resource.RLIMIT_DATA, (count, hard_limit))
