"""nasnet completion: the script that makes a shell complete nasnet's commands."""

from __future__ import annotations

from pathlib import Path

import click

from nasnet_cli.cli.console import Console
from nasnet_cli.cli.options import quiet_option
from nasnet_cli.cli.sections import command_with

# Where each shell looks for such scripts, and what else it takes.
_INSTALL = {
    "bash": (
        "Save this as ~/.local/share/bash-completion/completions/nasnet (with the package "
        "bash-completion installed),",
        'or add to ~/.bashrc: eval "$(nasnet completion bash --quiet)"',
    ),
    "zsh": (
        "Save this as ~/.zfunc/_nasnet, with fpath+=(~/.zfunc) before compinit in ~/.zshrc,",
        'or add after compinit: eval "$(nasnet completion zsh --quiet)"',
    ),
    "fish": ("Save this as ~/.config/fish/completions/nasnet.fish.",),
}


@command_with(
    "source <(nasnet completion bash)",
    "source <(nasnet completion zsh)",
    "nasnet completion fish | source",
)
@click.argument("shell", type=click.Choice(list(_INSTALL)))
@quiet_option
def command(shell: str, quiet: bool) -> None:
    """Print the script that makes a shell complete commands, options and models.

    It completes the names of commands and options, their choices, models for --model, and items of
    the cache. Standard error says where to save it so that every new shell loads it.
    """
    script = Path(__file__).with_suffix(f".{shell}").read_text(encoding="utf-8")
    click.echo(script, nl=False)
    console = Console(quiet=quiet)
    for line in (*_INSTALL[shell], "Then start a new shell."):
        console.note(line)
