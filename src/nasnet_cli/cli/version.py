"""nasnet --version: the program's version, and with --verbose of what it runs with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import click

from nasnet_cli import __version__
from nasnet_cli.cli.sections import option, print_line

# The packages that results depend on, as their distributions are called.
_PACKAGES = ("openvino", "tensorflow", "ai-edge-litert", "numpy", "pillow")


def version_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add --version to a command, and --verbose, which it gets as verbose.

    Neither has an environment variable, which would concern every command.
    """
    # Click handles eager options first, so that --version knows of a --verbose behind it.
    verbose = option(
        "-v",
        "--verbose",
        is_flag=True,
        is_eager=True,
        allow_from_autoenv=False,
        help="With --version: show Python, the runtimes and the default model too.",
    )
    version = option(
        "--version",
        is_flag=True,
        expose_value=False,
        allow_from_autoenv=False,
        callback=_print_version,
        help="Show the version and exit.",
    )
    return version(verbose(function))


def _print_version(ctx: click.Context, _: click.Parameter, asked: bool) -> None:
    if not asked or ctx.resilient_parsing:
        return
    click.echo(f"nasnet {__version__}")
    if ctx.params["verbose"]:
        for line in _details():
            print_line(line)
    ctx.exit()


def _details() -> Iterator[str]:
    """Yield a line for each thing that a bug report should include; imports none of them."""
    import platform
    from importlib import metadata

    from nasnet_cli import cache
    from nasnet_cli.models.default import default_model
    from nasnet_cli.models.resolve import BUILTIN

    yield f"Python {platform.python_version()}, {platform.platform()}"
    for package in _PACKAGES:
        try:
            yield f"{package} {metadata.version(package)}"
        except metadata.PackageNotFoundError:
            yield f"{package} is not installed"
    yield f"model: {default_model() or BUILTIN}"
    yield f"cache: {cache.cache_folder()}"
