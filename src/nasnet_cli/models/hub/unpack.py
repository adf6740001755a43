"""Unpacks a .tar or .tar.gz that may come from anywhere, whole or not at all.

Nothing is written outside of the folder: the archive's files and folders alone are made, under
names that are checked, in a new folder. What no module's archive has (links, devices, absolute
names, "..") is refused by name and not passed over, since such an archive was not packed honestly.
"""

from __future__ import annotations

import gzip
import io
import os
import shutil
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, BinaryIO, Self, cast

from nasnet_cli.cache import unusable
from nasnet_cli.errors import ModelError
from nasnet_cli.results.text import printable

_GZIP = b"\x1f\x8b"
_CHUNK = 2**20
# Names and attributes in front of a member. Honest ones are a few kilobytes.
_HEADER_TYPES = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)
_HEADER_LIMIT = 2**20
_EMPTY_HEADER = tarfile.EmptyHeaderError  # type: ignore[attr-defined]
_END_MARK = tarfile.EOFHeaderError  # type: ignore[attr-defined]
_HEADER_ERROR = tarfile.HeaderError
_REMEDY = "Get the archive from a place that you trust; nothing of it was kept."


@dataclass(frozen=True)
class Limits:
    """How much an archive may hold.

    expansion is by how much it may be compressed; below grace bytes it doesn't count, since a
    few zeros are compressed a thousand times.
    """

    files: int = 10_000
    depth: int = 16
    name_bytes: int = 1024
    total_bytes: int = 8 * 2**30
    expansion: int = 100
    grace: int = 256 * 2**20

    def bytes_from(self, size: int) -> int:
        """How many bytes an archive of that size may unpack to."""
        return min(self.total_bytes, max(self.grace, self.expansion * size))


def unpack(archive: Path, folder: Path, limits: Limits = Limits()) -> None:
    """Unpacks a .tar or .tar.gz into folder, which must not be there yet.

    folder appears when all is written; a process that is killed leaves a folder
    .NAME.random.partial beside it. Modes, owners and times of the archive are not taken over.
    Raises ModelError, with the member's name, for what is refused, and for an archive that is cut
    off, damaged or over the limits; CacheError when it can't be written.
    """
    partial = folder.with_name(f".{folder.name}.{os.urandom(6).hex()}.partial")
    try:
        partial.mkdir(parents=True)
        _Unpacking(archive, partial, limits).run()
        partial.rename(folder)
    except OSError as error:
        raise unusable(error) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


class _StrictTarInfo(tarfile.TarInfo):
    """Headers that say so when they are bad.

    tarfile takes a bad header after the first for the archive's end, and would lose the rest
    without a word.
    """

    needs_end_mark = False

    @classmethod
    def fromtarfile(cls, tarfile: tarfile.TarFile) -> Self:
        try:
            return super().fromtarfile(tarfile)
        except _EMPTY_HEADER:
            if cls.needs_end_mark:
                raise _DamagedError("its end is missing") from None
            raise
        except _END_MARK:
            raise
        except _HEADER_ERROR as error:
            raise _DamagedError("a header in it is damaged") from error

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        info = super().frombuf(buf, encoding, errors)
        if info.type in _HEADER_TYPES and info.size > _HEADER_LIMIT:
            raise _DamagedError("it has a header of an absurd size")
        return info


class _PlainTarInfo(_StrictTarInfo):
    """For an archive without compression, where nothing else tells that the rest is missing."""

    needs_end_mark = True


class _DamagedError(Exception):
    """The archive can't be read; the words that say why."""


# tarfile gives ValueError for numbers and text in headers that are neither.
_DAMAGE = (_DamagedError, tarfile.TarError, ValueError, EOFError, zlib.error, gzip.BadGzipFile)


