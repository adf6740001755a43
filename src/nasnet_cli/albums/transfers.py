"""Copy, link and move one file so that nothing is overwritten, and a kill at any time loses nothing.

What has come of a transfer can always be told from its source and its target. All functions raise
OSError.
"""

from __future__ import annotations

import errno
import filecmp
import os
import shutil
import stat
from contextlib import suppress
from pathlib import Path

from nasnet_cli.albums.contents import Contents, is_file
from nasnet_cli.albums.paths import exists
from nasnet_cli.albums.undo_list import Transfer
from nasnet_cli.atomic import hidden_file
from nasnet_cli.images.formats import HEAD_BYTES, has_image_suffix, signature
from nasnet_cli.kept_files import open_kept
from nasnet_cli.systems import sync_file, sync_folder

# File systems without hard links say one of these, and Linux where the file is someone else's.
_NO_HARD_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}


def is_done(transfer: Transfer, target: str) -> bool:
    """Return whether a transfer to target has been carried out.

    A move is done when the source is gone, or has become another file: cameras use names again.
    """
    if not os.path.lexists(target):
        return False
    source = transfer.source
    return not (transfer.action == "move" and os.path.lexists(source) and _equal(source, target))


def carry_out(transfer: Transfer, target: str, contents: Contents) -> None:
    """Carry a transfer to target out, or what a killed process has left of it."""
    os.makedirs(os.path.dirname(target), exist_ok=True)
    source = transfer.source
    if transfer.action == "copy" and is_file(source):
        _copy(source, target)
    elif transfer.action == "copy":
        _write(contents.read(source), target)
    elif transfer.action == "link":
        os.symlink(_relative(source, target), target)
    else:
        _move(source, target)


def take_back(transfer: Transfer, target: str, contents: Contents) -> None:
    """Undo a transfer to target that has begun, or what a killed process has done of it.

    A copy is removed only while its original is there and equal. Raises OSError where that cannot
    be done, with the reason as strerror; then the target stays.
    """
    source = transfer.source
    if not os.path.lexists(target):
        raise OSError(errno.ENOENT, "it is no longer there")
    if transfer.action == "copy":
        _check_equal(source, target, contents)
        os.unlink(target)
    elif transfer.action == "link":
        if not os.path.islink(target) or os.readlink(target) != _relative(source, target):
            raise OSError(errno.EEXIST, "it is not the link that was made, so it stays")
        os.unlink(target)
    else:
        os.makedirs(os.path.dirname(source), exist_ok=True)
        try:
            _move(target, source)
        except FileExistsError:
            raise OSError(errno.EEXIST, f"there is another {source} now") from None


def check_confined(transfer: Transfer, folder: str, target: str) -> None:
    """Raise OSError where an undo list, which came with the folder perhaps, would do harm.

    Nothing is taken from outside of the folder, and only what nasnet moves goes back: a program or
    a file of settings could be put in a place where it counts.
    """
    if not Path(os.path.realpath(os.path.dirname(target))).is_relative_to(folder):
        raise OSError(errno.EXDEV, "its folder is a link that leads elsewhere, so it stays")
    if transfer.action == "move" and not _is_moved_kind(transfer.source, target):
        raise OSError(errno.EPERM, "it is not an image, so it stays")


def _is_moved_kind(source: str, target: str) -> bool:
    """Return whether a file at target is one to go to source: an image or a sidecar.

    Under another name, it has to be an image by its content, and neither a program nor hidden.
    """
    name = os.path.basename(source)
    if has_image_suffix(name) or name.lower().endswith(".xmp"):
        return True
    with suppress(OSError), open_kept(Path(target), follow=True) as stream:
        is_program = os.fstat(stream.fileno()).st_mode & 0o111
        return not (is_program or "/." in source) and signature(stream.read(HEAD_BYTES)) is not None
    return not os.path.lexists(target)  # which take_back will say


def _check_equal(source: str, copy: str, contents: Contents) -> None:
    if not exists(source):
        raise OSError(errno.ENOENT, "its original is gone, so the copy stays")
    if is_file(source):
        equal = _equal(source, copy)
    else:
        equal = os.path.isfile(copy) and contents.read(source) == Path(copy).read_bytes()
    if not equal:
        raise OSError(errno.EEXIST, "it differs from its original, so it stays")


def _equal(one: str, other: str) -> bool:
    """Return whether two names stand for one file on the disk, or two files of the same bytes.

    A symbolic link is not equal to the file that it leads to: without that file, nothing is left.
    """
    try:
        statuses = [os.lstat(one), os.lstat(other)]
        if os.path.samestat(*statuses):
            return True
        if os.path.realpath(one) == os.path.realpath(other):
            return False
        statuses = [os.stat(one), os.stat(other)]
    except FileNotFoundError:
        return False
    if not all(stat.S_ISREG(status.st_mode) for status in statuses):
        return False
    return filecmp.cmp(one, other, shallow=False)


def _copy(source: str, target: str, *, check: bool = False) -> None:
    """Copy a file's bytes, time and permissions; with check, compare what has been written."""
    with hidden_file(Path(target)) as hidden:
        shutil.copyfile(source, hidden)
        # Some file systems keep no permissions; the time is what people miss.
        with suppress(OSError):
            status = os.stat(source)
            os.utime(hidden, ns=(status.st_atime_ns, status.st_mtime_ns))
            shutil.copystat(source, hidden)
        _publish(hidden, target)
        if check and not filecmp.cmp(source, target, shallow=False):
            os.unlink(target)
            raise OSError(errno.EIO, "the copy differs from the original")


def _write(data: bytes, target: str) -> None:
    with hidden_file(Path(target)) as hidden:
        hidden.write_bytes(data)
        _publish(hidden, target)


def _publish(hidden: Path, target: str) -> None:
    """Give a hidden file its name, which nothing has yet, once its bytes are on disk.

    The name may get lost with the power: then the file is copied again.
    """
    sync_file(hidden)
    try:
        os.link(hidden, target)
    except OSError as error:
        if error.errno not in _NO_HARD_LINKS:
            raise
        _rename(os.fspath(hidden), target)


def _move(source: str, target: str) -> None:
    if not os.path.lexists(target):
        try:
            # Unlike a renaming, this never replaces what another program has just put there.
            os.link(source, target, follow_symlinks=False)
        except OSError as error:
            if error.errno in _NO_HARD_LINKS:
                _rename(source, target)
                return
            if error.errno != errno.EXDEV:
                raise
            _copy(source, target, check=True)
            sync_folder(Path(target).parent)  # the only name from here on
    elif not _equal(source, target):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), target)
    try:
        os.unlink(source)
    except OSError:
        os.unlink(target)
        raise


def _rename(source: str, target: str) -> None:
    if os.path.lexists(target):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), target)
    os.rename(source, target)


def _relative(source: str, target: str) -> str:
    """Return what a link at target has to hold: a path from where it really lies."""
    folder, name = os.path.split(source)
    real = os.path.join(os.path.realpath(folder), name)
    try:
        return os.path.relpath(real, os.path.realpath(os.path.dirname(target)))
    except ValueError:  # on another drive
        return real
