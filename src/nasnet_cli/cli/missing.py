"""The error for a command line of which no path exists, with a suggestion."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from nasnet_cli.errors import InputError, NasnetError
from nasnet_cli.images.listing import look_at, unexpanded
from nasnet_cli.images.source import is_remote, member_of
from nasnet_cli.results.text import shortened

_MOST_NAMES = 10_000


def check_some_exist(paths: Sequence[str]) -> None:
    """Raise NasnetError where all of one or more paths name files of this machine, and none exists."""
    if not paths or any(_may_exist(path) for path in paths):
        return
    if len(paths) > 1:
        problem = f"None of {shortened(paths, 3)} exists."
    else:
        problem = f"{paths[0] or 'A path that is empty'} does not exist."
    suggestions = (suggestion for path in paths for suggestion in _suggestions(path))
    raise NasnetError(problem, next(suggestions, "Check the name."))


def _may_exist(path: str) -> bool:
    if path == "-" or is_remote(path) or member_of(path) is not None:
        return True
    status = look_at(path)
    return not isinstance(status, InputError) or status.kind != "not_found"


def _suggestions(path: str) -> Iterator[str]:
    """Yield what may be the matter with a path that does not exist, the likeliest first."""
    expanded = os.path.expanduser(path)  # noqa: PTH111 - pathlib's raises for an unknown user
    if hint := unexpanded(path):
        yield f"{hint} Use {expanded}." if expanded != path else hint
        return
    existing = Path(path)
    missing = existing
    while not _exists(existing) and existing != existing.parent:
        missing, existing = existing, existing.parent
    if missing.is_symlink():
        yield f"{missing} is a link to {missing.readlink()}, which does not exist."
    elif existing.is_dir() and (similar := _similar_name(existing, missing.name)):
        rest = Path(path).relative_to(missing)
        yield f"Did you mean {existing / similar / rest}?"
    elif missing != Path(path):
        yield f"There is no {missing}: check the name, or whether a disk is mounted."
    elif not Path(path).is_absolute():
        yield "Check the name, and the folder that you are in."


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def _similar_name(folder: Path, name: str) -> str | None:
    """Return the name in a folder that is most like a missing one, if one is."""
    from difflib import get_close_matches
    from unicodedata import normalize

    def plain(text: str) -> str:
        return normalize("NFC", text).casefold()

    try:
        with os.scandir(folder) as entries:
            names = {plain(entry.name): entry.name for entry in islice(entries, _MOST_NAMES)}
    except OSError:
        return None
    found = get_close_matches(plain(name), names, n=1, cutoff=0.7)
    return names[found[0]] if found else None
