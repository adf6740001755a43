"""Blocks of code on the pages of docs/, run as a reader types them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nasnet_cli

ROOT = Path(__file__).parents[2]


def blocks(page: str, language: str) -> dict[str, str]:
    """Return the code of that language on a page of docs/, joined by the heading above it."""
    found: dict[str, str] = {}
    heading = ""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    for title, kind, code in re.findall(
        r"^#+ ([^\n]*)$|^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL
    ):
        if title:
            heading = title
        elif kind == language:
            found[heading] = found.get(heading, "") + code
    return found


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


def run_shell(code: str, folder: Path, **variables: str) -> str:
    """Run code with bash in a folder; a command that fails fails the test. Returns its output."""
    path = f"{programs(folder / '.programs')}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", code],
        cwd=folder,
        env={**os.environ, "PATH": path, **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
