"""The record of a finished output's inputs, OUT.inputs, by which the next run finds what has changed.

a line of JSON      format, version, check, formats, rows, and the SHA-256 of each output file
16 bytes for a row  the key of its input, in order; zeros for a row to be tried again
32 bytes            the SHA-256 of all before
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, cast

from nasnet_cli.errors import ErrorKind, OutputError
from nasnet_cli.kept_files import open_kept, parse_object

if TYPE_CHECKING:
    from nasnet_cli.images.source import Source
    from nasnet_cli.results.records import Failure

Check = Literal["stat", "content"]

FORMAT = "nasnet-inputs"
VERSION = 2
"""Of the record, of what source_key makes a key from, and of the pixels that decoding gives."""

KEY_BYTES = 16
RETRY = bytes(KEY_BYTES)
"""The key of a row whose error may pass: no input has it, so the next run tries again."""

_PASSING: frozenset[ErrorKind] = frozenset({"unreadable", "network", "timeout", "crashed"})
_FIELDS = {
    "format": str, "version": int, "check": str, "formats": dict, "rows": int, "files": list
}  # fmt: skip
_START_OVER = "Start over: --overwrite instead of --resume."
_DIGEST_BYTES = 32
_HEAD_BYTES = 1 << 16


def source_key(source: Source, check: Check, max_bytes: int) -> bytes:
    """Return 16 bytes that change when an input changes.

    A digest of its name with the size and time of its file (of its archive, for a member), its
    store's version of it, or its content up to max_bytes. An input that cannot be looked at has its
    name alone, so that a row with an error is not processed again.
    """
    digest = hashlib.blake2b(os.fsencode(source.path), digest_size=KEY_BYTES)
    if source.failure is not None:
        digest.update(f"\0{source.failure.kind}".encode())
    elif check == "content":
        with suppress(Exception):  # its row will say
            with source.open(max_bytes) as stream:
                content = hashlib.file_digest(cast(Any, stream), "sha256")
            digest.update(b"\0" + content.digest())
    elif source.version is not None:
        digest.update(f"\0{source.version}".encode())
    elif source.stat is not None:
        digest.update(f"\0{source.stat.size}\0{source.stat.mtime_ns}".encode())
    return digest.digest()


def kept_key(key: bytes, error: Failure | None) -> bytes:
    """Return the key under which a finished row is kept: RETRY where its error may pass."""
    return RETRY if error is not None and error.kind in _PASSING else key


@dataclass(frozen=True)
class InputsRecord:
    """A record: how changes are detected, the formats of the output, the SHA-256 of its files in
    their order, and the keys of its rows."""

    check: Check
    formats: Mapping[str, str]
    files: tuple[str, ...]
    keys: bytes

    def __iter__(self) -> Iterator[bytes]:
        """Yield the keys."""
        for start in range(0, len(self.keys), KEY_BYTES):
            yield self.keys[start : start + KEY_BYTES]


def write_inputs(
    stream: BinaryIO,
    keys: Iterable[bytes],
    *,
    check: Check,
    formats: Mapping[str, str],
    files: Sequence[str],
    rows: int,
) -> None:
    """Write the record of an output with these files, whose rows have these keys."""
    head = {"format": FORMAT, "version": VERSION, "check": check, "formats": dict(formats)}
    digest = hashlib.sha256()
    for part in (_line({**head, "rows": rows, "files": list(files)}), *keys):
        digest.update(part)
        stream.write(part)
    stream.write(digest.digest())


def _line(head: Mapping[str, Any]) -> bytes:
    return (json.dumps(head) + "\n").encode()


def is_record(path: Path) -> bool:
    """Return whether a file is a record, of any version. Raises OSError."""
    with path.open("rb") as stream:
        return stream.read(64).startswith(f'{{"format": "{FORMAT}"'.encode())


def read_inputs(path: Path) -> InputsRecord:
    """Read the record at path. Raises OutputError where it is damaged, or of another version."""
    try:
        with open_kept(path) as stream:
            data = stream.read()
    except OSError as error:
        reason = error.strerror or "it is not a file"
        raise OutputError(f"Cannot read {path}: {reason}.", _START_OVER) from error
    end = data.find(b"\n", 0, _HEAD_BYTES) + 1
    body, digest = data[:-_DIGEST_BYTES], data[-_DIGEST_BYTES:]
    try:
        head = parse_object(data[:end], _FIELDS)
        if head["format"] == FORMAT and head["version"] != VERSION:
            raise OutputError(f"{path} was written by another version of nasnet.", _START_OVER)
        if hashlib.sha256(body).digest() != digest:
            raise ValueError("the digest differs")
        if len(body) - end != head["rows"] * KEY_BYTES:
            raise ValueError("there are not as many keys as rows")
    except ValueError as error:
        raise OutputError(f"{path} is damaged, or not a file of nasnet.", _START_OVER) from error
    return InputsRecord(head["check"], head["formats"], tuple(head["files"]), body[end:])


def file_digest(path: str | os.PathLike[str]) -> str:
    """Return the SHA-256 of a file. Raises OSError."""
    with open(path, "rb") as stream:  # noqa: PTH123
        return hashlib.file_digest(stream, "sha256").hexdigest()
