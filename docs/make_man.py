"""The manual page nasnet(1), from the text of --help: `python docs/make_man.py` writes it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click

from nasnet_cli import __version__
from nasnet_cli.cli.main import main
from nasnet_cli.cli.sections import Command, Group

PAGE = Path(__file__).parent / "nasnet.1"

_EXIT = {
    "0": "Every input has a result.",
    "1": "The job could not be done. One sentence says why, and what to do.",
    "2": "The command line is wrong.",
    "3": "The job is finished; some inputs have an error instead of a result.",
    "130, 143": "Interrupted by Ctrl-C or SIGTERM. --resume continues.",
    "141": "The reader of standard output has gone.",
}
_VARIABLES = {
    "NASNET_MODEL": "The default model, instead of that of nasnet models default.",
    "NASNET_RUNTIME, NASNET_WORKERS": "Defaults of --runtime and --workers for all commands.",
    "NASNET_<COMMAND>_<OPTION>": "Default of an option, where the option names the variable.",
    "NASNET_CACHE_DIR": "The cache folder, instead of nasnet in the user's cache folder.",
    "NASNET_DEBUG": "1 shows a traceback before an error.",
    "NO_COLOR": "Use no colours.",
    "TFHUB_CACHE_DIR": "A cache of tensorflow_hub, which is searched for published models.",
}
_FILES = {
    "~/.cache/nasnet/": "Models that were fetched, converted or compiled. nasnet cache lists them.",
    "~/.config/nasnet/config.toml": "The default model. nasnet models default writes it.",
}


def page() -> str:
    """The manual page in the language of man(7)."""
    top = click.Context(main, info_name="nasnet", **main.context_settings)
    help_ = _paragraphs(main)
    lines = [
        r".\" Made by docs/make_man.py.",
        f'.TH NASNET 1 "" "nasnet {__version__}" "User Commands"',
        ".SH NAME",
        rf"nasnet \- {_text(help_[0].rstrip('.'))}",
        ".SH SYNOPSIS",
        r".B nasnet",
        r"\fICOMMAND\fR [\fIOPTIONS\fR] [\fIARGUMENTS\fR]",
        ".SH DESCRIPTION",
        *_joined(help_[1:]),
        *_examples(main),
        ".SH OPTIONS",
        *_options(main, top),
        ".SH COMMANDS",
        *_commands(main, top),
    ]
    for title, table in (
        ("EXIT STATUS", _EXIT),
        ("ENVIRONMENT", _VARIABLES),
        ("FILES", _FILES),
    ):
        lines.append(f".SH {title}")
        for term, text in table.items():
            lines += _item(term, text)
    return "\n".join(lines) + "\n"


def _commands(group: Group, context: click.Context) -> Iterator[str]:
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert isinstance(command, Command)
        below = click.Context(command, info_name=name, parent=context)
        usage = " ".join(command.collect_usage_pieces(below))
        yield f".SS {_text(f'{below.command_path} {usage}')}"
        yield from _joined(_paragraphs(command))
        yield from _examples(command)
        yield from _options(command, below)
        if isinstance(command, Group):
            yield from _commands(command, below)


def _examples(command: Command) -> Iterator[str]:
    yield from (".PP", ".EX", *map(_text, command.examples), ".EE")


def _options(command: Command, context: click.Context) -> Iterator[str]:
    """Yield the options by their sections, those of basic use without a heading."""
    for section, records in command.option_sections(context).items():
        if section != "Basic options":
            yield from (".PP", rf"\fI{section}\fR")
        for names, text in records:
            yield from _item(names, text)


def _item(term: str, text: str) -> list[str]:
    return [".TP", rf"\fB{_text(term)}\fR", _text(text)]


def _paragraphs(command: click.Command) -> list[str]:
    return [" ".join(part.split()) for part in (command.help or "").split("\n\n")]


def _joined(paragraphs: list[str]) -> Iterator[str]:
    for paragraph in paragraphs:
        yield from (".PP", _text(paragraph))


def _text(text: str) -> str:
    """Return text on one line, with what has a meaning in man(7) escaped."""
    escaped = re.sub(r"\s+", " ", text).replace("\\", r"\e").replace("-", r"\-")
    for plain, name in (("~", r"\(ti"), ("^", r"\(ha"), ("`", r"\(ga"), ("'", r"\(aq")):
        escaped = escaped.replace(plain, name)
    return rf"\&{escaped}" if escaped.startswith(".") else escaped


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
