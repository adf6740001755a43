"""What other users may do: folders that they may enter, and this process as one of them."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

# The system's, found before the tests have one of their own.
TEMPORARY = Path(tempfile.gettempdir())
NOBODY = 65534


def let_others_enter(folder: Path) -> None:
    """Let other users enter a folder, and those above it up to one that they may enter."""
    for each in (folder, *folder.parents):
        if each.stat().st_mode & 0o001:
            return
        each.chmod(0o755)


@contextmanager
def as_nobody() -> Iterator[Callable[[], None]]:
    """Yield a function that drops root's rights until the block ends."""
    user = os.geteuid()
    try:
        yield lambda: os.seteuid(NOBODY) if user == 0 else None
    finally:
        os.seteuid(user)
