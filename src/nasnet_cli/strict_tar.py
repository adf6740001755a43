"""Tar headers that are checked: damage raises an error instead of ending the archive early."""

from __future__ import annotations

import tarfile
from typing import Self

_END_OF_ARCHIVE = tarfile.EOFHeaderError  # type: ignore[attr-defined]
_END_OF_FILE = tarfile.EmptyHeaderError  # type: ignore[attr-defined]
_HEADER_ERROR = tarfile.HeaderError
# A long name or an extended header is read into memory at once. Real ones take a few kilobytes.
_MAX_EXTENDED_HEADER = 2**20
_EXTENDED_HEADERS = (
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
)


class DamagedTarError(Exception):
    """The archive is damaged; the message says how, as a clause without a full stop."""


class StrictTarInfo(tarfile.TarInfo):
    """A tar header that raises DamagedTarError when it is damaged or absurdly large.

    tarfile takes a damaged header for the end of the archive and would silently drop the rest.
    Subclasses with needs_end_mark also refuse an archive without the zero blocks at its end.
    """

    needs_end_mark = False

    @classmethod
    def fromtarfile(cls, tarfile: tarfile.TarFile) -> Self:
        try:
            info = super().fromtarfile(tarfile)
        except _END_OF_ARCHIVE:
            raise
        except _END_OF_FILE:
            if cls.needs_end_mark:
                raise DamagedTarError("its end is missing") from None
            raise
        except _HEADER_ERROR as error:
            raise DamagedTarError("a header in it is damaged") from error
        if info.size < 0:
            raise DamagedTarError("a member has a negative size")
        return info

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        info = super().frombuf(buf, encoding, errors)
        if info.type in _EXTENDED_HEADERS and info.size > _MAX_EXTENDED_HEADER:
            raise DamagedTarError("a header in it is too large")
        return info
