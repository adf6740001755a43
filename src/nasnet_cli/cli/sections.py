"""Commands whose help has examples and sections of options, and options gathered in one object."""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable, Sequence
from typing import Any

import click
from click import formatting
from click.core import ParameterSource

from nasnet_cli.cli import startup

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

BASIC, OUTPUT, MODEL = "Basic options", "Output options", "Model options"
LARGE, ADVANCED = "Large jobs", "Advanced options"
SECTIONS = (BASIC, OUTPUT, MODEL, LARGE, ADVANCED)


# Options without an environment variable: they decide what is written over, and what is trusted.
_NEVER_FROM_ENVIRONMENT = frozenset(("--out", "--overwrite", "--prune", "--allow-unsafe-ops"))


class Option(click.Option):
    """An option that help shows in a section, with its default.

    Of the environment variables that set it, that of the command and the option's own name
    (NASNET_CLASSIFY_TOP) has precedence over envvar, which is for all commands.
    """

    def __init__(self, *args: Any, section: str, **settings: Any) -> None:
        super().__init__(
            *args, **{"show_envvar": "envvar" in settings, **settings, "show_default": True}
        )
        self.section = section
        self.allow_from_autoenv &= _NEVER_FROM_ENVIRONMENT.isdisjoint(self.opts)

    def own_variable(self, ctx: click.Context) -> str | None:
        """Return the name of its variable for this command, None where it has none."""
        if not self.allow_from_autoenv or ctx.auto_envvar_prefix is None:
            return None
        name = max(self.opts, key=len).lstrip("-").replace("-", "_")
        return f"{ctx.auto_envvar_prefix}_{name}".upper()

    def resolve_envvar_value(self, ctx: click.Context) -> str | None:
        own = self.own_variable(ctx)
        # Not Click's own, which goes by the name of the parameter, FORMAT_ and AS_JSON.
        return (own and os.environ.get(own)) or click.Parameter.resolve_envvar_value(self, ctx)

    def process_value(self, ctx: click.Context, value: Any) -> Any:
        try:
            return super().process_value(ctx, value)
        except click.BadParameter as error:
            if ctx.get_parameter_source(self.name or "") is ParameterSource.ENVIRONMENT:
                own = self.own_variable(ctx)
                variable = own if own and os.environ.get(own) else self.envvar
                error.param_hint = f"{variable}, for {max(self.opts, key=len)}"
            raise


class Context(click.Context):
    """The context of a command, which finds the width of its help without importing shutil."""

    def make_formatter(self) -> click.HelpFormatter:
        width = self.terminal_width or formatting.FORCED_WIDTH
        if width is None:
            width = max(min(startup.terminal_columns(), self.max_content_width or 80) - 2, 50)
        return self.formatter_class(width=width)


class Command(click.Command):
    """A command whose help has examples, and its options in sections."""

    context_class = Context

    def __init__(self, *args: Any, examples: Sequence[str] = (), **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.examples = examples

    def format_help_text(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        summary, _, rest = inspect.cleandoc(self.help or "").partition("\n\n")
        formatter.write_paragraph()
        with formatter.indentation():
            formatter.write_text(summary)
        if self.examples:
            with formatter.section("Examples"):
                for example in self.examples:
                    formatter.write(f"{'':{formatter.current_indent}}{example}\n")
        if rest:
            formatter.write_paragraph()
            with formatter.indentation():
                formatter.write_text(rest)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for name, records in self.option_sections(ctx).items():
            with formatter.section(name):
                formatter.write_dl(records)

    def option_sections(self, ctx: click.Context) -> dict[str, list[tuple[str, str]]]:
        """Return the names and help texts of the options, by the sections that have any."""
        sections: dict[str, list[tuple[str, str]]] = {name: [] for name in SECTIONS}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None and isinstance(parameter, click.Option):
                sections[getattr(parameter, "section", BASIC)].append(record)
        return {name: records for name, records in sections.items() if records}


class Group(Command, click.Group):
    """A group of commands, with examples and sections of options too.

    for_paths is the command to suggest for a path where a command is expected.
    """

    for_paths: str | None = None

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        super().format_options(ctx, formatter)
        self.format_commands(ctx, formatter)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        # Click's own message knows no commands of a lazy group.
        if not (ctx.resilient_parsing or name.startswith("-") or self.get_command(ctx, name)):
            ctx.fail(f"No such command {name!r}.{self._suggestion(ctx, name)}")
        return super().resolve_command(ctx, args)

    def _suggestion(self, ctx: click.Context, name: str) -> str:
        """Return a hint at the command that was meant, or at the usual one for a path."""
        from difflib import get_close_matches
        from pathlib import Path

        names = self.list_commands(ctx)
        begun = [each for each in names if each.startswith(name)]
        if found := begun or get_close_matches(name, names):
            return " Did you mean " + " or ".join(map(repr, found)) + "?"
        if self.for_paths in names and Path(name).exists():
            return f" It is a path; did you mean '{ctx.command_path} {self.for_paths} {name}'?"
        return ""


def command_with(*examples: str) -> Callable[[Callable[..., Any]], Command]:
    """Return a decorator that makes a command of a function, with examples for its help."""
    return click.command(cls=Command, examples=examples)


def group_with(*examples: str, **settings: Any) -> Callable[[Callable[..., Any]], Group]:
    """Return a decorator that makes a group of a function, with examples; settings are Click's."""
    return click.group(cls=Group, examples=examples, **settings)


def option(*names: str, section: str = BASIC, **settings: Any) -> Decorator:
    """Add an option to a command, in a section of its help; settings are Click's."""
    return click.option(*names, cls=Option, section=section, **settings)


def path_option(*names: str, metavar: str = "DIR", **settings: Any) -> Decorator:
    """Add an option for the path of a folder, or of the file that metavar stands for."""
    return option(*names, type=click.Path(), metavar=metavar, **settings)


def json_option(help_: str) -> Decorator:
    """Add --json to a command, as as_json."""
    return option("--json", "as_json", section=OUTPUT, is_flag=True, help=help_)


def print_json(value: object) -> None:
    """Print a value as JSON."""
    from nasnet_cli.results.text import json_text

    click.echo(json_text(value, indent=2))


def print_line(line: str) -> None:
    """Print a line, safe on a terminal."""
    from nasnet_cli.results.text import printable

    click.echo(printable(line))


def gathered(name: str, kind: Callable[..., Any], *decorators: Decorator) -> Decorator:
    """Add a group of options to a command, passed as one object that kind makes of them."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def call(**parameters: Any) -> Any:
            own = {key: parameters.pop(key) for key in names}
            return function(**parameters, **{name: kind(**own)})

        decorated: Callable[..., Any] = call
        before = len(getattr(function, "__click_params__", ()))
        for decorator in reversed(decorators):
            decorated = decorator(decorated)
        names = [parameter.name for parameter in vars(decorated)["__click_params__"][before:]]
        return decorated

    return decorate
