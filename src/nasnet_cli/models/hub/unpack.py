"""Unpack a .tar or .tar.gz from anywhere, completely or not at all.

Only plain files and folders are created, under checked names, in a new folder. What no model's
archive has (links, devices, absolute names, "..") is refused by name, not skipped: such an archive
was not made in good faith.
"""

from __future__ import annotations

import gzip
import io
import os
import tarfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from nasnet_cli.atomic import hidden_folder
from nasnet_cli.cache import cannot_write
from nasnet_cli.errors import ModelError
from nasnet_cli.results.text import printable
from nasnet_cli.strict_tar import DamagedTarError, StrictTarInfo

_GZIP_MAGIC = b"\x1f\x8b"
_CHUNK = 2**20
_MAX_PART_BYTES = 255  # of a name, in all common file systems
# tarfile raises ValueError for malformed numbers and text in headers.
_DAMAGE = (DamagedTarError, tarfile.TarError, ValueError, EOFError, zlib.error, gzip.BadGzipFile)
_MEMBER_KINDS = {
    tarfile.SYMTYPE: "symbolic link",
    tarfile.LNKTYPE: "hard link",
    tarfile.FIFOTYPE: "pipe",
    tarfile.CHRTYPE: "device",
    tarfile.BLKTYPE: "device",
}


@dataclass(frozen=True)
class Limits:
    """Bounds on the content of an archive.

    expansion is the largest ratio of unpacked to packed size; it does not count below grace
    bytes, since a few zeros compress a thousandfold.
    """

    files: int = 10_000
    depth: int = 16
    name_bytes: int = 1024
    total_bytes: int = 8 * 2**30
    expansion: int = 100
    grace: int = 256 * 2**20

    def unpacked_bytes(self, packed: int) -> int:
        """Return how many bytes an archive of packed bytes may unpack to."""
        return min(self.total_bytes, max(self.grace, self.expansion * packed))


def unpack(archive: Path, folder: Path, limits: Limits = Limits()) -> None:
    """Unpack a .tar or .tar.gz into folder, which must not exist yet.

    The folder appears when everything is written. The archive's modes, owners and times are
    ignored. Raises ModelError, with the member's name, for what is refused, and for an archive
    that is cut off, damaged or over the limits; CacheError when the folder cannot be written.
    """
    try:
        with hidden_folder(folder) as partial:
            _Unpacking(archive, partial, limits).run()
            partial.rename(folder)
    except OSError as error:
        raise cannot_write(error) from error


class _CompleteTarInfo(StrictTarInfo):
    """A header of an uncompressed archive, where only the end mark shows that nothing is missing."""

    needs_end_mark = True


class _Unpacking:
    def __init__(self, archive: Path, folder: Path, limits: Limits) -> None:
        self.archive = archive
        self.folder = folder
        self.limits = limits
        self.files: set[str] = set()
        self.folders = {""}  # the folder itself

    def run(self) -> None:
        try:
            with self.archive.open("rb") as file:
                is_gzip = file.read(2) == _GZIP_MAGIC
                file.seek(0)
                source = cast(BinaryIO, gzip.GzipFile(fileobj=file)) if is_gzip else file
                limit = self.limits.unpacked_bytes(os.fstat(file.fileno()).st_size)
                too_large = self._refused(
                    f"unpacks to over {limit:,} bytes, more than any model has"
                )
                stream = cast(BinaryIO, _LimitedReader(source, limit, too_large))
                # surrogateescape, because tarfile's error for other names would not show them.
                with tarfile.open(
                    fileobj=stream,
                    mode="r|",
                    tarinfo=StrictTarInfo if is_gzip else _CompleteTarInfo,
                    encoding="utf-8",
                    errors="surrogateescape",
                ) as tar:
                    # A second check of each member, where Python has it (3.11.4 and later).
                    tar.extraction_filter = getattr(tarfile, "data_filter", lambda info, _: info)
                    for info in tar:
                        self._extract(tar, info)
                # gzip verifies its checksum at its end, which comes after the tar's padding.
                while stream.read(_CHUNK):
                    pass
        except _DAMAGE as error:
            raise ModelError(
                f"The archive {self.archive} is cut off or damaged: {str(error).rstrip('.')}.",
                "Get it again.",
            ) from error

    def _extract(self, tar: tarfile.TarFile, info: tarfile.TarInfo) -> None:
        name, *folders = self._checked_names(info)
        shown = _shown(info.name)
        if name in self.files or (name in self.folders and not info.isdir()):
            raise self._refused(f"has {shown} twice")
        if not self.files.isdisjoint(folders):
            raise self._refused(f"has {shown} inside a file of that name")
        self.folders.update(folders)
        if info.isdir():
            self.folders.add(name)
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        else:
            self.files.add(name)
            tar.extract(info, self.folder, set_attrs=False)
        if len(self.files | self.folders) > self.limits.files + 1:
            raise self._refused(f"has over {self.limits.files:,} files")

    def _checked_names(self, info: tarfile.TarInfo) -> list[str]:
        """Return a member's normal name and those of the folders above it, or refuse it."""
        name, shown = info.name, _shown(info.name)
        if info.issparse() or not (info.isreg() or info.isdir()):
            kind = (
                "sparse file" if info.issparse() else _MEMBER_KINDS.get(info.type, "special file")
            )
            raise self._refused(f"has a {kind}, {shown}, which no model has")
        parts = [part for part in name.split("/") if part not in ("", ".")]
        if name.startswith("/") or ".." in parts:
            raise self._refused(f"has a name that leads out of its folder, {shown}")
        try:
            sizes = [len(part.encode()) for part in (name, *parts)]
        except UnicodeEncodeError:
            raise self._refused(f"has a name that is not UTF-8, {shown}") from None
        if sizes[0] > self.limits.name_bytes or max(sizes[1:], default=0) > _MAX_PART_BYTES:
            raise self._refused(f"has a name that is too long, {shown[:80]}…")
        if len(parts) > self.limits.depth:
            raise self._refused(f"has folders nested over {self.limits.depth} deep, {shown}")
        if any(character < " " or character in "\\\x7f" for character in name):
            raise self._refused(f"has a name with characters that no model uses, {shown}")
        return ["/".join(parts[:depth]) for depth in range(len(parts), -1, -1)]

    def _refused(self, reason: str) -> ModelError:
        return ModelError(
            f"The archive {self.archive} {reason}.",
            "Get the archive from a source that you trust; nothing of it was kept.",
        )


class _LimitedReader(io.RawIOBase):
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


def _shown(name: str) -> str:
    return repr(printable(name[:200]))
