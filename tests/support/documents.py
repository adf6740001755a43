"""Blocks of code in README.md and docs/, run as a reader types them."""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

import nasnet_cli

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Block:
    """A block of code, with the heading above it, and the reason that keeps it from running."""

    heading: str
    language: str
    code: str
    not_run: str

    @property
    def shell(self) -> str:
        """The text that a reader types: a block of sh, or lines of console with a prompt."""
        if self.language != "console":
            return self.code if self.language == "sh" else ""
        return "".join(re.findall(r"^\$ (.*\n)", self.code, re.MULTILINE))


def all_blocks(page: str) -> list[Block]:
    """Return the blocks of a page, named as from the root.

    A comment in the line above a block, `<!-- not run: REASON -->`, keeps it from being run.
    """
    found = []
    heading = ""
    text = (ROOT / page).read_text(encoding="utf-8")
    for title, reason, language, code in re.findall(
        r"^#+ ([^\n]*)$|(?:^<!-- not run: ([^\n]+) -->\n)?^```(\w*)\n(.*?)^```$",
        text,
        re.MULTILINE | re.DOTALL,
    ):
        heading = title or heading
        if not title:
            found.append(Block(heading, language, code, reason))
    return found


def shell_blocks(page: str) -> dict[str, str]:
    """Return what a page has its readers type, joined by the heading above it."""
    found: dict[str, str] = {}
    for block in all_blocks(page):
        if block.shell and not block.not_run:
            found[block.heading] = found.get(block.heading, "") + block.shell
    return found


def python_blocks(page: str) -> list[str]:
    """Return the blocks of Python of a page."""
    return [each.code for each in all_blocks(page) if each.language == "python"]


def readme_lines() -> list[str]:
    """Return the lines that the README has its readers type."""
    return [line for code in shell_blocks("README.md").values() for line in code.splitlines()]


def is_command_alone(line: str) -> bool:
    """Tell whether a line needs neither a shell nor a server."""
    return line.startswith("nasnet ") and "://" not in line and "|" not in line


def programs(folder: Path) -> Path:
    """Write nasnet and python, of these tests, into a folder of programs, and return it."""
    folder.mkdir(parents=True, exist_ok=True)
    source = Path(nasnet_cli.__file__).parents[1]
    for name, arguments in (("nasnet", "-m nasnet_cli "), ("python", "")):
        program = folder / name
        program.write_text(
            f'#!/bin/sh\nPYTHONPATH="{source}" exec {sys.executable} {arguments}"$@"\n'
        )
        program.chmod(0o755)
    return folder


def library(folder: Path) -> Path:
    """Copy the example photos into photos/ of a folder, and return the folder."""
    shutil.copytree(ROOT / "examples" / "photos", folder / "photos")
    return folder


def write_cuts(photo: Path, folder: Path) -> None:
    """Write twelve cuts of a photo into a folder, which a class can be learned from."""
    folder.mkdir(parents=True)
    with Image.open(photo) as image:
        width, height = image.size
        for cut in range(12):
            left, top = width * (cut % 4) // 20, height * (cut // 4) // 15
            part = image.crop((left, top, left + 4 * width // 5, top + 4 * height // 5))
            part.convert("RGB").save(folder / f"{cut}.png")


def install_fresh(folder: Path) -> Path:
    """Install the wheel of this checkout, with its extras, and return the folder of its programs."""
    run = functools.partial(subprocess.run, check=True)
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    run([*pip, "wheel", "--no-deps", "-w", folder, ROOT])
    (wheel,) = folder.glob("*.whl")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    uv = [sys.executable, "-m", "uv"]
    run([*uv, "venv", "--quiet", "--python", sys.executable, folder / "fresh"])
    run(
        [
            *(*uv, "pip", "install", "--quiet", "--python", folder / "fresh"),
            f"{wheel}[{','.join(project['optional-dependencies'])}]",
            "duckdb",  # which a recipe asks for
        ]
    )
    return folder / "fresh" / "bin"


def run_shell(code: str, folder: Path, programs: Path, **variables: str) -> str:
    """Run code with bash in a folder, which is the user's too; return its output.

    A command that fails fails the test. Of the variables of this process, those that concern
    nasnet and Python are left out.
    """
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("NASNET_", "PYTHON", "XDG_"))
    }
    path = f"{programs}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", code],
        cwd=folder,
        env={**kept, "PATH": path, "HOME": str(folder), **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
