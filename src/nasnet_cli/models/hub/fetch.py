"""Fetch models by tensorflow-hub's protocol, and the published ones by name.

A model is looked for in nasnet's cache, then in tensorflow-hub's (TFHUB_CACHE_DIR, else its folder
in the temporary folder if the user owns that), then among the files that the user has fetched
elsewhere (cache.subfolder("downloads")), then at its origins in order. A damaged copy in
nasnet's cache is fetched again. One in tensorflow-hub's is skipped and never touched: it is not
ours, and another program may be using it.

The first download's checksum is kept with the model (trust on first use). A later download of
other bytes is refused until `nasnet cache rm` forgets the checksum.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import stat
import tempfile
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from nasnet_cli import cache, systems
from nasnet_cli.errors import ModelError
from nasnet_cli.models.files import digest
from nasnet_cli.models.hub import store
from nasnet_cli.models.hub.download import DownloadError, check_url, discard, download
from nasnet_cli.models.hub.published import Origin, Published, hub_cache_name
from nasnet_cli.models.listener import SILENT, ProgressListener
from nasnet_cli.models.savedmodel.reader import read_saved_model


class ChecksumError(ModelError):
    """A download has the wrong bytes. No other origin is tried after this."""


class NotFetchedError(ModelError):
    """A model is neither here nor to be had. It is shown on two lines."""

    @property
    def lines(self) -> tuple[str, ...]:
        return (self.problem, self.remedy)


def fetch_handle(handle: str, listener: ProgressListener) -> Path:
    """Return the folder of the model that a handle of tensorflow-hub's protocol stands for.

    Raises DownloadError when it cannot be fetched, NotFetchedError without a network, ChecksumError
    when its bytes have changed and ModelError when it is not a model.
    """
    check_url(handle)
    name = store.entry_name(handle, handle)
    if folder := _cached(name, handle, listener) or _in_hub_cache(handle, listener):
        return folder
    origin = Origin("hub", handle)
    try:
        return _fetch(name, handle, origin, None, listener)
    except DownloadError as error:
        if not error.unreachable:
            raise
        raise NotFetchedError(
            f"{handle} is not in the cache and cannot be fetched: {error.reason}.",
            _by_hand(_archive_url(handle), _local_file(name, origin)),
        ) from error


def fetch_published(model: Published, listener: ProgressListener) -> Path:
    """Return the folder of a published model, from the first origin that has it.

    Raises NotFetchedError, with the reason for each origin, when none has.
    """
    if folder := find_published(model, listener):
        return folder
    failures: dict[str, list[str]] = {}  # descriptions of origins by what went wrong there
    unreachable: dict[str | None, str] = {}  # reasons by host
    for origin in sorted(model.origins, key=lambda o: not _is_here(_entry_name(model, o), o)):
        host = urlsplit(origin.address).hostname  # None for Kaggle's handles
        try:
            if host in unreachable:
                raise ModelError(f"{unreachable[host]}.", "")
            folder = _fetch(_entry_name(model, origin), model.name, origin, model, listener)
        except (ChecksumError, cache.CacheError):
            raise
        except ModelError as error:
            reason = error.reason if isinstance(error, DownloadError) else error.problem.rstrip(".")
            failures.setdefault(reason, []).append(origin.description)
            if host and isinstance(error, DownloadError) and error.unreachable:
                unreachable[host] = reason
            continue
        if failures:
            listener.note(
                f"{model.name} comes from {origin.description}; not from {_listed(failures)}."
            )
        return folder
    first = model.origins[0]
    raise NotFetchedError(
        f"{model.name} is not in the cache and cannot be fetched: {_listed(failures)}.",
        _by_hand(first.address, _local_file(_entry_name(model, first), first)),
    )


def find_published(model: Published, listener: ProgressListener = SILENT) -> Path | None:
    """Return the folder of a published model if a cache has it. listener learns what is damaged."""
    for origin in model.origins:
        if folder := _cached(_entry_name(model, origin), model.name, listener):
            return folder
    for handle in model.handles:
        if folder := _in_hub_cache(handle, listener):
            return folder
    return None


def _local_file(name: str, origin: Origin) -> Path:
    """Return the place of an origin's file that the user has fetched elsewhere, there or not."""
    # A handle's last part is its version: every model's is called 1.
    file = f"{name}.tar.gz" if origin.kind == "hub" else origin.address.rpartition("/")[2]
    return cache.subfolder("downloads") / file


def _is_here(name: str, origin: Origin) -> bool:
    # Kaggle's copies are many files.
    return origin.kind != "kaggle" and _local_file(name, origin).is_file()


def _by_hand(url: str, place: Path) -> str:
    """Return the way out without a network."""
    return (
        f"Fetch {url} on another machine and save it as {place}, or use the built-in model "
        "(--model builtin)."
    )


def _listed(failures: dict[str, list[str]]) -> str:
    return "; ".join(f"{' and '.join(origins)}: {reason}" for reason, origins in failures.items())


