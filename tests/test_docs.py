"""The documents say what the program does."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

from nasnet_cli.cli.main import COMMANDS

ROOT = Path(__file__).parents[1]


def test_the_page_of_commands_is_what_help_says():
    made = runpy.run_path(str(ROOT / "docs" / "make_commands.py"))["page"]()
    written = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
    assert written == made, "run: python docs/make_commands.py"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_in_the_readme(command):
    assert f"nasnet {command}" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_every_dependency_has_its_reason():
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    reasons = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    listed = list(project["dependencies"])
    for extra in project.get("optional-dependencies", {}).values():
        listed += extra
    for requirement in listed:
        name = requirement.split(">")[0].split("<")[0].split("[")[0].split("=")[0].strip()
        assert f"| {name}" in reasons, f"docs/architecture.md doesn't say why {name} is there"
