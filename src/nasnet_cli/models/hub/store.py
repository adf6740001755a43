"""The models in the cache: each a folder and the record beside it, complete or not there.

The record is written before the folder gets its name. So a folder without a record is of no use,
and a record without a folder belongs to a model that has to be fetched again: it keeps the
checksum of the first download, which every later one must match.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from nasnet_cli import cache
from nasnet_cli.atomic import hidden_folder, hidden_path, leftovers
from nasnet_cli.errors import ModelError
from nasnet_cli.kept_files import parse_json, read_kept
from nasnet_cli.models.files import digest, module_files
from nasnet_cli.models.listener import ProgressListener

Kind = Literal["downloaded", "converted", "unpacked", "copied"]
_MAX_RECORD_BYTES = 16 * 2**20


@dataclass(frozen=True)
class Record:
    """The record of a model in the cache.

    label is its name or handle, source where it came from; sha256 is that of the file that was
    fetched or read, digest that of the model (files.digest); files has the size of each file in
    bytes; made is the date and time in UTC.
    """

    label: str
    source: str
    kind: Kind
    sha256: str
    digest: str
    files: dict[str, int]
    made: str


def entry_name(label: str, identity: str) -> str:
    """Return the name of a model's folder: readable by its label, unique by its identity."""
    words = re.sub(r"[^A-Za-z0-9.]+", "-", label.partition("://")[2] or label).strip("-.")
    return f"{words[-60:].strip('-.') or 'module'}-{_short_digest(identity)}"


def known_name(identity: str) -> str | None:
    """Return the name under which the model of that identity is kept, whatever its label was."""
    suffix = f"-{_short_digest(identity)}"
    return next((name for name in names() if name.endswith(suffix)), None)


def _short_digest(identity: str) -> str:
    return hashlib.sha256(os.fsencode(identity)).hexdigest()[:12]


def folder_of(name: str) -> Path:
    """Return the folder of a model, there or not."""
    return cache.subfolder("modules") / name


def record_file(name: str) -> Path:
    """Return the file of a model's record, there or not."""
    return cache.subfolder("modules") / f"{name}.json"


def read_record(name: str) -> Record | None:
    """Return the record of a model, None when it is missing or damaged."""
    path = record_file(name)
    try:
        data = parse_json(read_kept(path, max_bytes=_MAX_RECORD_BYTES))
        values = {field.name: data[field.name] for field in fields(Record)}
    except (OSError, ValueError, LookupError, TypeError):
        return None
    files = values.pop("files")
    if not isinstance(files, dict) or not all(isinstance(v, str) for v in values.values()):
        return None
    return Record(**values, files=files)


def fault(name: str, *, thorough: bool = False) -> str | None:
    """Return what is wrong with a model in the cache, as a clause, or None.

    thorough reads all of its bytes.
    """
    folder, record = folder_of(name), read_record(name)
    if not folder.is_dir():
        return "its folder is missing"
    if record is None:
        return "its record is missing or damaged"
    try:
        files = module_files(folder)
        if missing := sorted(record.files.keys() - files.keys()):
            return f"{missing[0]} is missing"
        if extra := sorted(files.keys() - record.files.keys()):
            return f"{extra[0]} does not belong to it"
        for file, size in record.files.items():
            if files[file] != size:
                return f"{file} has {files[file]:,} bytes, expected {size:,}"
        if thorough and digest(folder) != record.digest:
            return "its content has changed"
    except ModelError as error:
        return error.problem.rstrip(".")
    return None


def keep(
    name: str,
    label: str,
    source: str,
    build: Callable[[Path], tuple[Path, Kind, str]],
    listener: ProgressListener,
) -> Path:
    """Return the folder of a model, built first unless the cache has it complete.

    build gets an empty folder to work in, whose content is removed afterwards. It returns the
    model's folder in it, and kind and sha256 of its record. Of several processes that ask at once,
    one builds and the others wait. Raises what build raises, and CacheError when the cache cannot
    be written.
    """

    def waiting() -> None:
        listener.note(f"{label}: waiting for another process that is fetching it.")

    place = folder_of(name)
    if fault(name) is None:
        return place
    with cache.lock(name, waiting):
        if fault(name) is None:
            return place
        try:
            _remove_leftovers(name)
            cache.make_folder(place.parent)
            with hidden_folder(place) as work:
                folder, kind, sha256 = build(work)
                made = datetime.now(UTC).isoformat(timespec="seconds")
                files = module_files(folder)
                record = Record(label, source, kind, sha256, digest(folder), files, made)
                draft = work / "record.json"
                draft.write_text(json.dumps(asdict(record), indent=1) + "\n", encoding="ascii")
                _remove_folder(name)
                draft.replace(record_file(name))
                folder.rename(place)
        except OSError as error:
            raise cache.cannot_write(error) from error
    return place


def remove(name: str) -> None:
    """Remove a model, its record and what unfinished downloads of it left."""
    with cache.lock(name):
        try:
            _remove_leftovers(name)
            record_file(name).unlink(missing_ok=True)
            _remove_folder(name)
            _remove_partial_download(name)
        except OSError as error:
            raise cache.cannot_write(error) from error


def names() -> list[str]:
    """Return the names of all models in the cache, damaged ones too, sorted."""
    entries = set()
    with contextlib.suppress(OSError):
        for path in cache.subfolder("modules").iterdir():
            if not path.name.startswith("."):
                entries.add(path.name if path.is_dir() else path.name.removesuffix(".json"))
    return sorted(entries)


def unfinished() -> list[Path]:
    """Return what unfinished downloads and killed processes left, or still write, sorted."""
    paths = []
    with contextlib.suppress(OSError):
        paths += list(cache.subfolder("partial").iterdir())
    with contextlib.suppress(OSError):
        paths += list(cache.subfolder("modules").glob(".*.partial"))
    return sorted(paths)


def remove_unfinished() -> None:
    """Remove what unfinished() returns, after waiting for downloads that are running."""
    for name in {_name_of(path) for path in unfinished()}:
        with cache.lock(name):
            _remove_leftovers(name)
            _remove_partial_download(name)


def _name_of(path: Path) -> str:
    """Return the name of the model that NAME.part, NAME.part.state or .NAME.x.partial is for."""
    if path.name.startswith("."):
        return path.name[1:].rsplit(".", 2)[0]
    return path.name.removesuffix(".state").removesuffix(".part")


def _remove_leftovers(name: str) -> None:
    """Remove what killed processes left; the caller holds the lock, so none still runs."""
    for path in leftovers(folder_of(name)):
        shutil.rmtree(path, ignore_errors=True)


def _remove_partial_download(name: str) -> None:
    for path in cache.subfolder("partial").glob(f"{name}.part*"):
        path.unlink(missing_ok=True)


def _remove_folder(name: str) -> None:
    """Remove a model's folder, renamed first, so that nobody sees a part of it."""
    folder = folder_of(name)
    if folder.is_dir() and not folder.is_symlink():
        hidden = hidden_path(folder)
        folder.rename(hidden)
        shutil.rmtree(hidden)
    else:
        folder.unlink(missing_ok=True)
