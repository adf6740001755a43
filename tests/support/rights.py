"""Rights of other users: a folder that they may enter, and this process as one of them."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

# The system's, found before the tests have one of their own.
TEMPORARY = Path(tempfile.gettempdir())
NOBODY = 65534


@contextmanager
def public_folder() -> Iterator[Path]:
    """Yield a folder that others may enter: pytest's become private whenever a pytest starts."""
    with tempfile.TemporaryDirectory(prefix="nasnet-", dir=TEMPORARY) as name:
        folder = Path(name).resolve()
        folder.chmod(0o755)
        yield folder


@contextmanager
def as_nobody() -> Iterator[Callable[[], None]]:
    """Yield a function that drops root's rights until the block ends."""
    user = os.geteuid()
    try:
        yield lambda: os.seteuid(NOBODY) if user == 0 else None
    finally:
        os.seteuid(user)
