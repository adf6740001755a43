# Paths stay the strings that the user wrote: Path would turn "" into "." and "a/./b" into "a/b".
# ruff: noqa: PTH113, PTH116, PTH118
"""One picture's line in a manifest, and the way back from the line to the picture.

A line is a JSON object: path as it stands in the results; bytes and mtime_ns of the file, or of
the archive that holds it. A member of an archive has the archive's path and its number among the
archive's pictures, a remote object its store's version of it instead. An input that could not be
read when it was listed has its failure.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from nasnet_cli.errors import InputError
from nasnet_cli.images.archives import members
from nasnet_cli.images.names import is_archive, is_remote
from nasnet_cli.images.remote import remote_source
from nasnet_cli.images.source import MAX_BYTES, SkipCounter, Source


def entry_lines(sources: Iterable[Source]) -> Iterator[bytes]:
    """The line of each source, with its line end."""
    archive, number, state = "", 0, dict[str, int]()
    for source in sources:
        entry: dict[str, Any] = {"path": source.path}
        if source.failure is not None:
            entry["failure"] = [source.failure.kind, source.failure.message]
        elif source.file is not None:
            entry |= _state(source.file)
            archive = ""
        elif is_remote(source.path):
            entry |= {"version": source.version} if source.version else {}
            archive = ""
        elif not (archive and source.path.startswith(archive + "!/")):
            archive, number = archive_of(source.path), 0
            state = _state(archive) if archive else {}
        if source.failure is None and archive:
            # An archive that is named twice in a row goes on counting: see _Members.
            entry |= {"archive": archive, "member": number, **state}
            number += 1
        yield _line(entry)


def _line(entry: dict[str, Any]) -> bytes:
    try:
        return (json.dumps(entry, ensure_ascii=False) + "\n").encode()
    except UnicodeEncodeError:  # a name that is not UTF-8: \udcXX brings its bytes back
        return (json.dumps(entry) + "\n").encode()


def _state(file: str) -> dict[str, int]:
    """What tells that a file has changed."""
    try:
        status = os.stat(file)
    except OSError:  # gone since it was found: its job will say so
        return {}
    return {"bytes": status.st_size, "mtime_ns": status.st_mtime_ns}


def archive_of(member: str) -> str:
    """The archive in a member's name photos.zip!/a.jpg; "" where the name is of another kind."""
    end = member.find("!/")
    while end >= 0:
        if is_archive(member[:end]) and os.path.isfile(member[:end]):
            return member[:end]
        end = member.find("!/", end + 1)
    return ""


def entry_sources(
    lines: Iterable[bytes], folder: str, *, max_bytes: int = MAX_BYTES
) -> Iterator[Source]:
    """The pictures that lines of a manifest stand for, in their order.

    folder is where relative paths begin, max_bytes bounds members of compressed archives.
    """
    opened: _Members | None = None
    for line in lines:
        entry = json.loads(line)
        path: str = entry["path"]
        if "failure" in entry:
            yield Source(path, failure=InputError(*entry["failure"]))
        elif "archive" in entry:
            archive = os.path.join(folder, entry["archive"])
            if opened is None or opened.archive != archive or opened.position > entry["member"]:
                opened = _Members(archive, max_bytes)
            yield opened.find(entry["member"], path, path.removeprefix(entry["archive"]))
        elif is_remote(path):
            yield remote_source(path, entry.get("version"))
        else:
            yield Source(path, file=os.path.join(folder, path))


class _Members:
    """The pictures of an archive by their numbers, which only grow.

    Numbers go on from the beginning again when the archive ends, for one that was named twice.
    """

    def __init__(self, archive: str, max_bytes: int) -> None:
        self.archive = archive
        self.position = 0
        self._max_bytes = max_bytes
        self._found: Iterator[Source] = iter(())

    def find(self, number: int, path: str, tail: str) -> Source:
        """The picture of this number as a source named path, whose own name ends in tail."""
        source = None
        while self.position <= number:
            source = self._next()
            if source is None:
                break
            self.position += 1
        if source is None or not source.path.endswith(tail):
            changed = InputError("archive", "The archive has changed since it was listed.")
            return Source(path, failure=changed)
        return replace(source, path=path)

    def _next(self) -> Source | None:
        for _ in range(2):
            for source in self._found:
                if source.failure is None:
                    return source
            self._found = members(self.archive, listing=SkipCounter(), max_bytes=self._max_bytes)
        return next((source for source in self._found if source.failure is None), None)