def _hub_cache() -> Path | None:
    """Return the folder of tensorflow-hub's cache, if there is one that can be trusted."""
    if folder := os.environ.get("TFHUB_CACHE_DIR"):
        return Path(folder)
    default = Path(tempfile.gettempdir(), "tfhub_modules")
    # In a temporary folder that users share, anyone may create a folder of that name.
    with contextlib.suppress(OSError):
        status = default.lstat()
        is_own = systems.is_mine(status)
        if stat.S_ISDIR(status.st_mode) and is_own:
            return default
    return None


def _entry_name(model: Published, origin: Origin) -> str:
    from nasnet_cli.models.convert import VERSION

    return store.entry_name(model.name, f"{model.name} {origin.address} {VERSION}")


def _cached(name: str, label: str, listener: ProgressListener) -> Path | None:
    """Return the model's folder in nasnet's cache; tell the listener if it is damaged."""
    fault = store.fault(name)
    if fault is None:
        return store.folder_of(name)
    if store.folder_of(name).exists():
        listener.note(f"{label} in the cache is damaged ({fault}); fetching it again.")
    return None


def _in_hub_cache(handle: str, listener: ProgressListener) -> Path | None:
    root = _hub_cache()
    # Not Path.is_dir, which raises in an unreadable folder.
    if root is None or not os.path.isdir(folder := root / hub_cache_name(handle)):  # noqa: PTH112
        return None
    try:
        read_saved_model(folder)
        return folder
    except ModelError as error:
        problem = f"which is damaged: {error.problem}"
        listener.note(f"Skipping {handle} in tensorflow-hub's cache, {problem}")
        return None


def _fetch(
    name: str, label: str, origin: Origin, model: Published | None, listener: ProgressListener
) -> Path:
    """Download, check and unpack or convert a model, unless another process does."""
    from nasnet_cli.models.convert import build_module
    from nasnet_cli.models.detect import identify

    if origin.kind == "kaggle":
        return _copy_from_kaggle(name, label, origin.address, listener)

    def build(work: Path) -> tuple[Path, store.Kind, str]:
        file = _local_file(name, origin)
        if file.is_file():
            sha256 = _checked_sha256(file, name, origin, str(file))
            detected = identify(file, str(file))
            made = build_module(detected, work, str(file), listener, origin, model)
            return *made, sha256
        part = cache.subfolder("partial") / f"{name}.part"
        url = _archive_url(origin.address) if origin.kind == "hub" else origin.address
        download(url, part, name=label, listener=listener)
        try:
            sha256 = _checked_sha256(part, name, origin, origin.address)
            detected = identify(part, f"the file from {origin.address}")
            folder, kind = build_module(detected, work, label, listener, origin, model)
        except cache.CacheError:
            raise
        except ModelError:
            discard(part)  # else every later run would find it complete, and as bad
            raise
        discard(part)
        return folder, "downloaded" if kind == "unpacked" else kind, sha256

    return store.keep(name, label, origin.address, build, listener)


def _checked_sha256(part: Path, name: str, origin: Origin, giver: str) -> str:
    """Return the SHA-256 of a download. Raises ChecksumError if it or the MD5 is wrong.

    giver is the address or file that it is from.
    """
    with part.open("rb") as file:
        if origin.md5 is not None:
            new_md5 = partial(hashlib.md5, usedforsecurity=False)
            md5 = hashlib.file_digest(file, new_md5).hexdigest()
            if md5 != origin.md5:
                raise ChecksumError(
                    f"{giver} gave a file with the MD5 checksum {md5}; "
                    f"the published one is {origin.md5}.",
                    "It was changed on the way or at the source; nothing of it was kept.",
                )
        file.seek(0)
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    _check_same_as_first(name, giver, sha256)
    return sha256


def _check_same_as_first(name: str, giver: str, checksum: str) -> None:
    """Raise ChecksumError unless the checksum is that of the first download, if there was one."""
    first = store.read_record(name)
    if first is not None and first.sha256 != checksum:
        raise ChecksumError(
            f"{giver} gave other bytes (SHA-256 {checksum[:16]}…) than when it was first fetched "
            f"on {first.made[:10]} ({first.sha256[:16]}…).",
            f"If you know why and trust it, run `nasnet cache rm {name}` and try again.",
        )


def _archive_url(handle: str) -> str:
    """Return the URL of a model's archive, by tensorflow-hub's protocol."""
    parts = urlsplit(handle)
    query = f"{parts.query}&" if parts.query else ""
    return urlunsplit(parts._replace(query=f"{query}tf-hub-format=compressed", fragment=""))


def _copy_from_kaggle(name: str, label: str, handle: str, listener: ProgressListener) -> Path:
    """Copy a model from kagglehub's cache into ours.

    It consists of many files, so the model's digest takes the place of a download's checksum.
    """
    from nasnet_cli.models.hub import kaggle

    def build(work: Path) -> tuple[Path, store.Kind, str]:
        folder = work / "module"
        shutil.copytree(kaggle.download(handle, listener), folder)
        checksum = digest(folder)
        _check_same_as_first(name, f"Kaggle's {handle}", checksum)
        return folder, "downloaded", checksum

    return store.keep(name, label, f"kaggle:{handle}", build, listener)
