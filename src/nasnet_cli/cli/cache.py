"""nasnet cache: list, verify and remove what is in the cache."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import click

from nasnet_cli.cli import exits
from nasnet_cli.cli.model_names import complete_cached
from nasnet_cli.cli.sections import (
    command_with,
    group_with,
    json_option,
    option,
    print_json,
    print_line,
)
from nasnet_cli.errors import NasnetError

COMPILED, SCANNED, FEATURES, UNFINISHED = "compiled", "scanned", "features", "unfinished"
_UNKNOWN = ("broken", "", "", "")  # the kind, label, source and date of a model without a record


class Item(NamedTuple):
    """An item of the cache. label is the user's name for it, made the date and time in UTC."""

    name: str
    kind: str
    label: str
    source: str
    made: str
    bytes: int
    files: int
    path: str


@group_with(
    "nasnet cache ls",
    "nasnet cache verify",
    "nasnet cache rm imagenet-mobile",
)
def command() -> None:
    """List, verify and remove what is in the cache.

    The cache holds models that were fetched, converted or copied, models that OpenVINO has compiled
    ("compiled"), records of models that passed the safety check ("scanned"), vectors of training
    images ("features") and parts of downloads ("unfinished"). All of it can be made again.
    """


@command_with(
    "nasnet cache ls",
    "nasnet cache ls --json",
    "NASNET_CACHE_DIR=/mnt/models nasnet cache ls",
)
@json_option("Print JSON.")
def ls(as_json: bool) -> None:
    """List the items in the cache with their sizes."""
    items = list(_items())
    if as_json:
        print_json({"cache": _root(), "items": [item._asdict() for item in items]})
        return
    width = max((len(item.name) for item in items), default=0)
    for item in items:
        print_line(
            f"{item.name:<{width}}  {_size(item.bytes)}  {item.kind:<10}  {item.source}".rstrip()
        )
    total = sum(item.bytes for item in items)
    print_line(f"{'total':<{width}}  {_size(total)}  in {_root()}")


@command_with(
    "nasnet cache path",
    "nasnet cache path imagenet-mobile",
    "nasnet cache path compiled",
)
@click.argument("name", required=False, shell_complete=complete_cached)
def path(name: str | None) -> None:
    """Print the path of the cache or of an item in it.

    NAME is a name from `nasnet cache ls`, the name of a published model or a handle.
    """
    click.echo(_root() if name is None else _find(name, list(_items()))[0].path)


@command_with(
    "nasnet cache verify",
    "nasnet cache verify imagenet-mobile",
    "nasnet cache verify --json",
)
@click.argument("names", nargs=-1, metavar="[NAME]...", shell_complete=complete_cached)
@json_option("Print JSON.")
def verify(names: tuple[str, ...], as_json: bool) -> int:
    """Check that items, or all of the cache, are as they were stored.

    Reads every byte. Exits with 1 if something is damaged and says what.
    """
    items = _select(names)
    faults = {item.name: _fault(item) for item in items}
    if as_json:
        print_json(
            {"items": [{"name": i.name, "path": i.path, "fault": faults[i.name]} for i in items]}
        )
    else:
        for item in items:
            print_line(f"{item.name}: {faults[item.name] or 'ok'}")
    return exits.PROBLEM if any(faults.values()) else exits.OK


@command_with(
    "nasnet cache rm imagenet-mobile",
    "nasnet cache rm compiled",
    "nasnet cache rm --all --dry-run",
)
@click.argument("names", nargs=-1, metavar="[NAME]...", shell_complete=complete_cached)
@option("--all", "everything", is_flag=True, help="Remove everything in the cache.")
@option("--dry-run", is_flag=True, help="Show what would be removed.")
@json_option("Print JSON.")
def rm(names: tuple[str, ...], everything: bool, dry_run: bool, as_json: bool) -> None:
    """Remove items from the cache.

    NAME is a name from `nasnet cache ls`, the name of a published model or a handle. This also
    forgets the checksum of a model's first download.
    """
    if everything == bool(names):
        raise click.UsageError("Give the names of items to remove, or --all.")
    items = _select(names)
    if not dry_run:
        for item in items:
            _remove(item)
    if as_json:
        print_json({"dry_run": dry_run, "items": [item._asdict() for item in items]})
        return
    action = "would be removed" if dry_run else "removed"
    for item in items:
        print_line(f"{item.name}: {action}, {_size(item.bytes).strip()}")


