"""Hidden names to write to, beside the file or folder that is renamed into place when complete.

Whoever looks at the target sees the old one or the new one. An exception or a signal removes the
hidden file or folder; a killed process leaves it behind, as .NAME.random.partial. Such a folder is
removed by the next one for the same target.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from nasnet_cli.interruption import at_interruption
from nasnet_cli.systems import held_folder, remove_abandoned

_TRIES = 20
_SHOWN_BYTES = 200  # of the target's name, which leaves room for the rest in 255
_HIDDEN = re.compile(r"\.(.+)\.[0-9a-f]+\.partial", re.DOTALL)


def hidden_path(target: Path) -> Path:
    """Return a new hidden name beside target, on the same file system."""
    path = target.with_name(f".{_shown(target)}.{os.urandom(6).hex()}.partial").absolute()
    at_interruption(lambda: _remove(path))
    return path


def _remove(path: Path) -> None:
    """Remove a hidden file or folder, although another thread may still write to it."""
    for _ in range(_TRIES):
        try:
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
            return
        except OSError:
            continue


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

    The block renames the folder, or what is in it, into place. Folders that killed processes left
    there are removed too. Raises OSError when the folder or its missing parents cannot be created.
    """
    remove_abandoned(leftovers(target))
    folder = hidden_path(target)
    with held_folder(folder):
        yield folder


def is_unfinished(name: str) -> bool:
    """Return whether a file's name is that of an output being written, or of its resume state."""
    return name.startswith(".") and name.endswith((".partial", ".resume", ".resume-journal"))


def leftovers(*targets: Path) -> list[Path]:
    """Return what killed processes that wrote the targets left behind.

    Only for callers who know that no other process is writing them, or see whose they are. Leaves
    out those of names too long to be told from similar ones.
    """
    names: dict[Path, set[str]] = {}
    for target in targets:
        if _shown(target) == target.name:
            names.setdefault(target.parent, set()).add(target.name)
    found = []
    for folder, known in names.items():
        with suppress(OSError):
            for path in folder.iterdir():
                match = _HIDDEN.fullmatch(path.name)
                if match and match[1] in known:
                    found.append(path)
    return found


def _shown(target: Path) -> str:
    raw = os.fsencode(target.name)
    if len(raw) <= _SHOWN_BYTES:
        return target.name
    return raw[:_SHOWN_BYTES].decode(errors="ignore")
