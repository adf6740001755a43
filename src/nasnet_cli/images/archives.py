"""Pictures in .zip, .tar and .tar.gz archives, read in place: nothing is written to disk."""

from __future__ import annotations

import functools
import gzip
import os
import stat
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from typing import BinaryIO, cast

from nasnet_cli.errors import InputError
from nasnet_cli.images.formats import HEAD_BYTES, has_image_suffix, signature
from nasnet_cli.images.names import COMPRESSED_TAR_SUFFIXES, ZIP_SUFFIX
from nasnet_cli.images.source import SkipCounter, Source, check_size, open_regular
from nasnet_cli.strict_tar import DamagedTarError, StrictTarInfo

_ZIP_ENCRYPTED = 0x1
_ZIP_UTF8 = 0x800

_MAX_TAR_PADDING_BYTES = 1 << 17


def members(path: str, *, listing: SkipCounter, max_bytes: int) -> Iterator[Source]:
    """The pictures in the archive at path, named path!/member.

    A zip's come sorted by the bytes of their names, a tar's in its own order. Hidden members,
    links, devices and other files are passed over and counted in listing. A damaged archive ends
    with a Source of its own name whose failure says so, after the members that could be found.
    """
    find = _zip_members if path.lower().endswith(ZIP_SUFFIX) else _tar_members
    try:
        yield from find(path, listing, max_bytes)
    except InputError as failure:
        yield Source(path, failure=failure)
    except DamagedTarError as error:
        yield Source(path, failure=InputError("archive", f"The archive is damaged: {error}."))
    # The boundary to zipfile, tarfile and the decompressors: on damaged bytes they raise their
    # own errors, EOFError, zlib.error, struct.error, ValueError, NotImplementedError and more.
    except Exception:
        yield Source(path, failure=InputError("archive", "The archive is damaged or cut short."))


def _is_hidden(name: str) -> bool:
    return any(part.startswith(".") and part not in (".", "..") for part in name.split("/"))


def _member_path(archive: str, name: str) -> str:
    return f"{archive}!/{name.removeprefix('./')}"


class _Zip:
    """An open zip whose members may be read from any thread.

    The members' Sources hold it, and the last of them to go closes the file.
    """

    def __init__(self, path: str) -> None:
        self._file = zipfile.ZipFile(path)
        # Two members read at once share the file's position and ZipFile's count of readers.
        self._lock = threading.Lock()

    def infos(self) -> list[zipfile.ZipInfo]:
        return sorted(self._file.infolist(), key=lambda info: os.fsencode(_zip_name(info)))

    def looks_like_picture(self, info: zipfile.ZipInfo) -> bool:
        try:
            return signature(self._expand(info, HEAD_BYTES)) is not None
        except InputError:
            return False

    def read(self, info: zipfile.ZipInfo, max_bytes: int) -> bytes:
        """The whole member. Raises InputError: archive or too_large."""
        check_size(info.file_size, max_bytes)
        # Asking for one byte more than the header promises makes zipfile check the CRC.
        data = self._expand(info, info.file_size + 1)
        if len(data) != info.file_size:
            raise InputError("archive", "The member is not as long as its archive says.")
        return data

    def _expand(self, info: zipfile.ZipInfo, size: int) -> bytes:
        if info.flag_bits & _ZIP_ENCRYPTED:
            raise InputError("archive", "The member is encrypted.")
        try:
            with self._lock, self._file.open(info) as member:
                return member.read(size)
        # See members: anything may come from damaged bytes.
        except Exception as error:
            raise InputError("archive", "The member is damaged.") from error


def _zip_name(info: zipfile.ZipInfo) -> str:
    """The member's name as a path would have it.

    Names that are not marked as UTF-8 mostly are all the same; zipfile takes them for DOS ones.
    """
    if info.flag_bits & _ZIP_UTF8:
        return info.filename
    return os.fsdecode(info.filename.encode("cp437"))


def _zip_members(path: str, listing: SkipCounter, max_bytes: int) -> Iterator[Source]:
    archive = _Zip(path)
    for info in archive.infos():
        name = _zip_name(info)
        if info.is_dir():
            continue
        kind = stat.S_IFMT(info.external_attr >> 16)  # 0 when written on other systems
        if (
            kind in (0, stat.S_IFREG)
            and not _is_hidden(name)
            and (has_image_suffix(name) or archive.looks_like_picture(info))
        ):
            read = functools.partial(archive.read, info)
            yield Source(_member_path(path, name), member=read)
        else:
            listing.passed_over += 1


def _tar_members(path: str, listing: SkipCounter, max_bytes: int) -> Iterator[Source]:
    compressed = path.lower().endswith(COMPRESSED_TAR_SUFFIXES)
    with (
        open_regular(path) as stream,
        _decompressed(stream, compressed) as blocks,
        tarfile.TarFile(fileobj=blocks, tarinfo=StrictTarInfo) as archive,
    ):
        while (info := archive.next()) is not None:
            # Else the headers of a million pictures stay in memory.
            archive.members.clear()  # type: ignore[attr-defined]
            if info.isdir():
                continue
            source = None
            if info.isreg() and not info.issparse() and not _is_hidden(info.name):
                source = _tar_source(path, archive, info, compressed, max_bytes)
            if source is None:
                listing.passed_over += 1
            else:
                yield source
        # gzip checks its CRC where it ends, which is behind a tar's padding.
        blocks.read(_MAX_TAR_PADDING_BYTES)


def _decompressed(stream: BinaryIO, compressed: bool) -> BinaryIO:
    return cast(BinaryIO, gzip.GzipFile(fileobj=stream)) if compressed else stream


def _tar_source(
    path: str, archive: tarfile.TarFile, info: tarfile.TarInfo, compressed: bool, max_bytes: int
) -> Source | None:
    """The member as a Source, or None when it is no picture."""
    name = _member_path(path, info.name)
    member = archive.extractfile(info)
    assert member is not None  # for a regular member
    with member:
        head = member.read(HEAD_BYTES)
        if not has_image_suffix(info.name) and signature(head) is None:
            return None
        if not compressed:
            read = functools.partial(_read_span, path, info.offset_data, info.size)
            return Source(name, member=read)
        # There is no way back in a compressed stream: the bytes are held from here on.
        try:
            check_size(info.size, max_bytes)
        except InputError as failure:
            return Source(name, failure=failure)
        data = head + member.read()
        return Source(name, member=lambda _: data)


def _read_span(path: str, offset: int, size: int, max_bytes: int) -> bytes:
    """A member of a plain tar, through a descriptor of its own, so that any thread may."""
    check_size(size, max_bytes)
    with open_regular(path) as stream:
        try:
            stream.seek(offset)
            data = stream.read(size)
        except OSError as error:
            raise InputError("archive", "The archive cannot be read.") from error
    if len(data) != size:
        raise InputError("archive", "The archive is cut short.")
    return data
