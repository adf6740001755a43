# Paths stay the strings that the user wrote: Path would turn "" into "." and "a/./b" into "a/b".
# ruff: noqa: PTH116, PTH118, PTH122
"""From a user's paths to inputs: files, folders, archives and URLs, as a stream.

Importing this imports neither NumPy nor Pillow, nor what reads archives and URLs.
"""

from __future__ import annotations

import codecs
import os
import re
import stat
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import BinaryIO

from nasnet_cli.atomic import is_unfinished
from nasnet_cli.errors import InputError, NasnetError
from nasnet_cli.images.formats import (
    HEAD_BYTES,
    has_image_suffix,
    has_jpeg_suffix,
    has_raw_suffix,
    signature,
)
from nasnet_cli.images.names import sorted_names
from nasnet_cli.images.selection import Selection
from nasnet_cli.images.source import (
    MAX_BYTES,
    FileStat,
    SkipCounter,
    Source,
    check_regular,
    explain_os_error,
    is_archive,
    is_remote,
    member_of,
    open_regular,
)
from nasnet_cli.systems import can_enter, with_slashes

_BLOCK_BYTES = 1 << 16


def list_sources(
    paths: Iterable[str | Source],
    *,
    recursive: bool = True,
    exclude: Sequence[str] = (),
    folders: Iterable[str] = (),
    left_out: str | None = None,
    own: Collection[str] = (),
    skips: SkipCounter,
    max_bytes: int = MAX_BYTES,
) -> Iterator[Source]:
    """Yield the inputs that paths name, in order, found while they are asked for.

    A folder stands for its images and, if recursive, those of its subfolders, each folder's names
    sorted by their bytes. A file is an image by its suffix, or else by its first bytes; a RAW file
    beside a JPEG of the same name is the same image. Hidden entries, those that exclude matches
    (Selection), thumbnails of file servers, archives and other files in folders are skipped and
    counted in skips. A file named outright is always an input; a .zip, .tar, .tar.gz or .tgz stands
    for its images, photos.zip!/a.jpg for one of them or for those below photos.zip!/a; a URL for an
    object or for what is below it (find_remote). max_bytes limits the members of compressed tars,
    which are held in memory from here on.

    A folder is walked once, however often it is reached, and the folder left_out never. In folders,
    a symbolic link to what the walk of a named folder finds by itself is skipped; folders are the
    named ones that are known ahead, others count from when paths names them. Other links are
    followed. own are the resolved paths of the run's own files and folders, which are neither
    inputs nor counted.

    A path that is missing or cannot be read is a Source with a failure, so that it gets its row.
    A Source among the paths is an input already. Raises NasnetError when the package for a URL is
    missing.
    """
    selection = Selection(recursive, tuple(exclude), tuple(own))
    walker = _Walker(selection, skips, list(folders))
    if left_out is not None:
        walker.leave_out(left_out)
    archives = None
    for path in paths:
        if isinstance(path, Source):
            yield path
            continue
        if is_remote(path):
            from nasnet_cli.images.remote import find_remote
            from nasnet_cli.images.urls import shown

            yield from _noticed(shown(path), find_remote(path, selection, skips=skips), skips)
            continue
        status = look_at(path)
        if isinstance(status, InputError):
            in_archive = status.kind == "not_found" and member_of(path) is not None
        elif stat.S_ISDIR(status.st_mode):
            yield from walker.walk(path, status)
            continue
        else:
            in_archive = is_archive(path)
        if in_archive:
            if archives is None:
                from nasnet_cli.images.archives import Archives

                archives = Archives(selection, skips=skips, max_bytes=max_bytes)
            yield from _noticed(path, archives.find(path), skips)
        elif isinstance(status, InputError):
            yield from _noticed(path, [Source(path, failure=status)], skips)
        else:
            yield Source(path, file=path, stat=FileStat.of(status))


def _noticed(path: str, sources: Iterable[Source], skips: SkipCounter) -> Iterator[Source]:
    """Yield the sources of a named path; skips learns where there is none, or nothing at all."""
    is_empty = True
    for source in sources:
        is_missing = source.failure is not None and source.failure.kind == "not_found"
        if is_missing and source.path == path:
            skips.on_nothing(path)
        is_empty = False
        yield source
    if is_empty:
        skips.on_nothing(path)


def look_at(path: str) -> os.stat_result | InputError:
    """Return the status of a named folder or regular file, or the error of its row."""
    try:
        status = os.stat(path)
        if not stat.S_ISDIR(status.st_mode):
            check_regular(status.st_mode)
    except InputError as failure:
        return failure
    except (OSError, ValueError) as error:
        explained = explain_os_error(error)
        hint = unexpanded(path) if explained.kind == "not_found" else ""
        return InputError(explained.kind, f"{explained.message} {hint}".rstrip())
    return status


