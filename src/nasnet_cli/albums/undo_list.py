"""The undo list of a folder: which files were copied, linked and moved into it, and from where.

It is a file of JSON lines in the folder, written whole and on disk before the first file moves. It
says what is planned; how far that has come can be seen from the files themselves.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, Literal, NamedTuple, get_args

from nasnet_cli.errors import NasnetError, describe_error
from nasnet_cli.images.source import is_remote
from nasnet_cli.kept_files import open_kept, parse_json
from nasnet_cli.results.atomic import in_words, open_output
from nasnet_cli.results.text import json_text, undecodable
from nasnet_cli.systems import copy_mode, is_mine, only_ours, sync_folder

NAME = ".nasnet-undo.jsonl"
_VERSION = 1
Action = Literal["copy", "link", "move"]


class Transfer(NamedTuple):
    """A file that a folder gets.

    source is an absolute path, a member of an archive or a URL; destination is relative to the
    folder.
    """

    action: Action
    source: str
    destination: str


class UndoList:
    """The undo list of a folder, empty where the folder has none.

    created has the folders that did not exist before, relative to the folder, which is "." itself.
    Raises NasnetError, here and in write, when the list cannot be read or written, or has a line
    that is none of its own, and here where others could have written it.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / NAME
        self.created: set[str] = set()
        self.transfers: list[Transfer] = []
        self.exists = False
        try:
            with open_kept(self.path) as file:  # of any size
                is_ours = _only_ours(os.fstat(file.fileno()))
                lines = file.read().splitlines()
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as error:
            raise NasnetError(
                f"Cannot read {self.path}: {error.strerror}.", "Make it a file that can be read."
            ) from error
        if not is_ours:
            raise NasnetError(
                f"{self.path} is another user's, or others can write to it: it could move your "
                "files anywhere.",
                f"Look at it first. If it is right, make it yours: chmod 600 {NAME}",
            )
        self.exists = True
        for number, line in enumerate(lines, start=1):
            try:
                self._read(parse_json(line), is_first=number == 1)
            except (ValueError, TypeError, KeyError) as error:
                raise NasnetError(
                    f"Line {number} of {self.path} is not one of nasnet's undo lists: "
                    f"{describe_error(error)}.",
                    "Restore the file. Without it, nothing can be taken back.",
                ) from error
        if not lines:
            raise NasnetError(f"{self.path} is empty.", "Remove it: it has nothing to take back.")

    def _read(self, line: dict[str, Any], *, is_first: bool) -> None:
        if not isinstance(line, dict):
            raise TypeError("it is not an object")
        if is_first:
            if line["nasnet_undo"] != _VERSION:
                raise ValueError("another version of nasnet has written it")
            self.created = {_inside(_text(name)) for name in _names(line, "created")}
            return
        action = line["action"]
        if action not in get_args(Action):
            raise ValueError(f"{action!r} is not an action")
        source = _name(line, "source")
        if not (os.path.isabs(source) or (action == "copy" and is_remote(source))):
            raise ValueError("source is not an absolute path")
        self.transfers.append(Transfer(action, source, _inside(_name(line, "destination"))))

    def write(self) -> None:
        """Write the list whole, for this user alone, and wait until it is on disk."""
        with open_output(self.path, overwrite=True) as stream:
            copy_mode(stream.fileno(), stream.raw.name, 0o600)  # type: ignore[attr-defined]
            for line in self._lines():
                stream.write(f"{json_text(line)}\n".encode())
        try:
            sync_folder(self.path.parent)
        except OSError as error:
            raise in_words(os.fspath(self.path), error) from error
        self.exists = True

    def _lines(self) -> Iterator[Mapping[str, Any]]:
        created = [_encoded("name", name) for name in sorted(self.created)]
        yield {"nasnet_undo": _VERSION, "created": created}
        for action, source, destination in self.transfers:
            yield {
                "action": action,
                **_encoded("source", source),
                **_encoded("destination", destination),
            }

    def remove(self) -> None:
        """Remove the file."""
        self.path.unlink(missing_ok=True)
        self.exists = False


def _only_ours(status: os.stat_result) -> bool:
    """Return whether only this user could have written a list, as far as its disk tells.

    On a disk without permissions, all can write to all files, and execute them as well.
    """
    has_no_permissions = status.st_mode & 0o777 == 0o777 and is_mine(status)
    return has_no_permissions or only_ours(status)


def _encoded(key: str, name: str) -> dict[str, str]:
    raw = undecodable(name)
    more = {} if raw is None else {f"{key}_bytes": base64.b64encode(raw).decode()}
    return {key: name, **more}


def _names(line: Mapping[str, Any], key: str) -> list[str]:
    if not (isinstance(line[key], list) and all(isinstance(one, dict) for one in line[key])):
        raise TypeError(f"{key} is not a list of objects")
    return [_name(entry, "name") for entry in line[key]]


def _name(line: Mapping[str, Any], key: str) -> str:
    raw = line.get(f"{key}_bytes")
    if raw is None:
        return _text(line[key])
    return _text(os.fsdecode(base64.b64decode(_text(raw), validate=True)))


def _text(value: object) -> str:
    if not isinstance(value, str) or not value or "\0" in value:
        raise TypeError(f"{value!r} is not a name")
    return value


def _inside(name: str) -> str:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        raise ValueError(f"{name!r} is not in the folder")
    return name
