"""A run of albums.moves that kills itself: `killed_moves.py STEP undo|copy|link|move FOLDER SOURCES…`.

It dies right before the STEP-th system call that changes files; later ones don't happen. Each
source goes to the folder "x". Prints "finished" when it ends before that.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from nasnet_cli.albums.moves import open_album

# Python announces these before they happen.
CHANGES = {"os.link", "os.symlink", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.utime"}


def main() -> None:
    """Run, and die at the step."""
    steps, (action, folder, *sources) = int(sys.argv[1]), sys.argv[2:]

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
    steps = -1
    print("finished")


main()