def unexpanded(path: str) -> str:
    """Return a sentence where a missing path looks like one for a shell to expand, else nothing."""
    if path.startswith("~"):
        return "Shells expand ~ only outside quotes."
    if any(character in path for character in "*?["):
        return "Shells expand patterns only outside quotes, and only those that match."
    return ""


@dataclass(slots=True)
class _Folder:
    """A folder that the walk is in.

    relative is its path below the folder that the user named, with a slash at the end; names are
    those still to come, jpegs the names of its JPEGs, once they are needed.
    """

    path: str
    relative: str
    names: Iterator[bytes]
    jpegs: set[bytes] | None = None


class _Walker:
    """A walk through folders, which enters each of them once."""

    def __init__(self, selection: Selection, skips: SkipCounter, named: list[str]) -> None:
        self._selection = selection
        self._skips = skips
        self._named = named
        self._roots: list[str] = []
        self._visited: set[tuple[int, int]] = set()

    def walk(self, path: str, status: os.stat_result) -> Iterator[Source]:
        """Yield the images of a named folder."""
        self._named.append(path)
        try:
            top = self._open(path, "", status)
        except OSError as error:
            yield Source(path, failure=explain_os_error(error))
            return
        if top is not None:
            yield from _noticed(path, self._walk(top), self._skips)

    def _walk(self, top: _Folder) -> Iterator[Source]:
        # A stack of its own: a deep tree must not reach Python's recursion limit.
        stack = [top]
        while stack:
            folder = stack[-1]
            name = next(folder.names, None)
            if name is None:
                stack.pop()
                continue
            found = self._entry(folder, os.fsdecode(name))
            if isinstance(found, _Folder):
                stack.append(found)
            elif found is not None:
                if found.path == folder.path:
                    stack.pop()  # it can be listed but not entered: one row for all of it
                yield found

    def leave_out(self, path: str) -> None:
        """Never enter a folder, which need not exist yet."""
        with suppress(OSError, ValueError):
            status = os.stat(path)
            self._visited.add((status.st_dev, status.st_ino))

    def _open(self, path: str, relative: str, status: os.stat_result) -> _Folder | None:
        """Return a folder to walk; None where that has been done."""
        identity = (status.st_dev, status.st_ino)
        if identity in self._visited:
            self._skips.add("repeated folder")
            return None
        names = sorted_names(os.fsencode(path))
        self._visited.add(identity)
        return _Folder(path, relative, names)

    def _entry(self, folder: _Folder, name: str) -> Source | _Folder | None:
        """Return the input or the folder that a name in a folder is, None where it is neither."""
        path, relative = os.path.join(folder.path, name), folder.relative + name
        if self._selection.is_own(path):
            return None
        reason = self._selection.reason(relative, is_folder=False)
        if reason is not None:
            if not is_unfinished(name):  # it comes and goes during a run, and the count must not
                self._skips.add(reason)
            return None
        try:
            status = os.lstat(path)
            is_link = stat.S_ISLNK(status.st_mode)
            if is_link:
                status = os.stat(path)
            is_folder = stat.S_ISDIR(status.st_mode)
            if is_folder and not self._selection.recursive:
                return None
            reason = self._selection.reason(relative, is_folder=True) if is_folder else None
            if is_link and reason is None and self._is_found_elsewhere(path, is_folder=is_folder):
                reason = "link"
            if reason is not None:
                self._skips.add(reason)
                return None
            if is_folder:
                return self._open(path, relative + "/", status)
        except OSError as error:
            return self._unreadable(folder, name, explain_os_error(error))
        return self._file(folder, name, status)

    def _unreadable(self, folder: _Folder, name: str, failure: InputError) -> Source | None:
        """Return the row of an entry that cannot be looked at."""
        if not can_enter(folder.path):
            return Source(folder.path, failure=failure)
        if failure.kind == "not_found" and not has_image_suffix(name):
            self._skips.add("dangling link")  # or the entry has gone
            self._skips.on_nothing(os.path.join(folder.path, name))
            return None
        return Source(os.path.join(folder.path, name), failure=failure)

    def _file(self, folder: _Folder, name: str, status: os.stat_result) -> Source | None:
        path = os.path.join(folder.path, name)
        if not stat.S_ISREG(status.st_mode):
            self._skips.add("pipe or device")
            return None
        try:
            if self._is_image(folder, name):
                return Source(path, file=path, stat=FileStat.of(status))
        except InputError as failure:
            if failure.kind != "not_found":
                return Source(path, failure=failure)
        self._skips.add_file(name)
        return None

    def _is_image(self, folder: _Folder, name: str) -> bool:
        """Return whether a regular file is an image of its own.

        Raises InputError where it would have to be read and cannot.
        """
        if has_raw_suffix(name):
            if folder.jpegs is None:
                folder.jpegs = self._jpegs(folder)
            return _stem(name) not in folder.jpegs
        return has_image_suffix(name) or _is_image(os.path.join(folder.path, name))

    def _jpegs(self, folder: _Folder) -> set[bytes]:
        """Return the names, without suffix, of the JPEGs that the walk finds in a folder."""
        with suppress(OSError), os.scandir(folder.path) as entries:
            return {
                _stem(entry.name)
                for entry in entries
                if has_jpeg_suffix(entry.name)
                and not self._selection.reason(folder.relative + entry.name, is_folder=False)
                and entry.is_file()
            }
        return set()

    def _is_found_elsewhere(self, link: str, *, is_folder: bool) -> bool:
        """Return whether the walk of a named folder finds what a link leads to by itself.

        The path that the link is resolved to decides alone, not what the walk has found so far.
        """
        while len(self._roots) < len(self._named):
            root = with_slashes(os.path.realpath(self._named[len(self._roots)]))
            self._roots.append(root.rstrip("/") + "/")
        target = with_slashes(os.path.realpath(link))
        if is_folder and target + "/" in self._roots:
            return True
        return any(
            target.startswith(root) and self._is_selected(target, target[len(root) :], is_folder)
            for root in self._roots
        )

    def _is_selected(self, target: str, relative: str, is_folder: bool) -> bool:
        if is_folder:
            return self._selection.path_reason(relative + "/_") is None
        if "/" in relative and not self._selection.recursive:
            return False
        if self._selection.path_reason(relative) is not None:
            return False
        return has_image_suffix(relative) or _is_image(target)


