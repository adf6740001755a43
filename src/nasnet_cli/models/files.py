"""The files of a model: names, sizes, digests."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from nasnet_cli.errors import ModelError


@contextmanager
def reading(name: object, remedy: str = "Check the permissions.") -> Iterator[None]:
    """Raise ModelError of the system's errors in a block that reads what is called name."""
    try:
        yield
    except OSError as error:
        raise ModelError(f"{name} cannot be read: {error.strerror}.", remedy) from None


def module_files(folder: Path) -> dict[str, int]:
    """Return the sizes in bytes of all files in a folder by their relative names with "/", sorted by bytes.

    Raises ModelError for what no module has (a link that leads out of the folder or to another
    folder, a pipe, a device) and when the folder cannot be read.
    """
    root = folder.resolve()
    with reading(f"The model {folder}"):
        sizes_by_name = dict(_walk(root, folder, ""))
    return dict(sorted(sizes_by_name.items(), key=lambda item: os.fsencode(item[0])))


def digest(folder: Path) -> str:
    """Return the SHA-256 of a module in hexadecimal: the same for the same files anywhere.

    It covers each file in the order of module_files, as digest_of does. Dates, permissions and
    empty folders do not count. Raises ModelError as module_files does.
    """
    return digest_of({name: folder / name for name in module_files(folder)})


def digest_of(files: Mapping[str, Path]) -> str:
    """Return the SHA-256 over files by their names.

    Each adds its name, a zero byte, its size in decimal digits, a zero byte, its content. Raises
    ModelError when one cannot be read.
    """
    total = hashlib.sha256()
    for name, path in files.items():
        with reading(path):
            total.update(b"%b\0%d\0" % (os.fsencode(name), path.stat().st_size))
            add_file(total, path)
    return total.hexdigest()


def add_file(total: hashlib._Hash, path: Path) -> None:
    """Add a file's content to a hash. Raises OSError when it cannot be read."""
    with path.open("rb") as file:
        hashlib.file_digest(file, lambda: total)


def sizes(folder: Path, names: Iterable[str]) -> dict[str, int]:
    """Return the sizes in bytes of the named files in a folder. Raises ModelError when one cannot be read."""
    sizes_by_name = {}
    for name in names:
        with reading(folder / name):
            sizes_by_name[name] = (folder / name).stat().st_size
    return sizes_by_name


def _walk(root: Path, folder: Path, above: str) -> Iterator[tuple[str, int]]:
    with os.scandir(folder) as entries:
        for entry in entries:
            name = above + entry.name
            if entry.is_dir(follow_symlinks=False):
                yield from _walk(root, Path(entry.path), name + "/")
                continue
            path = Path(entry.path)
            if entry.is_symlink() and not path.resolve().is_relative_to(root):
                raise ModelError(
                    f"{path} is a link that leads out of the model's folder.",
                    "Put the file itself in its place.",
                )
            status = path.stat()
            if not stat.S_ISREG(status.st_mode):
                raise ModelError(f"{path} is not a regular file.", "Remove it; no model has one.")
            yield name, status.st_size
