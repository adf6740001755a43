"""Hidden names to write to, beside the file or folder that is renamed into place when complete.

Whoever looks at the target sees the old one or the new one. An exception removes the hidden file
or folder; a killed process leaves it behind, as .NAME.random.partial.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_SHOWN_BYTES = 200  # of the target's name, which leaves room for the rest in 255


def hidden_path(target: Path) -> Path:
    """Return a new hidden name beside target, on the same file system."""
    return target.with_name(f".{_shown(target)}.{os.urandom(6).hex()}.partial")


@contextmanager
def hidden_file(target: Path) -> Iterator[Path]:
    """Yield a new hidden name beside target, and remove the file of that name at the end.

    The block writes the file and renames it into place.
    """
    file = hidden_path(target)
    try:
        yield file
    finally:
        file.unlink(missing_ok=True)


@contextmanager
def hidden_folder(target: Path) -> Iterator[Path]:
    """Create an empty hidden folder beside target and remove it, with its content, at the end.

    The block renames the folder, or what is in it, into place. Raises OSError when the folder or
    its missing parents cannot be created.
    """
    folder = hidden_path(target)
    try:
        folder.mkdir(parents=True)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def leftovers(target: Path) -> list[Path]:
    """Return what killed processes that wrote target left behind.

    Only for callers who know that no other process is writing target. Empty where the name is too
    long to tell its leftovers from those of similar names.
    """
    if _shown(target) != target.name:
        return []
    pattern = re.compile(rf"\.{re.escape(target.name)}\.[0-9a-f]+\.partial")
    with suppress(OSError):
        return [path for path in target.parent.iterdir() if pattern.fullmatch(path.name)]
    return []


def _shown(target: Path) -> str:
    return os.fsencode(target.name)[:_SHOWN_BYTES].decode(errors="ignore")
