"""Killed runs of albums.moves, one for each line of JSON on standard input.

A line is [step, action, folder, sources], action copy, link, move or undo. The run dies right
before the step-th system call that changes files. Each source goes to the folder "x". The answer
is a line: the signal that ended the run, or 0.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import warnings
from pathlib import Path

from nasnet_cli.albums.moves import open_album

# Python announces these before they happen.
CHANGES = {"os.link", "os.symlink", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.utime"}


def run(steps: int, action: str, folder: str, sources: list[str]) -> None:
    """Run, and die at the step."""

    def before(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal steps
        is_opened_to_write = event == "open" and bool(int(str(arguments[2] or 0)) & os.O_CREAT)
        if event in CHANGES or is_opened_to_write:
            steps -= 1
            if not steps:
                os.kill(os.getpid(), signal.SIGKILL)

    with open_album(folder, create=action != "undo") as album:
        wanted = [(source, f"x/{Path(source).name}") for source in sources]
        sys.addaudithook(before)
        outcomes = album.undo() if action == "undo" else album.run(album.plan(action, wanted))
        problems = [outcome for outcome in outcomes if outcome.problem]
    assert not problems, problems


def main() -> None:
    """Answer each line by a run in a child of its own, which needs no imports any more."""
    warnings.simplefilter("error")
    for line in sys.stdin:
        if child := os.fork():
            _, status = os.waitpid(child, 0)
            print(-os.waitstatus_to_exitcode(status), flush=True)
        else:
            run(*json.loads(line))
            os._exit(0)


main()
