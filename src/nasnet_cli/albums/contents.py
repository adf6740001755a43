"""The bytes of images that are not files on a disk: members of archives, and remote objects."""

from __future__ import annotations

import errno
import os

from nasnet_cli.errors import InputError
from nasnet_cli.images.source import SkipCounter, Source, is_remote, member_of


def is_file(path: str) -> bool:
    """Return whether a path names a file on a disk, there or not; not a member, nor a URL."""
    return not is_remote(path) and (os.path.lexists(path) or member_of(path) is None)


class Contents:
    """A reader of members and remote objects.

    It goes through an archive once where members are asked for in its order.
    """

    def __init__(self) -> None:
        from nasnet_cli.images.archives import Archives
        from nasnet_cli.images.selection import Selection
        from nasnet_cli.images.source import MAX_BYTES

        self._archives = Archives(Selection(), skips=SkipCounter(), max_bytes=MAX_BYTES)

    def read(self, path: str) -> bytes:
        """Return the bytes of a member or of a remote object. Raises OSError with the reason."""
        try:
            return self._source(path).read()
        except InputError as error:
            raise OSError(errno.EIO, str(error).rstrip(".")) from error

    def _source(self, path: str) -> Source:
        if is_remote(path):
            from nasnet_cli.images.remote import remote_source

            return remote_source(path)
        for source in self._archives.find(path):
            if source.path == path or source.failure is not None:
                return source
        raise InputError("not_found", "The archive has no such member.")
