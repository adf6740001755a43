"""nasnet models: list, fetch and choose models that have a name."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from nasnet_cli.cli.console import Console, ConsoleListener
from nasnet_cli.cli.model_names import complete_model, complete_published
from nasnet_cli.cli.sections import command_with, group_with, json_option, print_json, print_line

if TYPE_CHECKING:
    from nasnet_cli.models.catalogue import Entry

_JSON = json_option("Print JSON.")


@group_with(
    "nasnet models",
    "nasnet models get imagenet-mobile",
    "nasnet models default imagenet-mobile",
    invoke_without_command=True,
)
@_JSON
@click.pass_context
def command(context: click.Context, as_json: bool) -> None:
    """List the models that have a name, fetch one, or make one the default.

    Without a subcommand, it lists them. Only get and default fetch anything. The default applies to
    every command that has --model; NASNET_MODEL overrides it.
    """
    if context.invoked_subcommand is None:
        _list(as_json)


@command_with(
    "nasnet models list",
    "nasnet models list --json",
    "NASNET_CACHE_DIR=/mnt/models nasnet models list",
)
@_JSON
def list_(as_json: bool) -> None:
    """List the models with their classes, input, size, accuracy and licence."""
    _list(as_json)


def _list(as_json: bool) -> None:
    from nasnet_cli.models.catalogue import entries
    from nasnet_cli.models.default import default_model
    from nasnet_cli.models.resolve import BUILTIN

    found, default = entries(), default_model() or BUILTIN
    if as_json:
        print_json({"default": default, "models": [asdict(entry) for entry in found]})
        return
    head = ("", "NAME", "CLASSES", "INPUT", "DOWNLOAD", "TOP-1 / TOP-5", "LICENCE", "HERE")
    rows = [head, *(_row(entry, default) for entry in found)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        print_line("  ".join(cells).rstrip())
    if default not in {entry.name for entry in found}:
        print_line(f"*  {default}")
    Console().note("* is the default. nasnet inspect NAME says how the accuracy was measured.")


def _row(entry: Entry, default: str) -> tuple[str, ...]:
    accuracy = entry.accuracy or {}
    return (
        "*" if entry.name == default else "",
        entry.name,
        f"{entry.classes:,}" if entry.classes is not None else "features",
        "x".join(map(str, entry.image_size or ())),
        f"{entry.download_bytes / 1e6:,.0f} MB" if entry.download_bytes else "",
        " / ".join(f"{100 * accuracy[k]:.1f} %" for k in ("top1", "top5") if k in accuracy),
        entry.licence,
        "yes" if entry.path else "no",
    )


@command_with(
    "nasnet models get imagenet-mobile",
    "nasnet models get imagenet-large",
    "NASNET_CACHE_DIR=/mnt/models nasnet models get imagenet-mobile",
)
@click.argument("name", metavar="NAME", shell_complete=complete_published)
def get(name: str) -> None:
    """Fetch a model into the cache, and print its path.

    NAME is the name of a published model or a handle.
    """
    print_line(str(_fetched(name)))


@command_with(
    "nasnet models default",
    "nasnet models default imagenet-mobile",
    "nasnet models default builtin",
)
@click.argument("name", metavar="[NAME]", required=False, shell_complete=complete_model)
def default(name: str | None) -> None:
    """Make a model the default, or print the default.

    NAME is a name from nasnet models, a handle or a path; the model is fetched if necessary.
    builtin is the model that comes with the package. The choice is kept in the user's configuration
    file, as model = "NAME" in nasnet/config.toml.
    """
    from nasnet_cli.models import default as defaults
    from nasnet_cli.models.resolve import BUILTIN

    if name is None:
        print_line(defaults.default_model() or BUILTIN)
        return
    _fetched(name)
    # A path holds from every folder.
    kept = str(Path(name).absolute()) if _is_path(name) else name
    file = defaults.set_default(kept)
    console = Console()
    console.note(f"The default model is {kept} from now on ({file}).")
    if other := os.environ.get(defaults.VARIABLE):
        console.note(f"{defaults.VARIABLE} is set to {other} and has precedence.")


command.add_command(list_, "list")
command.add_command(get)
command.add_command(default)


def _is_path(name: str) -> bool:
    from nasnet_cli.models.hub.published import PUBLISHED
    from nasnet_cli.models.resolve import BUILTIN

    return name != BUILTIN and name not in PUBLISHED and "://" not in name


def _fetched(name: str) -> Path:
    from nasnet_cli.models.resolve import resolve

    with ConsoleListener(Console()) as listener:
        return resolve(name, listener).path
