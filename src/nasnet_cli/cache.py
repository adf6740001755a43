"""The cache folder of nasnet, and files in it that are ignored when they are damaged.

    modules/NAME-DIGEST/       a model that was fetched, converted or copied, complete or not there
    modules/NAME-DIGEST.json   its source, files and checksums (models/hub/store.py)
    partial/                   unfinished downloads
    locks/                     empty files: a process holds one while it fetches that model
    compiled/*.blob            models that OpenVINO has compiled for this processor
    scanned/                   an empty file for each model that passed the safety check, and what
                               was read from the graphs of models, by their digests
    features/                  vectors of training images, by model and folder (cli/training_images.py)
    downloads/                 files that the user has fetched elsewhere (models/hub/fetch.py)
    introduced                 an empty file, as old as the last note about the built-in model

DIGEST identifies the source. Anything here can be removed at any time unless a running process
uses it; `nasnet cache` lists, verifies and removes it.

What others could have written is not used: neither a folder that they own or can write to, nor such
a file. A remembered scan or a compiled model of theirs would stand for one that was checked.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

from nasnet_cli import systems
from nasnet_cli.atomic import hidden_file
from nasnet_cli.errors import ModelError
from nasnet_cli.kept_files import open_kept

_DAY = 24 * 60 * 60
_DIGEST_SIZE = hashlib.sha256().digest_size


class CacheError(ModelError):
    """The cache cannot be written; another source for the same model would not help."""


def cache_folder() -> Path:
    """Return NASNET_CACHE_DIR if it is set, else nasnet in the user's cache folder."""
    if folder := os.environ.get("NASNET_CACHE_DIR"):
        return Path(folder)
    base = os.environ.get("XDG_CACHE_HOME")
    # The XDG specification says to ignore a relative path.
    if base and Path(base).is_absolute():
        return Path(base, "nasnet")
    try:
        return Path.home() / ".cache" / "nasnet"
    except RuntimeError:  # neither HOME nor an entry in the list of users: nothing can be there
        return Path(os.devnull, "nasnet")


def subfolder(
    name: Literal["modules", "partial", "downloads", "locks", "compiled", "scanned", "features"],
) -> Path:
    """Return a folder in the cache, there or not; the table above says what it holds."""
    return cache_folder() / name


def distrust() -> str | None:
    """Return a sentence that says why the cache is not used; None where it is."""
    for folder in (cache_folder(), subfolder("compiled"), subfolder("scanned"), subfolder("locks")):
        if not _is_own(folder):
            return (
                f"The cache is not used, because others can write to {folder}. Set "
                "NASNET_CACHE_DIR to a folder of your own, or change its owner or permissions."
            )
    return None


def _is_own(folder: Path) -> bool:
    """Return whether only this user and root can write to a folder, or it does not exist."""
    try:
        status = folder.stat()
    except OSError:
        return True  # there is nothing in it that could be used
    if systems.only_ours(status):
        return True
    if systems.is_mine(status) and "NASNET_CACHE_DIR" not in os.environ:
        # Made by an earlier version, by the user's umask. The files in it are looked at one by one.
        with contextlib.suppress(OSError):
            folder.chmod(0o700)
            return True
    return False


def make_folder(folder: Path) -> None:
    """Create a folder of the cache, for this user alone. Raises OSError."""
    cache_folder().mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.mkdir(mode=0o700, exist_ok=True)


def is_first_today() -> bool:
    """Return True at most once in 24 hours, or always where the cache cannot be written."""
    path = cache_folder() / "introduced"
    with contextlib.suppress(OSError):
        if 0 <= time.time() - path.stat().st_mtime < _DAY:
            return False
    with contextlib.suppress(OSError):
        cache_folder().mkdir(mode=0o700, parents=True, exist_ok=True)
        path.touch()
    return True


@contextlib.contextmanager
def lock(name: str, waiting: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Hold the lock of that name in the cache; waiting is called if another process holds it.

    The system releases it when its holder ends, even by a kill. Raises CacheError when the cache
    cannot be written or trusted, or its disk has no locks.
    """
    if reason := distrust():
        raise CacheError(*reason.split(". ", 1))
    # Importing it takes 50 ms, and only what has to be fetched or converted needs a lock.
    from filelock import FileLock, Timeout

    path = subfolder("locks") / f"{name}.lock"
    file_lock = FileLock(path)
    try:
        make_folder(path.parent)
        try:
            file_lock.acquire(timeout=0)
        except Timeout:
            waiting()
            file_lock.acquire()
    except OSError as error:
        raise cannot_write(error) from error
    try:
        yield
    finally:
        file_lock.release()


def cannot_write(error: OSError) -> CacheError:
    """Return the error to raise when a file cannot be written to the cache."""
    return CacheError(
        f"Cannot write to the cache {cache_folder()}: {error.strerror or error}.",
        "Free some space or make it writable, or set NASNET_CACHE_DIR to another folder.",
    )


def load(path: Path) -> memoryview | None:
    """Return what was stored at path, or None if it is missing, damaged or not to be trusted.

    The memory belongs to the caller and is writable: OpenVINO shares no other.
    """
    if not (_is_own(path.parent) and _is_own(path.parent.parent)):
        return None
    try:
        with open_kept(path) as file:
            status = os.fstat(file.fileno())
            if not systems.only_ours(status):
                return None
            content = bytearray(status.st_size)
            file.readinto(content)
    except OSError:
        return None
    digest, data = content[:_DIGEST_SIZE], memoryview(content)[_DIGEST_SIZE:]
    return data if hashlib.sha256(data).digest() == digest else None


def store(path: Path, data: bytes) -> None:
    """Store data at path, all of it or nothing.

    Ignores errors: a cache that cannot be written (a read-only home, a full disk) only costs time.
    Stores nothing where others could change it.
    """
    if distrust():
        return
    with contextlib.suppress(OSError):
        make_folder(path.parent)
        with hidden_file(path) as partial:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | systems.open_flags("O_CLOEXEC")
            with os.fdopen(os.open(partial, flags, 0o600), "wb") as file:
                file.write(hashlib.sha256(data).digest())
                file.write(data)
            partial.replace(path)
