"""The modules in the cache: each a folder and the record beside it, whole or not there.

The record is written before the folder takes its name. So a folder without one is of no use, and a
record without a folder is of a module that is to be fetched again: it keeps the checksum that the
first download had, by which every later one is judged.
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
from nasnet_cli.errors import ModelError
from nasnet_cli.models.files import digest, module_files

Kind = Literal["downloaded", "converted", "unpacked"]
_RECORD_LIMIT = 16 * 2**20


@dataclass(frozen=True)
class Record:
    """What is known about a module in the cache.

    label is its name or handle, source where it is from; sha256 is of the file that was fetched
    or read, digest of the module (files.digest), files its files' sizes in bytes. made is the
    date and time in UTC.
    """

    label: str
    source: str
    kind: Kind
    sha256: str
    digest: str
    files: dict[str, int]
    made: str


@dataclass(frozen=True)
class Built:
    """A module that is ready to be put in the cache."""

    folder: Path
    label: str
    source: str
    kind: Kind
    sha256: str


def entry_name(label: str, identity: str) -> str:
    """The folder's name for a module: readable by its label, and one of its own by identity."""
    words = re.sub(r"[^A-Za-z0-9.]+", "-", label.partition("://")[2] or label).strip("-.")
    return f"{words[-60:].strip('-.') or 'module'}-{_short(identity)}"


def known_name(identity: str) -> str | None:
    """The name that the module of that identity has already, whatever its label was."""
    return next((name for name in names() if name.endswith(f"-{_short(identity)}")), None)


def _short(identity: str) -> str:
    return hashlib.sha256(os.fsencode(identity)).hexdigest()[:12]


def folder_of(name: str) -> Path:
    """Where the module of that name lies or would lie."""
    return cache.modules_folder() / name


def record_file(name: str) -> Path:
    """Where its record lies or would lie."""
    return cache.modules_folder() / f"{name}.json"


def read_record(name: str) -> Record | None:
    """The record of a module, None when it is missing or broken."""
    path = record_file(name)
    try:
        if path.stat().st_size > _RECORD_LIMIT:
            return None
        data = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    names = {field.name for field in fields(Record)}
    if not isinstance(data, dict) or not names <= data.keys():
        return None
    values = {name: data[name] for name in names}
    files = values.pop("files")
    if not isinstance(files, dict) or not all(isinstance(v, str) for v in values.values()):
        return None
    return Record(**values, files=files)


def find(name: str) -> Path | None:
    """The folder of a module if it is whole by its files' names and sizes, else None."""
    return None if fault(name) else folder_of(name)


def fault(name: str, *, thorough: bool = False) -> str | None:
    """What is wrong with a module in the cache, in a few words; None when nothing is.

    thorough reads all of its bytes.
    """
    folder, record = folder_of(name), read_record(name)
    if not folder.is_dir():
        return "it is missing"
    if record is None:
        return "its record is missing or broken"
    try:
        there = module_files(folder)
        if missing := sorted(record.files.keys() - there.keys()):
            return f"{missing[0]} is missing"
        if extra := sorted(there.keys() - record.files.keys()):
            return f"{extra[0]} is not of the module"
        for file, size in record.files.items():
            if there[file] != size:
                return f"{file} has {there[file]:,} bytes, not {size:,}"
        if thorough and digest(folder) != record.digest:
            return "its bytes are not those that were put there"
    except ModelError as error:
        return error.problem.rstrip(".")
    return None


def keep(name: str, build: Callable[[Path], Built], waiting: Callable[[], None]) -> Path:
    """The folder of a module, built when the cache doesn't have it whole.

    build is given an empty folder to work in, whose content is removed afterwards. Of processes
    that ask at once one builds; waiting is called in the others. Raises what build raises, and
    CacheError when the cache can't be written.
    """
    if found := find(name):
        return found
    with cache.lock(name, waiting):
        if found := find(name):
            return found
        work = cache.modules_folder() / f".{name}.{os.urandom(6).hex()}.partial"
        try:
            _sweep(name)
            work.mkdir(parents=True)
            return _publish(name, build(work))
        except OSError as error:
            raise cache.cannot_write(error) from error
        finally:
            shutil.rmtree(work, ignore_errors=True)


def remove(name: str) -> None:
    """Removes a module and its record, and what is left of unfinished downloads of it."""
    with cache.lock(name):
        try:
            _sweep(name)
            record_file(name).unlink(missing_ok=True)
            _remove_folder(name)
            for path in cache.partial_folder().glob(f"{name}.part*"):
                path.unlink(missing_ok=True)
        except OSError as error:
            raise cache.cannot_write(error) from error


def names() -> list[str]:
    """The names of all modules in the cache, broken ones too, sorted."""
    found = set()
    with contextlib.suppress(OSError):
        for path in cache.modules_folder().iterdir():
            if not path.name.startswith("."):
                found.add(path.name if path.is_dir() else path.name.removesuffix(".json"))
    return sorted(found)


def _sweep(name: str) -> None:
    """Removes what killed processes have left; the lock says that none of them still runs."""
    for path in cache.modules_folder().glob(f".{name}.*.partial"):
        shutil.rmtree(path, ignore_errors=True)


def _remove_folder(name: str) -> None:
    """Renames first: whoever looks sees a whole module or none."""
    folder = folder_of(name)
    if folder.is_dir() and not folder.is_symlink():
        aside = folder.with_name(f".{name}.{os.urandom(6).hex()}.partial")
        folder.rename(aside)
        shutil.rmtree(aside)
    else:
        folder.unlink(missing_ok=True)


def _publish(name: str, built: Built) -> Path:
    record = Record(
        label=built.label,
        source=built.source,
        kind=built.kind,
        sha256=built.sha256,
        digest=digest(built.folder),
        files=module_files(built.folder),
        made=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    text = json.dumps(asdict(record), indent=1)
    partial = built.folder.with_name(f"{built.folder.name}.record")
    partial.write_text(text + "\n", encoding="ascii")
    _remove_folder(name)
    partial.replace(record_file(name))
    built.folder.rename(folder_of(name))
    return folder_of(name)


def remains() -> list[Path]:
    """What unfinished downloads and killed processes have left, or are at work on, sorted."""
    found = []
    with contextlib.suppress(OSError):
        found += list(cache.partial_folder().iterdir())
    with contextlib.suppress(OSError):
        found += list(cache.modules_folder().glob(".*.partial"))
    return sorted(found)


def remove_remains() -> None:
    """Removes them; a download that is under way is waited for."""
    for name in {_module_of(path) for path in remains()}:
        with cache.lock(name):
            _sweep(name)
            for path in cache.partial_folder().glob(f"{name}.part*"):
                path.unlink(missing_ok=True)


def _module_of(remain: Path) -> str:
    """The name of the module that it was to become: NAME.part, NAME.part.state, .NAME.x.partial."""
    if remain.name.startswith("."):
        return remain.name[1:].rsplit(".", 2)[0]
    return remain.name.removesuffix(".state").removesuffix(".part")
