"""Rows as records of the state's database, each with a checksum of its own."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any, cast

from nasnet_cli.errors import ERROR_KINDS, ErrorKind
from nasnet_cli.jobs.rows import Row
from nasnet_cli.results.records import Failure

COLUMNS = "id, key, path, kind, message, labels, vector, checksum"
_KINDS = {None, *ERROR_KINDS}
INSERT = "INSERT INTO rows VALUES (?, ?, ?, ?, ?, ?, ?, ?)"


def pack(key: bytes, row: Row) -> tuple[bytes | str | int | None, ...]:
    """Return the record of a row under a key, without its id."""
    path = path_bytes(row.path)
    kind = row.error.kind if row.error else None
    message = row.error.message.encode("utf-8", "surrogatepass") if row.error else None
    values = (key, path, kind, message, row.labels, row.vector)
    return (*values, _checksum(*values))


def unpack(record: Sequence[Any], key: bytes) -> Row | None:
    """Return the row of a record; None if it is not what was stored under the key."""
    _, _, path, kind, message, labels, vector, checksum = record
    try:
        if checksum != _checksum(key, path, kind, message, labels, vector):
            return None
    except (TypeError, AttributeError):  # a value of another type
        return None
    if (kind is None) != (message is None) or kind not in _KINDS:
        return None
    error = None
    if kind is not None:
        error = Failure(cast(ErrorKind, kind), message.decode("utf-8", "surrogatepass"))
    return Row(path.decode("utf-8", "surrogatepass"), error, labels, vector)


def path_bytes(path: str) -> bytes:
    """Return a path as records have it."""
    return path.encode("utf-8", "surrogatepass")


def _checksum(
    key: bytes, path: bytes, kind: str | None, message: bytes | None, labels: bytes, vector: bytes
) -> int:
    checksum = 0
    for part in (key, path, (kind or "").encode(), message or b"", labels, vector):
        checksum = zlib.crc32(part, zlib.crc32(len(part).to_bytes(8, "little"), checksum))
    return checksum
