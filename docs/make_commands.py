"""Write docs/commands.md, and docs/nasnet.1, from --help: `python docs/make_commands.py`."""

from __future__ import annotations

from pathlib import Path

import click

from nasnet_cli.cli.main import COMMANDS, main


def page() -> str:
    """The text of docs/commands.md."""
    parts = ["# Commands\n\nWhat `--help` says, all in one place. Made by docs/make_commands.py.\n"]
    # With the group's own settings, as when it is called.
    top = click.Context(main, info_name="nasnet", terminal_width=88, **main.context_settings)
    parts.append(_section("nasnet", main.get_help(top)))
    for name in COMMANDS:
        command = main.get_command(top, name)
        assert command is not None
        context = click.Context(command, info_name=name, parent=top, terminal_width=88)
        parts.append(_section(f"nasnet {name}", command.get_help(context)))
        if isinstance(command, click.Group):
            for inner in command.list_commands(context):
                part = command.get_command(context, inner)
                assert part is not None
                below = click.Context(part, info_name=inner, parent=context, terminal_width=88)
                parts.append(_section(f"nasnet {name} {inner}", part.get_help(below)))
    return "\n".join(parts)


def _section(title: str, text: str) -> str:
    return f"## {title}\n\n```text\n{text.rstrip()}\n```\n"


if __name__ == "__main__":
    import make_man

    (Path(__file__).parent / "commands.md").write_text(page(), encoding="utf-8")
    make_man.PAGE.write_text(make_man.page(), encoding="utf-8")
