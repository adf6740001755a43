"""nasnet cache: the modules that were fetched or converted, and what else is kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import click

from nasnet_cli.errors import NasnetError

Command = TypeVar("Command", bound=Callable[..., Any])
COMPILED = "compiled"
SCANNED = "scanned"
UNFINISHED = "unfinished"
EXIT_WRONG = 1


@dataclass(frozen=True)
class Item:
    """Something in the cache. label is what it is called by users, made the date and time."""

    name: str
    kind: str
    label: str
    source: str
    made: str
    bytes: int
    files: int
    path: str


@click.group()
def command() -> None:
    """List, check and remove what is kept in the cache.

    The cache holds the modules that were fetched or converted, what the runtime has compiled of
    models (called "compiled"), which models were found to be safe (called "scanned"), and parts of
    downloads (called "unfinished"). All of it can be made again.
    """


def _json_option(function: Command) -> Command:
    return click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")(function)


@command.command()
@_json_option
def ls(as_json: bool) -> None:
    """List what is in the cache, with sizes."""
    items = list(_items())
    if as_json:
        _print_json({"cache": _root(), "items": [asdict(item) for item in items]})
        return
    width = max((len(item.name) for item in items), default=0)
    for item in items:
        _print(
            f"{item.name:<{width}}  {_size(item.bytes)}  {item.kind:<10}  {item.source}".rstrip()
        )
    total = sum(item.bytes for item in items)
    _print(f"{'total':<{width}}  {_size(total)}  in {_root()}")


@command.command()
@click.argument("name", required=False)
def path(name: str | None) -> None:
    """Print the path of the cache, or of a module in it.

    NAME is a name that `nasnet cache ls` shows, a published module's name or a handle.
    """
    click.echo(_root() if name is None else _named(name, list(_items()))[0].path)


@command.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
@_json_option
def verify(names: tuple[str, ...], as_json: bool) -> int:
    """Check that everything in the cache, or what is named, is as it was put there.

    All bytes are read. Exits with 1 if something is wrong, and says what.
    """
    chosen = _chosen(names)
    faults = {item.name: _fault(item) for item in chosen}
    if as_json:
        _print_json(
            {"items": [{"name": i.name, "path": i.path, "fault": faults[i.name]} for i in chosen]}
        )
    else:
        for item in chosen:
            _print(f"{item.name}: {faults[item.name] or 'good'}")
    return EXIT_WRONG if any(faults.values()) else 0


@command.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--all", "everything", is_flag=True, help="Remove all that is in the cache.")
@click.option("--dry-run", is_flag=True, help="Only say what would be removed.")
@_json_option
def rm(names: tuple[str, ...], everything: bool, dry_run: bool, as_json: bool) -> None:
    """Remove what is named, or everything, from the cache.

    NAME is a name that `nasnet cache ls` shows, a published module's name or a handle. The
    checksum of a module's first download is forgotten with it.
    """
    if everything == bool(names):
        raise click.UsageError("Name what to remove, or give --all.")
    chosen = _chosen(names)
    for item in chosen:
        if not dry_run:
            _remove(item)
    if as_json:
        _print_json({"dry_run": dry_run, "items": [asdict(item) for item in chosen]})
        return
    for item in chosen:
        done = "would be removed" if dry_run else "removed"
        _print(f"{item.name}: {done}, {_size(item.bytes).strip()}")


def _chosen(names: tuple[str, ...]) -> list[Item]:
    """The items that are named, each once; all for no names."""
    items = list(_items())
    if not names:
        return items
    found = {item.name: item for name in names for item in _named(name, items)}
    return list(found.values())


def _named(name: str, items: list[Item]) -> list[Item]:
    found = [item for item in items if name in (item.name, item.label, item.source)]
    if not found:
        there = ", ".join(item.name for item in items[:20]) or "nothing"
        raise NasnetError(f"There is no {name!r} in the cache.", f"It has {there}.")
    return found


def _items() -> Iterator[Item]:
    from nasnet_cli import cache
    from nasnet_cli.models.hub import store

    for name in store.names():
        folder, record = store.folder_of(name), store.read_record(name)
        count, size = _measure([folder, store.record_file(name)])
        yield Item(
            name=name,
            kind=record.kind if record else "broken",
            label=record.label if record else "",
            source=record.source if record else "",
            made=record.made if record else "",
            bytes=size,
            files=count,
            path=str(folder),
        )
    remains = store.unfinished()
    for name, folder, paths in (
        (COMPILED, cache.compiled_folder(), [cache.compiled_folder()]),
        (SCANNED, cache.scanned_folder(), [cache.scanned_folder()]),
        (UNFINISHED, cache.partial_folder(), remains),
    ):
        count, size = _measure(paths)
        if count or (name == UNFINISHED and remains):
            yield Item(name, name, name, "", "", size, count, str(folder))


def _measure(paths: list[Path]) -> tuple[int, int]:
    """How many files are there and below, and their bytes; what just went away counts nothing."""
    count = size = 0
    for top in paths:
        for path in [top, *top.rglob("*")]:
            try:
                if path.is_file():
                    size += path.lstat().st_size
                    count += 1
            except OSError:
                continue
    return count, size


def _fault(item: Item) -> str | None:
    if item.name == UNFINISHED:
        return None
    if item.name not in (COMPILED, SCANNED):
        from nasnet_cli.models.hub import store

        return store.fault(item.name, thorough=True)
    from nasnet_cli import cache

    kept = [path for path in sorted(Path(item.path).iterdir()) if not path.name.startswith(".")]
    broken = [path.name for path in kept if cache.load(path) is None]
    return f"{len(broken)} broken, made anew when needed: {broken[0]}" if broken else None


def _remove(item: Item) -> None:
    from nasnet_cli.models.hub import store

    if item.name == UNFINISHED:
        store.remove_unfinished()
    elif item.name in (COMPILED, SCANNED):
        for path in Path(item.path).iterdir():
            path.unlink(missing_ok=True)
    else:
        store.remove(item.name)


def _root() -> str:
    from nasnet_cli import cache

    return str(cache.cache_folder())


def _size(count: int) -> str:
    """A size in ten characters."""
    value, unit = float(count), "B"
    for unit in ("B", "kB", "MB", "GB"):
        if value < 999.95 or unit == "GB":
            break
        value /= 1000
    return f"{value:7.0f} {unit:<2}" if unit == "B" else f"{value:7.1f} {unit}"


def _print(line: str) -> None:
    from nasnet_cli.results.text import printable

    click.echo(printable(line))


def _print_json(value: object) -> None:
    from nasnet_cli.results.text import json_text

    click.echo(json_text(value, indent=2))
