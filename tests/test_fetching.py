"""How a download is shown: a bar on a terminal, a line when piped, nothing when quiet."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import termios

import pytest

SHOW = """
import sys, time
from nasnet_cli.cli.console import Console, ConsoleListener
with ConsoleListener(Console(quiet=sys.argv[1] == "quiet")) as listener:
    for step in range(6):
        listener.progress("imagenet-mobile", step * 2_000_000, 20_000_000)
        time.sleep(0.06)
    listener.note("A note.")
"""


def piped(how):
    command = [sys.executable, "-c", SHOW, how]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == ""
    return done.stderr


def test_piped_there_is_one_line_and_the_notes():
    assert piped("loud") == "imagenet-mobile: downloading, 20.0 MB.\nA note.\n"


def test_quiet_there_is_nothing():
    assert piped("quiet") == ""


@pytest.mark.parametrize(("how", "is_shown"), [("loud", True), ("quiet", False)])
def test_on_a_terminal_there_is_a_bar_with_rate_and_size(how, is_shown):
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 100))
    subprocess.run([sys.executable, "-c", SHOW, how], stderr=theirs, check=True)
    os.close(theirs)
    shown = b""
    try:
        while data := os.read(ours, 2**16):
            shown += data
    except OSError:  # so a terminal ends
        pass
    os.close(ours)
    assert (b"imagenet-mobile:" in shown and b"/20.0M" in shown and b"B/s" in shown) == is_shown
    assert (b"A note." in shown) == is_shown