def _stem(name: str) -> bytes:
    return os.fsencode(os.path.splitext(name)[0].casefold())


def _is_image(path: str) -> bool:
    """Return whether a file's first bytes are those of an image.

    Raises InputError when it cannot be read, except that a file with a suffix, which is not an
    image's, is taken for what it says where permission lacks.
    """
    try:
        with open_regular(path) as stream:
            return signature(stream.read(HEAD_BYTES)) is not None
    except OSError as error:
        raise explain_os_error(error) from error
    except InputError as failure:
        lacks_permission = isinstance(failure.__cause__, PermissionError)
        if lacks_permission and os.path.splitext(path)[1]:
            return False
        raise


def read_list(stream: BinaryIO) -> Iterator[str]:
    """Yield the names in a list of files, as they arrive.

    Names end with a newline (a carriage return before it is dropped) or, when a NUL comes with
    the first of them, with a NUL, as `find -print0` writes. Empty names are skipped. Bytes that
    are not UTF-8 become Python's surrogate escapes; a UTF-8 byte order mark is dropped. Raises
    NasnetError for UTF-16 and for an image.
    """
    # read1 returns what a pipe holds now; read would wait for a whole block.
    read: Callable[[int], bytes] = getattr(stream, "read1", stream.read)
    rest = b""
    while b"\n" not in rest and b"\0" not in rest:
        block = read(_BLOCK_BYTES)
        if not block:
            break
        rest += block
    if rest.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or _is_utf16(rest):
        raise NasnetError("The list of paths is UTF-16.", "Save it as UTF-8.")
    if signature(rest[:HEAD_BYTES]) and re.search(rb"[\x01-\x08\x0e-\x1f]", rest[:HEAD_BYTES]):
        raise NasnetError(
            "The list of paths is an image.", "Name the image itself, without --from or -."
        )
    rest = rest.removeprefix(codecs.BOM_UTF8)
    end = b"\0" if b"\0" in rest else b"\n"
    while True:
        *names, rest = rest.split(end)
        yield from _decoded(names, end)
        block = read(_BLOCK_BYTES)
        if not block:
            yield from _decoded([rest], end)
            return
        rest += block


def _is_utf16(text: bytes) -> bool:
    """Return whether a text without byte order mark is UTF-16: every other byte of a path is NUL."""
    names = text.replace(b"\0\0", b"\0").strip(b"\0").split(b"\0")
    letters = [name for name in names if len(name) == 1]
    part_of_path = rb"[^.]\.\w\w|\w\w[/\\]|[/\\]\w\w"  # a suffix, or a separator of folders
    return len(letters) > len(names) * 3 // 4 and bool(re.search(part_of_path, b"".join(letters)))


def _decoded(names: list[bytes], end: bytes) -> Iterator[str]:
    for name in names:
        cleaned = name.removesuffix(b"\r") if end == b"\n" else name
        if cleaned:
            yield os.fsdecode(cleaned)
