"""Progress of a download: a bar on a terminal, a line when piped, nothing when quiet."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import termios

import pytest

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
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 100))
    subprocess.run([sys.executable, "-c", SHOW, mode], stderr=theirs, check=True)
    os.close(theirs)
    output = b""
    try:
        while data := os.read(ours, 2**16):
            output += data
    except OSError:  # the end of a terminal's output
        pass
    os.close(ours)
    assert (b"imagenet-mobile:" in output and b"/20.0M" in output and b"B/s" in output) == is_shown
    assert (b"A note." in output) == is_shown
