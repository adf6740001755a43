"""The documents say what the program does."""

from __future__ import annotations

import itertools
import re
import runpy
import shlex
import shutil
import subprocess
import zipfile
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from nasnet_cli.cli.main import COMMANDS, main
from support.documents import all_blocks, is_command_alone, library, readme_lines, write_cuts

ROOT = Path(__file__).parents[1]


def test_the_page_of_commands_is_what_help_says():
    made = runpy.run_path(str(ROOT / "docs" / "make_commands.py"))["page"]()
    written = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
    assert written == made, "run: python docs/make_commands.py"


@pytest.fixture(scope="module")
def manual_page():
    """The manual page, made anew."""
    return runpy.run_path(str(ROOT / "docs" / "make_man.py"))["page"]()


def test_the_manual_page_is_what_help_says(manual_page):
    written = (ROOT / "docs" / "nasnet.1").read_text(encoding="utf-8")
    assert written == manual_page, "run: python docs/make_commands.py"


def test_groff_shows_the_manual_page(manual_page, tmp_path):
    if not shutil.which("groff"):
        pytest.skip("groff is not installed")
    (tmp_path / "nasnet.1").write_text(manual_page)
    command = ["groff", "-man", "-ww", "-Tutf8", "-P-c", str(tmp_path / "nasnet.1")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    shown = " ".join(re.sub(r".\x08", "", done.stdout).split())
    for name in COMMANDS:
        assert f"nasnet {name} [" in shown
    assert "nasnet classify photos/ --model imagenet-mobile --out labels.jsonl --resume" in shown
    for heading in ("NAME", "SYNOPSIS", "EXIT STATUS", "ENVIRONMENT", "FILES"):
        assert heading in shown


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


def test_the_lock_file_has_each_requirement_and_no_address():
    import tomllib

    from packaging.requirements import Requirement

    text = (ROOT / "requirements-dev.lock").read_text(encoding="utf-8")
    assert "://" not in text and "index" not in text
    versions: dict[str, list[str]] = {}
    for line in text.splitlines():
        if found := re.match(r"([\w.-]+)==([\w.]+)", line):
            versions.setdefault(found[1], []).append(found[2])
    data = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    wanted = [*data["project"]["dependencies"]]
    for extra in data["project"]["optional-dependencies"].values():
        wanted += extra
    for group in data["dependency-groups"].values():
        wanted += [each for each in group if isinstance(each, str)]
    for requirement in map(Requirement, wanted):
        locked = versions.get(requirement.name.lower().replace("_", "-"), [])
        assert locked and all(map(requirement.specifier.contains, locked)), (
            f"{requirement} is not in requirements-dev.lock; run make lock"
        )


def all_commands(group: click.Group, name: str = "nasnet") -> Iterator[tuple[str, click.Command]]:
    context = click.Context(group)
    yield name, group
    for inner in group.list_commands(context):
        command = group.get_command(context, inner)
        if isinstance(command, click.Group):
            yield from all_commands(command, f"{name} {inner}")
        elif command is not None:
            yield f"{name} {inner}", command


def test_every_option_is_on_the_page_of_commands():
    page = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
    sections = dict(re.findall(r"^## (.*?)\n(.*?)(?=^## |\Z)", page, re.DOTALL | re.MULTILINE))
    missing = {
        f"{name} {option}"
        for name, command in all_commands(main)
        for parameter in command.params
        if isinstance(parameter, click.Option) and not parameter.hidden
        for option in (*parameter.opts, *parameter.secondary_opts)
        if not re.search(
            rf"^  (-\w, |--[\w-]+ / )?{re.escape(option)}(?![\w-])",
            sections.get(name, ""),
            re.MULTILINE,
        )
    }
    assert missing == set()


# Blocks have a language. Those of sh, console and Python run in test_as_typed.py;
# a comment in the line above a block says why it does not run.
PAGES = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").glob("*.md"))
LANGUAGES = {"sh", "console", "python", "text", "crontab", "layers"}
COMMAND = re.compile(r"(\$ )?(nasnet|pip|pipx|uv|make|python|docker|git|find|sqlite3) ")


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", *PAGES])
def test_blocks_have_a_language_and_commands_are_no_text(page):
    for block in all_blocks(page):
        assert block.language in LANGUAGES, block
        assert block.language != "text" or not COMMAND.match(block.code), block


COMMANDS_SHOWN = [
    line.partition(" #")[0].strip() for line in readme_lines() if is_command_alone(line)
]


@pytest.fixture(scope="module")
def workplace(tmp_path_factory, labelled_module):
    """A folder with all that the README's commands name: photos, an archive and a model."""
    folder = tmp_path_factory.mktemp("readme")
    photos = library(folder) / "photos"
    shutil.copytree(photos, folder / "more")
    for label, name in (("espresso", "espresso.jpg"), ("missile", "rocket.jpg")):
        write_cuts(photos / name, folder / "photos_by_class" / label)
    shutil.copy(photos / "cat.jpg", folder / "one.jpg")
    with zipfile.ZipFile(folder / "photos.zip", "w") as archive:
        archive.write(photos / "cat.jpg", "cat.jpg")
    shutil.copytree(labelled_module, folder / "my_module")
    return folder


def test_the_commands_of_the_readme_run(nasnet, workplace):
    """Run them in their order, one after the other in one folder.

    The published models are stood in for by a small one, and what a command before has
    written is moved away for the next, as a reader would.
    """
    assert len(COMMANDS_SHOWN) >= 5
    for line in COMMANDS_SHOWN:
        _, *arguments = shlex.split(re.sub(r"imagenet-\S+", "my_module", line))
        for option, value in itertools.pairwise(arguments):
            if option in ("-o", "--out", "--embed") and "--resume" not in arguments:
                remove_output(workplace / value)
        result = nasnet(*arguments, cwd=workplace)
        assert result.exit_code == 0, f"{line}\n{result.stderr}"


def remove_output(path: Path) -> None:
    for each in path.parent.glob(f"{path.stem}.*" if path.suffix else "no such file"):
        if each.is_file():
            each.unlink()
