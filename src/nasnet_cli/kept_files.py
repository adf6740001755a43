"""Reading back what this tool wrote: whoever can write there may have changed it.

Such a file is a regular file, and not a link unless users keep such files in other places. Its JSON
is parsed and checked field by field, and all that is wrong with it is a ValueError.
"""

from __future__ import annotations

import errno
import json
import os
import stat
from collections.abc import Callable, Mapping
from io import BufferedReader
from pathlib import Path
from typing import Any

from nasnet_cli.systems import open_flags

MAX_DOCUMENT_BYTES = 64 << 20
"""Far more than any document of this tool has."""


def open_kept(path: Path, *, follow: bool = False) -> BufferedReader:
    """Open a regular file for reading; with follow, also through a link.

    Raises OSError, also for a pipe or a device.
    """
    # Opening a pipe must not block.
    flags = os.O_RDONLY | open_flags("O_NONBLOCK", "O_CLOEXEC", "O_NOCTTY")
    flags |= 0 if follow else open_flags("O_NOFOLLOW")
    descriptor = os.open(path, flags)
    try:
        stream = os.fdopen(descriptor, "rb")
    except OSError:  # it is a folder
        os.close(descriptor)
        raise
    if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
        stream.close()
        raise OSError(errno.EINVAL, "it is not a file", os.fspath(path))
    return stream


def read_kept(path: Path, *, follow: bool = False, max_bytes: int = MAX_DOCUMENT_BYTES) -> bytes:
    """Return a document's bytes. Raises OSError as open_kept does; ValueError for too many."""
    with open_kept(path, follow=follow) as stream:
        data = stream.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise ValueError(f"it has more than {max_bytes:,} bytes")
    return data


def parse_json(data: bytes | str, object_pairs_hook: Callable[[Any], Any] | None = None) -> Any:
    """Parse JSON, as json.loads does. Raises ValueError for whatever is wrong with it."""
    try:
        return json.loads(data, object_pairs_hook=object_pairs_hook)
    except RecursionError:
        raise ValueError("its values are nested too deeply") from None


def parse_object(data: bytes | str, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Parse a JSON object that has at least these fields, each of its type.

    A type is a class, or a tuple of them; numbers of type int are not negative, and no bool is one.
    Raises ValueError for whatever is wrong with it.
    """
    return check_fields(parse_json(data), fields)


def check_fields(content: Any, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return content if it is an object as parse_object describes. Raises ValueError."""
    if not isinstance(content, dict):
        raise ValueError("it is not an object")
    for name, kinds in fields.items():
        value = content.get(name)
        classes = kinds if isinstance(kinds, tuple) else (kinds,)
        fits = type(value) in classes or (float in classes and type(value) is int)
        if not fits or (type(value) is int and value < 0):
            raise ValueError(f"{name} is missing or of a wrong kind")
    return content