class _Unpacking:
    def __init__(self, archive: Path, folder: Path, limits: Limits) -> None:
        self.archive = archive
        self.folder = folder
        self.limits = limits
        self.files: set[str] = set()
        self.folders: set[str] = set()

    def run(self) -> None:
        try:
            with self._stream() as (stream, headers):
                # Its own errors for a name that is not UTF-8 would not say which.
                with tarfile.open(
                    fileobj=stream,
                    mode="r|",
                    tarinfo=headers,
                    encoding="utf-8",
                    errors="surrogateescape",
                ) as tar:
                    for info in tar:
                        self._member(tar, info)
                # gzip checks its sum where it ends, which is behind a tar's padding.
                while stream.read(_CHUNK):
                    pass
        except _DAMAGE as error:
            raise ModelError(
                f"The archive {self.archive} is cut off or damaged: {str(error).rstrip('.')}.",
                "Get it again.",
            ) from error

    @contextmanager
    def _stream(self) -> Iterator[tuple[BinaryIO, type[_StrictTarInfo]]]:
        with self.archive.open("rb") as file:
            is_gzip = file.read(2) == _GZIP
            file.seek(0)
            limit = self.limits.bytes_from(os.fstat(file.fileno()).st_size)
            too_large = self._refused(f"unpacks to over {limit:,} bytes, which no module would")
            source = cast(BinaryIO, gzip.GzipFile(fileobj=file)) if is_gzip else file
            counted = cast(BinaryIO, _Counted(source, limit, too_large))
            yield counted, _StrictTarInfo if is_gzip else _PlainTarInfo

    def _member(self, tar: tarfile.TarFile, info: tarfile.TarInfo) -> None:
        parts = self._parts(info.name)
        kind = _kind(info)
        if kind not in ("file", "folder"):
            raise self._refused(f"holds a {kind}, {_shown(info.name)}, which no module has")
        if len(self.files) + len(self.folders) >= self.limits.files:
            raise self._refused(f"holds over {self.limits.files:,} files")
        name = "/".join(parts)
        if kind == "folder":
            self._make_folders(parts, info.name)
            return
        if not parts or name in self.files or name in self.folders:
            raise self._refused(f"holds {_shown(info.name)} twice")
        self._make_folders(parts[:-1], info.name)
        self.files.add(name)
        source = tar.extractfile(info)
        assert source is not None  # for a regular file
        with source, (self.folder / name).open("xb") as file:
            _copy(source, file, info.size)

    def _make_folders(self, parts: list[str], member: str) -> None:
        for depth in range(1, len(parts) + 1):
            name = "/".join(parts[:depth])
            if name in self.files:
                raise self._refused(f"holds {_shown(member)} below a file of that name")
            if name not in self.folders:
                self.folders.add(name)
                (self.folder / name).mkdir()

    def _parts(self, name: str) -> list[str]:
        """A member's name cut at its slashes, without "." and empty ones."""
        shown = _shown(name)
        if name.startswith("/"):
            raise self._refused(f"holds an absolute name, {shown}")
        parts = [part for part in name.split("/") if part not in ("", ".")]
        if ".." in parts:
            raise self._refused(f"holds a name that leads out of its folder, {shown}")
        try:
            encoded = name.encode()
        except UnicodeEncodeError:
            raise self._refused(f"holds a name that is not UTF-8, {shown}") from None
        if len(encoded) > self.limits.name_bytes or any(len(p.encode()) > 255 for p in parts):
            raise self._refused(f"holds a name that is too long, {shown[:80]}…")
        if len(parts) > self.limits.depth:
            raise self._refused(f"holds folders nested over {self.limits.depth} deep, {shown}")
        if any(character < " " or character in "\\\x7f" for character in name):
            raise self._refused(f"holds a name with characters that no module has, {shown}")
        return parts

    def _refused(self, what: str) -> ModelError:
        return ModelError(f"The archive {self.archive} {what}.", _REMEDY)


class _Counted(io.RawIOBase):
    """A stream that raises too_large when more than limit bytes are read."""

    def __init__(self, source: BinaryIO, limit: int, too_large: ModelError) -> None:
        self._source = source
        self._left = limit
        self._too_large = too_large

    def read(self, size: int = -1) -> bytes:
        data = self._source.read(min(size, _CHUNK) if size >= 0 else _CHUNK)
        self._left -= len(data)
        if self._left < 0:
            raise self._too_large
        return data


def _copy(source: IO[bytes], file: BinaryIO, size: int) -> None:
    while chunk := source.read(min(_CHUNK, size)):
        file.write(chunk)
        size -= len(chunk)
    if size:
        raise _DamagedError("it ends within a file")


def _kind(info: tarfile.TarInfo) -> str:
    if info.issparse():
        return "sparse file"
    if info.isreg():
        return "file"
    if info.isdir():
        return "folder"
    kinds = {
        tarfile.SYMTYPE: "symbolic link",
        tarfile.LNKTYPE: "hard link",
        tarfile.FIFOTYPE: "pipe",
        tarfile.CHRTYPE: "device",
        tarfile.BLKTYPE: "device",
    }
    return kinds.get(info.type, "thing of an unknown kind")


def _shown(name: str) -> str:
    return repr(printable(name[:200]))
