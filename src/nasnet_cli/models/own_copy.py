"""A copy of a model that others could change: what is checked is what is opened.

It lies in the cache, by its content, with the lists of labels beside it.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from nasnet_cli import cache
from nasnet_cli.errors import ModelError
from nasnet_cli.models.files import digest_of, module_files, reading
from nasnet_cli.models.formats.base import DetectedModel
from nasnet_cli.models.found_labels import files_beside
from nasnet_cli.models.hub.store import Kind, entry_name, keep, known_name
from nasnet_cli.models.listener import ProgressListener
from nasnet_cli.models.reach import is_out_of_reach
from nasnet_cli.systems import open_flags

_CHUNK = 1 << 20


def own_copy(detected: DetectedModel, shown: str, listener: ProgressListener) -> DetectedModel:
    """Return the copy of a model in the cache, made first unless it is there.

    Raises ModelError when the model cannot be read or changes meanwhile, CacheError when the copy
    cannot be kept, or others could change it too.
    """
    originals = _files(detected)
    sha256 = digest_of(originals)

    def build(work: Path) -> tuple[Path, Kind, str]:
        folder = work / "copy"
        for name, original in originals.items():
            _copy(original, folder / name)
        if digest_of({name: folder / name for name in originals}) != sha256:
            raise ModelError(f"{shown} changed while it was copied.", "Run the command again.")
        return folder, "copied", sha256

    path = detected.path.absolute()
    identity = f"copy {detected.format.name} {sha256}"
    name = known_name(identity) or entry_name(path.name, identity)
    folder = keep(name, path.name, str(path), build, listener)
    if not is_out_of_reach(folder):
        raise cache.CacheError(
            f"{shown} could be changed by others while it is used, and so could its copy in the "
            f"cache {cache.cache_folder()}.",
            "Set NASNET_CACHE_DIR to a folder of your own, or copy the model to one.",
        )
    return DetectedModel(detected.format, folder / path.name)


def _files(detected: DetectedModel) -> dict[str, Path]:
    """Return the files to copy by their names in the copy. Raises ModelError as module_files does."""
    path = detected.path
    if path.is_dir():
        files = {f"{path.name}/{name}": path / name for name in module_files(path)}
    else:
        parts = detected.format.files(path).values()
        files = {part.name: part for part in parts if part.is_file()}
    beside = (file for file in files_beside(path) if file.parent == path.parent)
    return {**{file.name: file for file in beside}, **files}


def _copy(original: Path, copy: Path) -> None:
    """Copy a regular file, for this user alone. Raises ModelError when it cannot be read."""
    copy.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with reading(original):
        # It may have become a pipe, which would block.
        flags = os.O_RDONLY | open_flags("O_NONBLOCK", "O_CLOEXEC", "O_NOCTTY")
        source = os.fdopen(os.open(original, flags), "rb")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | open_flags("O_CLOEXEC")
    with source, os.fdopen(os.open(copy, flags, 0o600), "wb") as writing:
        if not stat.S_ISREG(os.fstat(source.fileno()).st_mode):
            raise ModelError(f"{original} is not a file.", "Name a model.")
        while chunk := source.read(_CHUNK):
            writing.write(chunk)
