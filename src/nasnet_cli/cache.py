"""The tool's own cache folder, and files in it that heal when they are broken."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from pathlib import Path

_DIGEST_SIZE = hashlib.sha256().digest_size


def cache_folder() -> Path:
    """NASNET_CACHE_DIR, else nasnet in the user's cache folder."""
    if named := os.environ.get("NASNET_CACHE_DIR"):
        return Path(named)
    base = os.environ.get("XDG_CACHE_HOME")
    # The specification of these folders says that a relative path is to be ignored.
    root = Path(base) if base and Path(base).is_absolute() else Path.home() / ".cache"
    return root / "nasnet"


def load(path: Path) -> bytes | None:
    """What was stored at path, or None where it is missing or broken."""
    try:
        content = path.read_bytes()
    except OSError:
        return None
    digest, data = content[:_DIGEST_SIZE], content[_DIGEST_SIZE:]
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
