"""Modules that are fetched: by tensorflow-hub's protocol, and the published ones by name.

A module is looked for in our cache, then in tensorflow-hub's own (TFHUB_CACHE_DIR, else its folder
in the temporary one when that is the user's), then at its places in order. What is broken in our
cache is fetched again. What is broken in tensorflow-hub's is passed over and never touched: it is
not ours, and another program may be at it.

The first download's checksum is kept with the module (trust on first use). A later one of other
bytes is refused, until `nasnet cache rm` forgets it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

from nasnet_cli import cache
from nasnet_cli.errors import ModelError
from nasnet_cli.models.files import digest
from nasnet_cli.models.hub import store
from nasnet_cli.models.hub.download import (
    DownloadError,
    Fetched,
    check_url,
    fetch,
    state_file,
)
from nasnet_cli.models.hub.published import PLACE_NAMES, Place, Published, hub_cache_name
from nasnet_cli.models.listener import ProgressListener
from nasnet_cli.models.savedmodel.reader import read_saved_model

if TYPE_CHECKING:
    from nasnet_cli.models.convert import About

_WAYS_OUT = (
    "Connect and run again, or fetch {} elsewhere and name its path instead; NASNET_CACHE_DIR or "
    "TFHUB_CACHE_DIR may name a cache that has it; the built-in model needs no network."
)
_LICENCE = "Apache-2.0"


class ChecksumError(ModelError):
    """What was fetched isn't what it should be. No other place is tried after this."""


def fetch_handle(handle: str, listener: ProgressListener) -> Path:
    """The folder of the module that a handle of tensorflow-hub's protocol stands for.

    Raises DownloadError when it can't be fetched, ChecksumError when it isn't what it was, and
    ModelError when it is no module.
    """
    check_url(handle)
    name = store.entry_name(handle, handle)
    folder = _kept(name, handle, listener) or _in_hub_cache(handle, listener)
    if folder is not None:
        return folder
    try:
        return _keep(name, handle, Place("hub", handle), None, listener)
    except DownloadError as error:
        if not error.unreachable:
            raise
        ways = _WAYS_OUT.format(error.url)
        raise DownloadError(handle, error.reason, ways, unreachable=True) from error


def fetch_published(module: Published, listener: ProgressListener) -> Path:
    """The folder of a published module, from the first place that has it.

    Raises ModelError, which says how it went at each place, when none has.
    """
    for place in module.places:
        if folder := _kept(_entry(module, place), module.name, listener):
            return folder
    for handle in module.handles:
        if folder := _in_hub_cache(handle, listener):
            return folder
    failures: dict[str, list[str]] = {}  # places by what went wrong there
    unreachable: dict[str, str] = {}
    for place in module.places:
        try:
            folder = _from_place(module, place, unreachable, listener)
        except (ChecksumError, cache.CacheError):
            raise
        except ModelError as error:
            reason = error.reason if isinstance(error, DownloadError) else error.problem.rstrip(".")
            failures.setdefault(reason, []).append(PLACE_NAMES[place.kind])
            continue
        if failures:
            listener.note(
                f"{module.name} comes from {PLACE_NAMES[place.kind]}; not from {_why(failures)}."
            )
        return folder
    raise ModelError(
        f"{module.name} is not in the cache and can't be fetched: {_why(failures)}.",
        _WAYS_OUT.format(module.places[0].address),
    )


def _why(failures: Mapping[str, Sequence[str]]) -> str:
    return "; ".join(f"{' and '.join(places)}: {reason}" for reason, places in failures.items())


def hub_caches() -> Iterator[Path]:
    """tensorflow-hub's own cache, if there is one that can be trusted."""
    if named := os.environ.get("TFHUB_CACHE_DIR"):
        yield Path(named)
        return
    folder = Path(tempfile.gettempdir(), "tfhub_modules")
    # Anybody may make a folder of that name.
    with contextlib.suppress(OSError):
        status = folder.lstat()
        if stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid():
            yield folder


def _entry(module: Published, place: Place) -> str:
    from nasnet_cli.models.convert import VERSION

    return store.entry_name(module.name, f"{module.name} {place.address} {VERSION}")


def _kept(name: str, what: str, listener: ProgressListener) -> Path | None:
    """The module from our cache. Says what is wrong with it when it is there and broken."""
    fault = store.fault(name)
    if fault is None:
        return store.folder_of(name)
    if store.folder_of(name).exists():
        listener.note(f"{what} in the cache is broken ({fault}); it is fetched again.")
    return None


