"""The help of every command: examples, then options in sections."""

from __future__ import annotations

import re
from collections.abc import Iterator

import click
import pytest

from nasnet_cli.cli.main import main
from nasnet_cli.cli.sections import SECTIONS


def all_commands(group: click.Group, *names: str) -> Iterator[tuple[str, ...]]:
    """Yield the names of the program's commands, groups and the program itself included."""
    yield names
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if isinstance(command, click.Group):
            yield from all_commands(command, *names, name)
        else:
            yield (*names, name)


def sections_of(text: str) -> dict[str, str]:
    """Return the sections of a help text, by their titles."""
    return dict(re.findall(r"^(\w[\w ]+):\n((?: .*\n|\n)*)", text, re.MULTILINE))


@pytest.fixture(params=list(all_commands(main)), ids=" ".join)
def names(request):
    return request.param


@pytest.fixture
def help_text(nasnet, names):
    return nasnet(*names, "--help", expect=0).stdout


def test_help_has_three_examples_before_the_options(help_text, names):
    assert next(iter(sections_of(help_text))) == "Examples"
    examples = sections_of(help_text)["Examples"].partition("\n\n")[0].splitlines()
    prefix = " ".join(["nasnet", *names])
    assert (
        len([line for line in examples if re.match(rf" +(\w+=\S+ |source <\()?{prefix}\b", line)])
        == 3
    )


def test_each_option_is_in_one_of_the_sections(help_text, names):
    command = main
    for name in names:
        command = command.get_command(click.Context(command), name)
    sections = sections_of(help_text)
    assert "Options" not in sections
    shown = [title for title in sections if title in SECTIONS]
    assert shown == [title for title in SECTIONS if title in sections], "another order"
    options = [p for p in command.get_params(click.Context(command)) if isinstance(p, click.Option)]
    for option in options:
        places = [
            title
            for title in shown
            if re.search(
                rf"^  (-\w, )?{re.escape(option.opts[-1])}(?![\w-])", sections[title], re.MULTILINE
            )
        ]
        assert len(places) == 1, option.opts
        assert places[0] == getattr(option, "section", "Basic options")


def test_help_of_classify_has_all_sections_in_order(nasnet):
    text = nasnet("classify", "--help", expect=0).stdout
    assert list(sections_of(text)) == ["Examples", *SECTIONS]


def test_help_names_the_variables_for_all_commands(nasnet):
    for variable in ("NASNET_MODEL", "NASNET_RUNTIME", "NASNET_WORKERS"):
        for command in ((), ("classify",), ("embed",), ("similar",)):
            assert variable in nasnet(*command, "--help", expect=0).stdout


def test_help_fits_in_eighty_columns(help_text):
    assert max(map(len, help_text.splitlines())) <= 80


@pytest.mark.parametrize("columns", ["", "nonsense", "-5", "0", "20", "64", "90", "300"])
def test_help_is_as_wide_as_click_makes_it(columns, monkeypatch):
    monkeypatch.setattr(click.formatting, "FORCED_WIDTH", None)
    monkeypatch.setenv("COLUMNS", columns)
    context = main.make_context("nasnet", [], resilient_parsing=True)
    expected = click.HelpFormatter(max_width=100).width
    assert context.make_formatter().width == expected
