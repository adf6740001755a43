"""The files in a tar archive, plain or compressed by gzip."""

from __future__ import annotations

import functools
import gzip
import itertools
import os
import posixpath
import tarfile
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import BinaryIO, Literal, NoReturn, cast

from nasnet_cli.errors import InputError
from nasnet_cli.images.archives import Entry
from nasnet_cli.images.formats import HEAD_BYTES
from nasnet_cli.images.source import check_size, open_regular
from nasnet_cli.images.spool import HeldBytes, spooled, steps
from nasnet_cli.strict_tar import DamagedTarError, StrictTarInfo

_MAX_PADDING_BYTES = 1 << 17
_STEP_BYTES = 1 << 20

_NO_TARGET = "It is a hard link to {}, which is not before it in the archive."
_SPARSE = "The member is stored as a sparse file, which nasnet does not read."

# The bytes of a file in an unpacked archive: where they begin, and how many they are.
_Span = tuple[int, int]


def is_tar(block: bytes) -> bool:
    """Return whether the first 512 bytes of a file are a tar header."""
    try:
        tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        return False
    return True


def tar_entries(path: str, *, is_compressed: bool = False) -> Iterator[Entry]:
    """Yield the files in a tar, in its order; hard links as the files that they lead to."""
    links: dict[int, _Span | None] | None = None
    spans = _Spans(path, is_compressed)
    with _damage_as_input_error(), ExitStack() as stack:
        blocks = _opened(path, is_compressed, stack)
        archive = stack.enter_context(tarfile.TarFile(fileobj=blocks, tarinfo=StrictTarInfo))
        for number, info in enumerate(_infos(archive)):
            entry = functools.partial(Entry, info.name.removeprefix("./"), number)
            if info.islnk():
                links = _links(path, is_compressed) if links is None else links
                if info.offset not in links:
                    fail = functools.partial(_fail, "archive", _NO_TARGET.format(info.linkname))
                    yield entry(fail, fail)
                elif (span := links[info.offset]) is None:
                    yield entry(_not_read, _not_read, "link")
                else:
                    yield entry(functools.partial(spans.head, span), _later(spans, span))
            elif info.issparse():
                fail = functools.partial(_fail, "unsupported", _SPARSE)
                yield entry(fail, fail)
            elif not info.isreg():
                yield entry(_not_read, _not_read, "link" if info.issym() else "pipe or device")
            elif is_compressed:
                member = _Member(archive, info)
                yield entry(member.head, member.take)
            else:
                span = info.offset_data, info.size
                yield entry(functools.partial(spans.head, span), _later(spans, span))
        # gzip checks its CRC at its end, which is behind a tar's padding.
        blocks.read(_MAX_PADDING_BYTES)


@contextmanager
def _damage_as_input_error() -> Iterator[None]:
    try:
        yield
    except DamagedTarError as error:
        raise InputError("archive", f"The archive is damaged: {error}.") from error


def _fail(kind: Literal["archive", "unsupported"], message: str, *_: int) -> NoReturn:
    raise InputError(kind, message)


def _not_read(*_: int) -> NoReturn:
    raise AssertionError("this kind of member is never read")


def _later(spans: _Spans, span: _Span) -> Callable[[int], Callable[[int], BinaryIO]]:
    return lambda _: functools.partial(spans.read, span)


def _opened(path: str, is_compressed: bool, stack: ExitStack) -> BinaryIO:
    stream = stack.enter_context(open_regular(path))
    if not is_compressed:
        return stream
    return cast(BinaryIO, stack.enter_context(gzip.GzipFile(fileobj=stream)))


