"""Files that others can change or replace while they are checked, told from those that they can't."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from nasnet_cli import systems

_MAX_LINKS = 40  # as Linux has it


def is_out_of_reach(path: Path) -> bool:
    """Return whether only this user and root can change what is at a path, or replace it.

    Every folder and link on the way counts, and all that is in a folder. A folder that only this
    user can enter protects what is in it. Raises OSError where there is nothing.
    """
    if not systems.has_owners():
        return True
    return all(_holds(folder, entry) for folder, entry in _way(path)) and _is_ours(path)


def _way(path: Path) -> Iterator[tuple[str, str]]:
    """Yield each folder on the way to a path, and the entry in it: a folder, a link or a file."""
    parts = os.fspath(path if path.is_absolute() else Path.cwd() / path).split("/")[::-1]
    folder, links = "/", 0
    while parts:
        part = parts.pop()
        if part == "..":
            folder = os.path.dirname(folder)  # noqa: PTH120 - no link is left in it
        if part in ("", ".", ".."):
            continue
        entry = f"{folder.rstrip('/')}/{part}"
        yield folder, entry
        try:
            target = os.readlink(entry)  # noqa: PTH115 - it may end in a slash
        except OSError:  # not a link
            folder = entry
            continue
        links += 1
        if links > _MAX_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), os.fspath(path))
        parts += target.split("/")[::-1]
        folder = "/" if target.startswith("/") else folder


def _holds(folder: str, entry: str) -> bool:
    """Return whether others can't put something else in the place of an entry of a folder."""
    status = os.lstat(folder)
    if systems.only_ours(status):
        return True
    if status.st_mode & stat.S_ISVTX and _has_our_owner(status):  # as /tmp is
        return _has_our_owner(os.lstat(entry))
    return _has_our_owner(os.lstat(entry)) and _is_private(folder)


def _is_ours(path: Path) -> bool:
    """Return whether others can change neither a file nor, for a folder, anything in it."""
    status = path.stat()
    if not systems.only_ours(status) and not (
        _has_our_owner(status) and _is_private(os.path.realpath(path))
    ):
        return False
    if not stat.S_ISDIR(status.st_mode):
        return True
    return all(
        is_out_of_reach(entry) if entry.is_symlink() else _is_ours(entry)
        for entry in path.iterdir()
    )


def _is_private(folder: str) -> bool:
    """Return whether others can't enter a folder, or one above it."""
    for place in (Path(folder), *Path(folder).parents):
        status = place.stat()
        if systems.is_mine(status) and stat.S_ISDIR(status.st_mode) and not status.st_mode & 0o011:
            return True
    return False


def _has_our_owner(status: os.stat_result) -> bool:
    return systems.is_mine(status) or status.st_uid == 0
