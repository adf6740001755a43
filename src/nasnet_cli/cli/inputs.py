"""The inputs that a command line names."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from typing import BinaryIO

from nasnet_cli.errors import NasnetError
from nasnet_cli.images.listing import list_sources, read_list
from nasnet_cli.images.source import SkipCounter, Source, is_archive, is_remote


class Inputs:
    """Paths, and lists of paths, as a stream of sources.

    "-" among the paths stands for the list on standard input. Without paths and lists it is the
    current folder.
    """

    def __init__(
        self, paths: tuple[str, ...], list_file: BinaryIO | None, *, recursive: bool, max_bytes: int
    ) -> None:
        self.paths = paths or (() if list_file else (".",))
        self.list_file = list_file
        self.recursive = recursive
        self.max_bytes = max_bytes
        self.skips = SkipCounter()
        if self.paths.count("-") + (getattr(list_file, "name", "") == "<stdin>") > 1:
            raise NasnetError("Standard input is named twice.", "Name it once.")

    @property
    def can_be_counted(self) -> bool:
        """Whether the inputs can be listed once more, cheaply, to tell how many there are."""
        return not self.list_file and not any(
            path == "-" or is_archive(path) or is_remote(path) for path in self.paths
        )

    @property
    def named(self) -> int | None:
        """How many inputs there are, where all are files that are named one by one."""
        # Not Path's is_file, which raises for a path that may not be looked at.
        if self.can_be_counted and all(os.path.isfile(path) for path in self.paths):  # noqa: PTH113
            return len(self.paths)
        return None

    @property
    def in_words(self) -> str:
        """What was looked in, for a message."""
        if self.paths == (".",):
            return "the current folder"
        names = [path if path != "-" else "the list on standard input" for path in self.paths]
        if self.list_file:
            names.append(f"the list {getattr(self.list_file, 'name', '')}".strip())
        return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")

    def sources(self) -> Iterator[Source]:
        """The inputs, in order."""
        return list_sources(
            self._names(),
            recursive=self.recursive,
            skips=self.skips,
            max_bytes=self.max_bytes,
        )

    def count(self) -> int:
        """How many inputs there are."""
        found = list_sources(self.paths, recursive=self.recursive, skips=SkipCounter())
        return sum(1 for _ in found)

    def _names(self) -> Iterator[str]:
        for path in self.paths:
            if path == "-":
                yield from read_list(sys.stdin.buffer)
            else:
                yield path
        if self.list_file:
            yield from read_list(self.list_file)