def _infos(archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """Yield the headers of an archive, but for those of folders."""
    while (info := archive.next()) is not None:
        # Or the headers of a million images stay in memory.
        archive.members.clear()  # type: ignore[attr-defined]
        if not info.isdir():
            yield info


def _links(path: str, is_compressed: bool) -> dict[int, _Span | None]:
    """Return what each hard link leads to, by the offset of its header.

    That is the last file of that name before the link; None for a symbolic link. A link to anything
    else, or to nothing, is left out. Reads all headers twice, and keeps those of targets only.
    """

    def infos() -> Iterator[tarfile.TarInfo]:
        with ExitStack() as stack:
            blocks = _opened(path, is_compressed, stack)
            archive = stack.enter_context(tarfile.TarFile(fileobj=blocks, tarinfo=StrictTarInfo))
            # A damaged archive is listed up to the damage, which the caller's pass reports.
            with suppress(Exception):
                yield from _infos(archive)

    wanted = {posixpath.normpath(info.linkname) for info in infos() if info.islnk()}
    last: dict[str, _Span | None] = {}
    found: dict[int, _Span | None] = {}
    for info in infos():
        name = posixpath.normpath(info.name)
        if info.islnk():
            target = posixpath.normpath(info.linkname)
            if target in last:
                found[info.offset] = last[target]
                if name in wanted:
                    last[name] = last[target]
        elif name in wanted:
            if info.issym():
                last[name] = None
            elif info.isreg() and not info.issparse():
                last[name] = info.offset_data, info.size
            else:
                last.pop(name, None)
    return found


def _first(stream: BinaryIO, size: int) -> Iterator[bytes]:
    """Yield the next bytes of a stream, so many of them."""
    while size > 0 and (part := stream.read(min(size, _STEP_BYTES))):
        size -= len(part)
        yield part


class _Member:
    """A member of a compressed tar: there is no way back to it, so take keeps its bytes."""

    def __init__(self, archive: tarfile.TarFile, info: tarfile.TarInfo) -> None:
        self._info = info
        stream = archive.extractfile(info)
        assert stream is not None  # for a regular member
        self._stream = stream
        self._head: bytes | None = None

    def head(self) -> bytes:
        if self._head is None:
            self._head = self._stream.read(HEAD_BYTES)
        return self._head

    def take(self, max_bytes: int) -> Callable[[int], BinaryIO]:
        check_size(self._info.size, max_bytes)
        parts = itertools.chain([self.head()], steps(cast(BinaryIO, self._stream)))
        return HeldBytes(parts, self._info.size).open


class _Spans:
    """Parts of an archive, as it is when unpacked, that may be read at any time from any thread.

    One descriptor is open while a part is read. Parts of a compressed archive that are read in its
    order take one pass; it is left open then.
    """

    def __init__(self, path: str, is_compressed: bool) -> None:
        self._path = path
        self._is_compressed = is_compressed
        self._lock = threading.Lock()
        self._pass: ExitStack | None = None
        self._stream: BinaryIO | None = None

    def head(self, span: _Span) -> bytes:
        """Return the first HEAD_BYTES of a part."""
        with self.read((span[0], min(span[1], HEAD_BYTES)), HEAD_BYTES) as stream:
            return stream.read()

    def read(self, span: _Span, max_bytes: int) -> BinaryIO:
        """Return a part as a stream. Raises InputError: too_large or archive."""
        offset, size = span
        check_size(size, max_bytes)
        try:
            if self._is_compressed:
                with self._lock:
                    part = spooled(_first(self._unpacked(offset), size), max_bytes)
            else:
                with open_regular(self._path) as stream:
                    stream.seek(offset)
                    part = spooled(_first(stream, size), max_bytes)
        except (OSError, EOFError, zlib.error) as error:
            raise InputError("archive", "The archive cannot be read.") from error
        if part.seek(0, os.SEEK_END) != size:
            part.close()
            raise InputError("archive", "The archive is cut short.")
        part.seek(0)
        return part

    def _unpacked(self, offset: int) -> BinaryIO:
        """Return the unpacked archive at an offset."""
        if self._stream is None or self._stream.tell() > offset:
            self._close()
            self._pass = ExitStack()
            self._stream = _opened(self._path, True, self._pass)
        while (left := offset - self._stream.tell()) > 0:
            if not self._stream.read(min(left, _STEP_BYTES)):
                break
        return self._stream

    def _close(self) -> None:
        if self._pass is not None:
            self._pass.close()

    def __del__(self) -> None:
        self._close()
