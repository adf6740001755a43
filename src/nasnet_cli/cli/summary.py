"""Errors and skipped files by kind, as the last line of a command has them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from nasnet_cli.errors import ErrorKind
from nasnet_cli.results.text import counted, shortened

Kind = TypeVar("Kind", bound=str)

_REMEDIES: dict[ErrorKind, str] = {
    "not_found": "check the names",
    "unreadable": "check permissions and disks",
    "not_an_image": "leave them out",
    "truncated": "copy them again",
    "too_large": "raise --max-pixels or --max-bytes",
    "unsupported": "convert them to JPEG or PNG",
    "decode_failed": "restore them from a backup",
    "archive": "unpack the archives, or pack them again",
    "network": "check the connection, and run again",
    "timeout": "run again",
    "crashed": "run again with fewer --workers",
}
_MOST_KINDS = 8


def errors_by_kind(kinds: Mapping[ErrorKind, int]) -> str:
    """Return errors with their remedies: "3 errors: 2 truncated (copy them again), 1 archive (…)"."""
    parts = []
    for kind, count in _by_count(kinds):
        remedy = _REMEDIES.get(kind)  # other versions may have other kinds
        parts.append(f"{count:,} {kind}" + (f" ({remedy})" if remedy else ""))
    return f"{counted(sum(kinds.values()), 'error')}: {', '.join(parts)}"


def and_errors(kinds: Mapping[ErrorKind, int]) -> str:
    """Return errors by kind as the last clause of a sentence: "; 3 errors: …", or nothing."""
    return f"; {errors_by_kind(kinds)}" if kinds else ""


def skips_by_kind(skipped: int, kinds: Mapping[str, int]) -> str:
    """Return what a run has skipped: "3 skipped: 1 CR3, 1 MOV, 1 XMP"; without kinds, only so many."""
    parts = [f"{count:,} {kind}" for kind, count in _by_count(kinds)]
    return f"{skipped:,} skipped" + (f": {shortened(parts, _MOST_KINDS)}" if parts else "")


def _by_count(kinds: Mapping[Kind, int]) -> list[tuple[Kind, int]]:
    return sorted(kinds.items(), key=lambda item: (-item[1], item[0]))
