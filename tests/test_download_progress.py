"""Progress of a download: a bar on a terminal, a line when piped, nothing when quiet."""

from __future__ import annotations

import subprocess
import sys

import pytest

from support.terminal import run_on_terminal

SHOW = """
import sys
from nasnet_cli.cli.console import Console, ConsoleListener
with ConsoleListener(Console(quiet=sys.argv[1] == "quiet")) as listener:
    for step in range(6):
        listener.progress("imagenet-mobile", step * 2_000_000, 20_000_000)
    listener.note("A note.")
"""


def piped(mode):
    command = [sys.executable, "-c", SHOW, mode]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == ""
    return done.stderr


def test_piped_output_is_one_line_and_the_notes():
    assert piped("loud") == "imagenet-mobile: downloading, 20.0 MB.\nA note.\n"


def test_quiet_output_is_empty():
    assert piped("quiet") == ""


@pytest.mark.parametrize(("mode", "is_shown"), [("loud", True), ("quiet", False)])
def test_terminal_has_a_bar_with_rate_and_size(mode, is_shown):
    session = run_on_terminal([sys.executable, "-c", SHOW, mode])
    output = session.terminal
    assert session.exit_code == 0
    assert (b"imagenet-mobile:" in output and b"/20.0M" in output and b"B/s" in output) == is_shown
    assert (b"A note." in output) == is_shown
