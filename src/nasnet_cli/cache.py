"""The tool's own cache folder, and files in it that heal when they are broken.

    modules/NAME-DIGEST/       a module that was fetched or converted, whole or not there
    modules/NAME-DIGEST.json   where it is from, its files and checksums (modules/store.py)
    partial/                   downloads that are under way, or that wait to be gone on with
    locks/                     empty files: who holds one fetches the module of that name
    compiled/*.blob            modules that OpenVINO has compiled for this processor
    scanned/                   an empty file for each module that was found to do nothing but compute

DIGEST stands for where the module is from. Everything here can be removed at any time, but for
what a running process uses; `nasnet cache` lists, checks and removes it.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from nasnet_cli.errors import ModelError


class CacheError(ModelError):
    """The cache, or the disk that it is on, can't be written: trying elsewhere won't help."""


_DIGEST_SIZE = hashlib.sha256().digest_size


def cache_folder() -> Path:
    """NASNET_CACHE_DIR, else nasnet in the user's cache folder."""
    if named := os.environ.get("NASNET_CACHE_DIR"):
        return Path(named)
    base = os.environ.get("XDG_CACHE_HOME")
    # The specification of these folders says that a relative path is to be ignored.
    root = Path(base) if base and Path(base).is_absolute() else Path.home() / ".cache"
    return root / "nasnet"


def modules_folder() -> Path:
    """Where modules are kept."""
    return cache_folder() / "modules"


def partial_folder() -> Path:
    """Where downloads lie until they are whole."""
    return cache_folder() / "partial"


def compiled_folder() -> Path:
    """Where compiled modules are kept."""
    return cache_folder() / "compiled"


def scanned_folder() -> Path:
    """Where it is kept which modules were found to be safe."""
    return cache_folder() / "scanned"


@contextlib.contextmanager
def lock(name: str, waiting: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Holds the lock of that name in the cache; waiting is called if another process has it.

    The system frees it when its holder ends, however that happens. Its file stays: two processes
    could each hold a lock of one name if one of them removed it. Raises ModelError when the cache
    can't be written or its disk has no locks.
    """
    path = cache_folder() / "locks" / f"{name}.lock"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise unusable(error) from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waiting()
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError as error:
            raise unusable(error) from error
        yield
    finally:
        os.close(descriptor)


def unusable(error: OSError) -> CacheError:
    """The error to raise when something can't be written into the cache."""
    return CacheError(
        f"The cache {cache_folder()} can't be written: {error.strerror or error}.",
        "Free some space, or name another folder with the environment variable NASNET_CACHE_DIR.",
    )


def load(path: Path) -> memoryview | None:
    """What was stored at path, or None where it is missing or broken.

    The memory is the caller's own and can be written: OpenVINO shares no other.
    """
    try:
        with path.open("rb") as file:
            content = bytearray(os.fstat(file.fileno()).st_size)
            file.readinto(content)
    except OSError:
        return None
    digest, data = content[:_DIGEST_SIZE], memoryview(content)[_DIGEST_SIZE:]
    return data if hashlib.sha256(data).digest() == digest else None


def store(path: Path, data: bytes) -> None:
    """Stores data at path, whole or not at all.

    A cache that can't be written (a read-only home, a full disk) costs time and nothing else, so
    that no error comes of it.
    """
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".part-")
        try:
            with os.fdopen(handle, "wb") as out:
                out.write(hashlib.sha256(data).digest())
                out.write(data)
            Path(temporary).replace(path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
