"""Images in .zip, .tar and .tar.gz archives, read in place: nothing is written to disk."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import BinaryIO

from nasnet_cli.errors import InputError
from nasnet_cli.images.formats import has_image_suffix, packer, signature
from nasnet_cli.images.selection import Selection
from nasnet_cli.images.source import FileStat, SkipCounter, Source, member_of, open_regular

_ALL = Selection()


@dataclass(frozen=True, slots=True)
class Entry:
    """A file in an archive, of which more may be asked until the next one is.

    number counts the files of the archive, in the order of the listing. not_read is the kind under
    which one that is never read is skipped. head returns its first HEAD_BYTES; take returns a
    function from a limit to a stream of them, which may be called at any time, in any thread. Both
    raise InputError.
    """

    name: str
    number: int
    head: Callable[[], bytes]
    take: Callable[[int], Callable[[int], BinaryIO]]
    not_read: str | None = None


class Archives:
    """The images of the archives that paths name, one archive after the other."""

    def __init__(self, selection: Selection, *, skips: SkipCounter, max_bytes: int) -> None:
        self._selection = selection
        self._skips = skips
        self._max_bytes = max_bytes
        self._search: _Search | None = None

    def find(self, path: str) -> Iterator[Source]:
        """Yield the images of the archive at path; of a path like photos.zip!/a, those there.

        A member that is named outright is always tried.
        """
        archive, member = member_of(path) or (path, "")
        if not member:
            yield from self._members(archive)
            return
        if self._search is None or self._search.archive != archive:
            self._search = _Search(archive, self._max_bytes)
        one = self._search.find(member.rstrip("/"))
        if one is not None:
            yield one
            return
        is_empty = True
        for source in self._members(archive, member.rstrip("/") + "/"):
            is_empty = False
            yield source
        if is_empty:
            missing = InputError("not_found", "The archive has no such member.")
            yield Source(path, failure=missing)

    def _members(self, archive: str, folder: str = "") -> Iterator[Source]:
        """Yield the images in an archive, or those below a folder in it."""
        return members(
            archive,
            _status(archive),
            selection=self._selection,
            skips=self._skips,
            max_bytes=self._max_bytes,
            folder=folder,
        )


class _Search:
    """A search for members by name: one pass, where they are asked for in the archive's order."""

    def __init__(self, archive: str, max_bytes: int) -> None:
        self.archive = archive
        self._stat = _status(archive)
        self._max_bytes = max_bytes
        self._rest = _entries(archive)
        self._position = 0
        self._damage: Source | None = None

    def find(self, member: str) -> Source | None:
        """Return a file as a source; None where the archive has no such file."""
        start = self._position
        found = self._go_on(member, None)
        if found is None and start:
            self._rest, self._position = _entries(self.archive), 0
            found = self._go_on(member, start)
        if found is None and self._damage is not None:  # the member may be behind it
            found = Source(f"{self.archive}!/{member}", failure=self._damage.failure)
        return found

    def _go_on(self, member: str, end: int | None) -> Source | None:
        while end is None or self._position < end:
            entry = next(self._rest, None)
            if entry is None:
                break
            self._position += 1
            if isinstance(entry, Source):
                self._damage = entry
            elif entry.name == member:
                return _source(self.archive, entry, self._stat, self._max_bytes)
        return None


def members(
    path: str,
    status: FileStat | None,
    *,
    selection: Selection = _ALL,
    skips: SkipCounter,
    max_bytes: int,
    folder: str = "",
) -> Iterator[Source]:
    """Yield the images in the archive at path, named path!/member; only those below folder.

    Those of a zip are sorted by the bytes of their names, those of a tar are in its own order.
    Hidden and excluded members, symbolic links, devices and other files are skipped and counted in
    skips. status is the archive's, for the Sources. A damaged archive ends with a Source of its own
    name whose failure says so, after the members that could be read.
    """
    for entry in _entries(path):
        if isinstance(entry, Source):
            yield entry
        elif entry.name.startswith(folder):
            reason = selection.path_reason(entry.name[len(folder) :]) or entry.not_read
            if reason is not None:
                skips.add(reason)
            elif _is_image(entry):
                yield _source(path, entry, status, max_bytes)
            else:
                skips.add_file(entry.name)


class NumberedMembers:
    """The files of an archive by Source.number; going forward is cheap."""

    def __init__(self, archive: str, status: FileStat | None, max_bytes: int) -> None:
        self.archive = archive
        self._stat = status
        self._max_bytes = max_bytes
        self._next_number = 0
        self._rest = _entries(archive)

    def get(self, number: int) -> Source | None:
        """Return the file with a number; None where the archive has no such file."""
        if number < self._next_number:
            self._rest, self._next_number = _entries(self.archive), 0
        for entry in self._rest:
            if isinstance(entry, Source):
                return entry
            self._next_number = entry.number + 1
            if entry.number == number:
                return _source(self.archive, entry, self._stat, self._max_bytes)
        return None


def _source(path: str, entry: Entry, status: FileStat | None, max_bytes: int) -> Source:
    name = f"{path}!/{entry.name}"
    try:
        read = entry.take(max_bytes)
    except InputError as failure:
        return Source(name, failure=failure)
    except MemoryError:
        raise
    except Exception:  # as in _entries
        damaged = InputError("archive", "The member is damaged or cut short.")
        return Source(name, failure=damaged)
    return Source(name, member=read, stat=status, archive=path, number=entry.number)


def _is_image(entry: Entry) -> bool:
    """Return whether an entry has an image's suffix, or else an image's first bytes.

    Also true for a file without any suffix whose bytes cannot be read: its row will say why.
    """
    if has_image_suffix(entry.name):
        return True
    try:
        return signature(entry.head()) is not None
    except MemoryError:
        raise
    except Exception:  # as in _entries
        return "." not in entry.name.rpartition("/")[2]


def _entries(path: str) -> Iterator[Entry | Source]:
    """Yield the files in an archive. A Source of the archive's own name ends a damaged one."""
    try:
        yield from _reader(path)(path)
    except InputError as failure:
        yield Source(path, failure=failure)
    except MemoryError:
        raise
    # The boundary to zipfile, tarfile and the decompressors: on damaged bytes they raise their
    # own errors, EOFError, zlib.error, struct.error, ValueError, NotImplementedError and more.
    except Exception:
        yield Source(path, failure=InputError("archive", "The archive is damaged or cut short."))


def _reader(path: str) -> Callable[[str], Iterable[Entry]]:
    """Return the function that lists an archive: by its content, or else by its name."""
    from nasnet_cli.images.tars import is_tar, tar_entries
    from nasnet_cli.images.zips import zip_entries

    with open_regular(path) as stream:
        head = stream.read(512)
    if head.startswith((b"PK\3\4", b"PK\5\6")):
        return zip_entries
    packed_by = packer(head)
    if packed_by == "gzip":
        return partial(tar_entries, is_compressed=True)
    if packed_by:
        raise InputError("unsupported", f"The archive is packed by {packed_by}. Unpack it first.")
    if is_tar(head):
        return tar_entries
    name = path.lower()
    if name.endswith(".zip"):
        return zip_entries
    return partial(tar_entries, is_compressed=not name.endswith(".tar"))


def _status(path: str) -> FileStat | None:
    try:
        return FileStat.of(os.stat(path))  # noqa: PTH116 - paths stay as the user wrote them
    except OSError:  # its row will say
        return None
