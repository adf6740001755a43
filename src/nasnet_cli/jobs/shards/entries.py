# Paths stay the strings that the user wrote: Path would turn "" into "." and "a/./b" into "a/b".
# ruff: noqa: PTH118
"""The line of an image in a manifest, and the way back from the line to the image.

A line is a JSON object: path as it stands in the results; bytes and mtime_ns of the file, or of the
archive that holds it. A member of an archive has the archive's path and its number among the
archive's files, a remote object its store's version of it instead, and the whole url where path
leaves out secrets of it. An input that could not be read when it was listed has its failure.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from nasnet_cli.errors import InputError
from nasnet_cli.images.archives import NumberedMembers
from nasnet_cli.images.source import MAX_BYTES, FileStat, Source, is_remote
from nasnet_cli.kept_files import parse_json


def entry_lines(sources: Iterable[Source]) -> Iterator[bytes]:
    """Yield the line of each source, with its line end."""
    for source in sources:
        entry: dict[str, Any] = {"path": source.path}
        if source.failure is not None:
            entry["failure"] = [source.failure.kind, source.failure.message]
        elif source.archive is not None:
            entry |= {"archive": source.archive, "member": source.number, **_state(source.stat)}
        else:
            entry |= {"version": source.version} if source.version else _state(source.stat)
            if source.url is not None and source.url != source.path:
                entry["url"] = source.url
        yield _line(entry)


def _line(entry: dict[str, Any]) -> bytes:
    try:
        return (json.dumps(entry, ensure_ascii=False) + "\n").encode()
    except UnicodeEncodeError:  # a name that is not UTF-8: \udcXX brings its bytes back
        return (json.dumps(entry) + "\n").encode()


def _state(status: FileStat | None) -> dict[str, int]:
    return {} if status is None else {"bytes": status.size, "mtime_ns": status.mtime_ns}


def _stat(entry: Mapping[str, Any]) -> FileStat | None:
    return FileStat(entry["bytes"], entry["mtime_ns"]) if "bytes" in entry else None


def entry_sources(
    lines: Iterable[bytes], folder: str, *, max_bytes: int = MAX_BYTES
) -> Iterator[Source]:
    """Yield the images of lines of a manifest, in order.

    folder is where relative paths begin, max_bytes bounds members of compressed archives.
    """
    opened: NumberedMembers | None = None
    for line in lines:
        entry = parse_json(line)
        path: str = entry["path"]
        if "failure" in entry:
            yield Source(path, failure=InputError(*entry["failure"]))
        elif "archive" in entry:
            archive = os.path.join(folder, entry["archive"])
            if opened is None or opened.archive != archive:
                opened = NumberedMembers(archive, _stat(entry), max_bytes)
            found = opened.get(entry["member"])
            if found is None or not found.path.endswith(path.removeprefix(entry["archive"])):
                changed = InputError("archive", "The archive has changed since it was listed.")
                found = Source(path, failure=changed)
            yield replace(found, path=path)
        elif is_remote(path):
            from nasnet_cli.images.remote import remote_source

            yield remote_source(entry.get("url", path), entry.get("version"))
        else:
            yield Source(path, file=os.path.join(folder, path), stat=_stat(entry))