for _command in (ls, path, verify, rm):
    command.add_command(_command)


def item_names() -> list[str]:
    """Return the names that items in the cache can have now, without reading the items."""
    from nasnet_cli.models.hub import store

    return [*store.names(), COMPILED, SCANNED, FEATURES, UNFINISHED]


def _select(names: tuple[str, ...]) -> list[Item]:
    """Return the named items, each once; all items for no names."""
    items = list(_items())
    if not names:
        return items
    return list({item.name: item for name in names for item in _find(name, items)}.values())


def _find(name: str, items: list[Item]) -> list[Item]:
    matches = [item for item in items if name in (item.name, item.label, item.source)]
    if not matches:
        known = ", ".join(item.name for item in items[:20]) or "nothing"
        raise NasnetError(f"There is no {name!r} in the cache.", f"It has {known}.")
    return matches


def _items() -> Iterator[Item]:
    from nasnet_cli import cache
    from nasnet_cli.models.hub import store

    for name in store.names():
        folder, record = store.folder_of(name), store.read_record(name)
        count, size = _measure([folder, store.record_file(name)])
        known = (record.kind, record.label, record.source, record.made) if record else _UNKNOWN
        yield Item(name, *known, size, count, str(folder))
    unfinished = store.unfinished()
    folders = [cache.subfolder(kind) for kind in ("compiled", "scanned", "features", "partial")]
    for name, folder in zip((COMPILED, SCANNED, FEATURES, UNFINISHED), folders, strict=True):
        count, size = _measure(unfinished if name == UNFINISHED else [folder])
        if count or (name == UNFINISHED and unfinished):
            yield Item(name, name, name, "", "", size, count, str(folder))


def _measure(paths: list[Path]) -> tuple[int, int]:
    """Return the number of files at and below paths, and their bytes."""
    count = size = 0
    for top in paths:
        for path in [top, *top.rglob("*")]:
            try:
                if path.is_file():
                    size += path.lstat().st_size
                    count += 1
            except OSError:  # another process has just removed it
                continue
    return count, size


def _fault(item: Item) -> str | None:
    if item.name in (UNFINISHED, FEATURES):  # rows of features are checked when they are read
        return None
    from nasnet_cli import cache
    from nasnet_cli.models.hub import store

    if item.name not in (COMPILED, SCANNED):
        return store.fault(item.name, thorough=True)
    files = [path for path in sorted(Path(item.path).iterdir()) if not path.name.startswith(".")]
    damaged = [path.name for path in files if cache.load(path) is None]
    return f"{len(damaged)} damaged, rebuilt when needed: {damaged[0]}" if damaged else None


def _remove(item: Item) -> None:
    from nasnet_cli.models.hub import store

    if item.name == UNFINISHED:
        store.remove_unfinished()
    elif item.name in (COMPILED, SCANNED, FEATURES):
        for path in Path(item.path).iterdir():
            path.unlink(missing_ok=True)
    else:
        store.remove(item.name)


def _root() -> str:
    from nasnet_cli.cache import cache_folder

    return str(cache_folder())


def _size(count: int) -> str:
    """Return a size in bytes as text of ten characters."""
    value, unit = float(count), "B"
    for unit in ("B", "kB", "MB", "GB"):
        if value < 999.95 or unit == "GB":
            break
        value /= 1000
    return f"{value:7.0f} {unit:<2}" if unit == "B" else f"{value:7.1f} {unit}"
