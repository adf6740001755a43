"""Images in .zip, .tar and .tar.gz archives, read in place: nothing is written to disk."""

from __future__ import annotations

import functools
import gzip
import os
import stat
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from typing import BinaryIO, cast

from nasnet_cli.errors import InputError
from nasnet_cli.images.formats import HEAD_BYTES, has_image_suffix, signature
from nasnet_cli.images.source import FileStat, SkipCounter, Source, check_size, open_regular
from nasnet_cli.strict_tar import DamagedTarError, StrictTarInfo

_ZIP_ENCRYPTED = 0x1
_ZIP_UTF8 = 0x800

_MAX_TAR_PADDING_BYTES = 1 << 17

# An image of an archive: its name there, and a function to its bytes, or an error.
_Member = tuple[str, Callable[[int], bytes] | InputError]


def members(
    path: str, status: FileStat | None, *, skips: SkipCounter, max_bytes: int
) -> Iterator[Source]:
    """Yield the images in the archive at path, named path!/member.

    Those of a zip are sorted by the bytes of their names, those of a tar are in its own order.
    Hidden members, links, devices and other files are skipped and counted in skips. status is the
    archive's, for the Sources. A damaged archive ends with a Source of its own name whose failure
    says so, after the members that could be read.
    """
    list_members = _zip_members if path.lower().endswith(".zip") else _tar_members
    try:
        for name, read in list_members(path, skips, max_bytes):
            member_path = f"{path}!/{name.removeprefix('./')}"
            if isinstance(read, InputError):
                yield Source(member_path, failure=read)
            else:
                yield Source(member_path, member=read, stat=status, archive=path)
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


class _Zip:
    """An open zip whose members may be read from any thread.

    The members' Sources refer to it; the file is closed with the last of them.
    """

    def __init__(self, path: str) -> None:
        self._file = zipfile.ZipFile(path)
        # Two members read at once share the file's position and ZipFile's count of readers.
        self._lock = threading.Lock()

    def infos(self) -> list[zipfile.ZipInfo]:
        return sorted(self._file.infolist(), key=lambda info: os.fsencode(_zip_name(info)))

    def is_image(self, info: zipfile.ZipInfo) -> bool:
        """Return whether a member's first bytes are those of an image."""
        try:
            return signature(self._expand(info, HEAD_BYTES)) is not None
        except InputError:
            return False

    def read(self, info: zipfile.ZipInfo, max_bytes: int) -> bytes:
        """Return a member's bytes. Raises InputError: archive or too_large."""
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
        # See members: damaged bytes may raise anything.
        except Exception as error:
            raise InputError("archive", "The member is damaged.") from error


def _zip_name(info: zipfile.ZipInfo) -> str:
    """Return a member's name as a path.

    Most names that are not marked as UTF-8 are UTF-8 all the same; zipfile decodes them as cp437.
    """
    if info.flag_bits & _ZIP_UTF8:
        return info.filename
    return os.fsdecode(info.filename.encode("cp437"))


def _zip_members(path: str, skips: SkipCounter, max_bytes: int) -> Iterator[_Member]:
    archive = _Zip(path)
    for info in archive.infos():
        name = _zip_name(info)
        if info.is_dir():
            continue
        kind = stat.S_IFMT(info.external_attr >> 16)  # 0 when written on other systems
        if (
            kind in (0, stat.S_IFREG)
            and not _is_hidden(name)
            and (has_image_suffix(name) or archive.is_image(info))
        ):
            yield name, functools.partial(archive.read, info)
        else:
            skips.count += 1


def _tar_members(path: str, skips: SkipCounter, max_bytes: int) -> Iterator[_Member]:
    is_compressed = path.lower().endswith((".gz", ".tgz"))
    with (
        open_regular(path) as stream,
        _decompressed(stream, is_compressed) as blocks,
        tarfile.TarFile(fileobj=blocks, tarinfo=StrictTarInfo) as archive,
    ):
        while (info := archive.next()) is not None:
            # Or the headers of a million images stay in memory.
            archive.members.clear()  # type: ignore[attr-defined]
            if info.isdir():
                continue
            read = None
            if info.isreg() and not info.issparse() and not _is_hidden(info.name):
                read = _tar_member(path, archive, info, is_compressed, max_bytes)
            if read is None:
                skips.count += 1
            else:
                yield info.name, read
        # gzip checks its CRC at its end, which is behind a tar's padding.
        blocks.read(_MAX_TAR_PADDING_BYTES)


def _decompressed(stream: BinaryIO, is_compressed: bool) -> BinaryIO:
    return cast(BinaryIO, gzip.GzipFile(fileobj=stream)) if is_compressed else stream


def _tar_member(
    path: str, archive: tarfile.TarFile, info: tarfile.TarInfo, is_compressed: bool, max_bytes: int
) -> Callable[[int], bytes] | InputError | None:
    """Return a function to a member's bytes or an error; None when it is not an image."""
    member = archive.extractfile(info)
    assert member is not None  # for a regular member
    with member:
        head = member.read(HEAD_BYTES)
        if not has_image_suffix(info.name) and signature(head) is None:
            return None
        if not is_compressed:
            return functools.partial(_read_span, path, info.offset_data, info.size)
        # There is no way back in a compressed stream: the bytes are kept from here on.
        try:
            check_size(info.size, max_bytes)
        except InputError as failure:
            return failure
        data = head + member.read()
        return lambda _: data


def _read_span(path: str, offset: int, size: int, max_bytes: int) -> bytes:
    """Return the bytes of a member of a plain tar, through a descriptor of this thread's own."""
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
