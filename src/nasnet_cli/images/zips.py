"""The files in a zip archive."""

from __future__ import annotations

import functools
import io
import os
import stat
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, BinaryIO, cast

from nasnet_cli.errors import InputError
from nasnet_cli.images.archives import Entry
from nasnet_cli.images.formats import HEAD_BYTES
from nasnet_cli.images.source import check_size, open_regular
from nasnet_cli.images.spool import spooled, steps
from nasnet_cli.images.zip_directory import Directory

_ENCRYPTED = 0x1
_EMPTY = b"PK\5\6" + bytes(18)

# As for the archives of models. Bytes below the grace do not count: a few zeros compress well.
_MAX_EXPANSION, _EXPANSION_GRACE = 100, 1 << 30

_READ_METHODS = (
    zipfile.ZIP_STORED,
    zipfile.ZIP_DEFLATED,
    zipfile.ZIP_BZIP2,
    zipfile.ZIP_LZMA,
)
_OTHER_METHODS = {
    1: "Shrink",
    6: "Implode",
    9: "Deflate64",
    93: "Zstandard",
    95: "XZ",
    96: "JPEG recompression",
    97: "WavPack",
    98: "PPMd",
}


def zip_entries(path: str) -> Iterator[Entry]:
    """Yield the files in a zip, sorted by the bytes of their names.

    Raises InputError: archive for one whose members overlap, which no packer makes, or expand to
    more than a hundred times its size.
    """
    archive = _Zip(path)
    number = 0
    for name, info in archive.directory:
        if name.endswith("/"):
            continue
        kind = stat.S_IFMT(info.external_attr >> 16)  # 0 when written on other systems
        not_read = {0: None, stat.S_IFREG: None, stat.S_IFLNK: "link"}.get(kind, "pipe or device")
        yield Entry(
            name.removeprefix("./"),
            number,
            functools.partial(archive.expand, info, HEAD_BYTES),
            functools.partial(_reader, archive, info),
            not_read,
        )
        number += 1


def _reader(archive: _Zip, info: zipfile.ZipInfo, max_bytes: int) -> functools.partial[BinaryIO]:
    check_readable(info)
    return functools.partial(archive.read, info)


def check_readable(info: zipfile.ZipInfo) -> None:
    """Raise InputError, archive or unsupported, for a member that can never be read."""
    if info.flag_bits & _ENCRYPTED:
        raise InputError("archive", "The member is encrypted.")
    if info.compress_type not in _READ_METHODS:
        method = _OTHER_METHODS.get(info.compress_type, f"method {info.compress_type}")
        raise InputError(
            "unsupported",
            f"The member is compressed by {method}, which nasnet does not read.",
        )


def _check_expansion(expanded: int, packed: int) -> None:
    """Raise InputError where members say that they expand to far more than images do."""
    if expanded > max(_EXPANSION_GRACE, _MAX_EXPANSION * packed):
        raise InputError(
            "archive",
            f"The archive expands to {expanded:,} bytes, over {_MAX_EXPANSION} times its size; "
            "it may be an attack.",
        )


class _Zip:
    """A zip whose members may be read from any thread.

    The file is open only while a member is read: hundreds of archives may wait for that at once.
    """

    def __init__(self, path: str) -> None:
        self._file = _Reopened(path)
        # Two members read at once share the file's position and ZipFile's count of readers.
        self._lock = threading.Lock()
        with self._file.opened():
            self.directory = Directory(cast(BinaryIO, self._file))
        # It reads members; for zipfile, the archive has none.
        self._archive = zipfile.ZipFile(io.BytesIO(_EMPTY))
        self._archive.fp = cast(BinaryIO, self._file)
        _check_expansion(self.directory.expanded, self._file.size)

    def read(self, info: zipfile.ZipInfo, max_bytes: int) -> BinaryIO:
        """Return a member as a stream. Raises InputError: archive or too_large."""
        check_size(info.file_size, max_bytes)
        # Asking for more than the header promises makes zipfile check the CRC.
        with self._opened(info) as member:
            stream = spooled(steps(cast(BinaryIO, member)), max_bytes)
        if stream.seek(0, os.SEEK_END) != info.file_size:
            stream.close()
            raise InputError("archive", "The member is not as long as its archive says.")
        stream.seek(0)
        return stream

    def expand(self, info: zipfile.ZipInfo, size: int) -> bytes:
        """Return a member's first bytes. Raises InputError."""
        with self._opened(info) as member:
            return member.read(size)

    @contextmanager
    def _opened(self, info: zipfile.ZipInfo) -> Iterator[IO[bytes]]:
        check_readable(info)
        try:
            with self._lock, self._file.opened(), self._archive.open(info) as member:
                yield member
        except (InputError, MemoryError):
            raise
        # See archives: damaged bytes may raise anything.
        except Exception as error:
            raise InputError("archive", "The member is damaged.") from error


class _Reopened(io.RawIOBase):
    """A file for ZipFile that is open only within opened(); size is its length in bytes."""

    def __init__(self, path: str) -> None:
        self._path = path
        self.size = 0
        self._identity: tuple[int, ...] | None = None
        self._stream: BinaryIO | None = None
        self._position = 0

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Open the file. Raises InputError, also when it is another one than the first time."""
        with open_regular(self._path) as stream:
            status = os.fstat(stream.fileno())
            self.size = status.st_size
            identity = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
            self._identity = self._identity or identity
            if identity != self._identity:
                raise InputError("archive", "The archive has changed since it was listed.")
            self._stream = stream
            try:
                yield
            finally:
                self._stream = None

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        assert self._stream is not None
        if whence == os.SEEK_SET:
            self._stream.seek(offset)
        elif whence == os.SEEK_CUR:
            self._stream.seek(self._position + offset)
        else:
            self._stream.seek(offset, whence)
        self._position = self._stream.tell()
        return self._position

    def read(self, size: int = -1, /) -> bytes:
        assert self._stream is not None
        self._stream.seek(self._position)
        data = self._stream.read(size)
        self._position += len(data)
        return data