def _in_hub_cache(handle: str, listener: ProgressListener) -> Path | None:
    for root in hub_caches():
        folder = root / hub_cache_name(handle)
        if not os.path.isdir(folder):  # noqa: PTH112 - pathlib's raises where nothing can be read
            continue
        try:
            read_saved_model(folder)
            return folder
        except ModelError as error:
            listener.note(
                f"{handle} in tensorflow-hub's cache is broken and passed over: {error.problem}"
            )
    return None


def _from_place(
    module: Published, place: Place, unreachable: dict[str, str], listener: ProgressListener
) -> Path:
    """The module from one place. unreachable has why, by the hosts that weren't reached before."""
    name = _entry(module, place)
    if place.kind == "kaggle":
        return _from_kaggle(name, module, place, listener)
    host = urlsplit(place.address).hostname or ""
    if host in unreachable:
        raise ModelError(f"{unreachable[host]}.", "")
    try:
        return _keep(name, module.name, place, module, listener)
    except DownloadError as error:
        if error.unreachable:
            unreachable[host] = error.reason
        raise


def _keep(
    name: str, label: str, place: Place, module: Published | None, listener: ProgressListener
) -> Path:
    """Fetches, checks and unpacks or converts what is at a place, unless another process does."""
    from nasnet_cli.models.build import build_module, recognised, wait_for_other

    def make(work: Path) -> store.Built:
        part = cache.partial_folder() / f"{name}.part"
        url = _compressed(place.address) if place.kind == "hub" else place.address
        fetched = fetch(url, part, what=label, listener=listener)
        try:
            _check_sums(fetched, name, place)
            found = recognised(part, f"what {place.address} gives")
            folder, kind = build_module(found, work, _about(module, place), label, listener)
        except cache.CacheError:
            raise
        except ModelError:
            _discard(part)  # else every later try would find it whole, and as bad
            raise
        _discard(part)
        kind = "downloaded" if kind == "unpacked" else kind
        return store.Built(folder, label, place.address, kind, fetched.sha256)

    return store.keep(name, make, lambda: wait_for_other(label, listener))


def _discard(part: Path) -> None:
    part.unlink(missing_ok=True)
    state_file(part).unlink(missing_ok=True)


def _check_sums(fetched: Fetched, name: str, place: Place) -> None:
    if place.md5 is not None and fetched.md5 != place.md5:
        raise ChecksumError(
            f"{place.address} gave a file of MD5 {fetched.md5}; the published one has {place.md5}.",
            "It was changed on the way or at its place; don't use it. Nothing of it was kept.",
        )
    _check_known(name, place.address, fetched.sha256)


def _check_known(name: str, whence: str, found: str) -> None:
    """Raises ChecksumError when it isn't the checksum that the first download had."""
    known = store.read_record(name)
    if known is not None and known.sha256 != found:
        raise ChecksumError(
            f"{whence} gave other bytes (SHA-256 {found[:16]}…) than when it was "
            f"first fetched on {known.made[:10]} ({known.sha256[:16]}…).",
            f"If you know why and trust it, run `nasnet cache rm {name}` and try again.",
        )


def _about(module: Published | None, place: Place) -> About:
    from nasnet_cli.models.convert import About

    if module is None:
        return About(source=place.address)
    return About(
        name=module.name,
        size=module.size,
        classification=module.classification,
        accuracy=module.accuracy if place.kind == "slim" else None,
        source=place.address,
        licence=_LICENCE,
    )


def _compressed(handle: str) -> str:
    """The address of a module's archive, by tensorflow-hub's protocol."""
    parts = urlsplit(handle)
    query = f"{parts.query}&" if parts.query else ""
    return urlunsplit(parts._replace(query=f"{query}tf-hub-format=compressed", fragment=""))


def _from_kaggle(name: str, module: Published, place: Place, listener: ProgressListener) -> Path:
    """Through kagglehub, whose own copy is copied into our cache.

    What comes is many files, so that it is the module's digest that is kept and compared.
    """
    from nasnet_cli.models.build import wait_for_other
    from nasnet_cli.models.hub import kaggle

    def make(work: Path) -> store.Built:
        source = kaggle.download(place.address, listener)
        folder = work / "module"
        shutil.copytree(source, folder)
        found = digest(folder)
        _check_known(name, f"Kaggle's {place.address}", found)
        return store.Built(folder, module.name, f"kaggle:{place.address}", "downloaded", found)

    return store.keep(name, make, lambda: wait_for_other(module.name, listener))
