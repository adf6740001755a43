"""Commands on a real terminal."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import tempfile
import termios
from collections.abc import Sequence
from dataclasses import dataclass

COLUMNS = 100


@dataclass(frozen=True)
class Session:
    """The output of a command: its exit code, and the bytes of each stream."""

    exit_code: int
    stdout: bytes
    terminal: bytes

    @property
    def screen(self) -> list[str]:
        """The terminal's lines as they are in the end, after each was written over."""
        text = re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", self.terminal.decode())
        lines = []
        for line in text.replace("\r\n", "\n").split("\n"):
            shown = ""
            for piece in line.split("\r"):
                shown = piece + shown[len(piece) :]
            lines.append(shown.rstrip())
        return lines


def run_on_terminal(
    command: Sequence[object], *, stdout_too: bool = False, **variables: str
) -> Session:
    """Run a command whose standard error (and output, with stdout_too) is a terminal."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, COLUMNS))
    with tempfile.TemporaryFile() as piped:
        process = subprocess.Popen(
            [*map(str, command)],
            stdout=theirs if stdout_too else piped,
            stderr=theirs,
            env={**os.environ, **variables},
        )
        os.close(theirs)
        terminal = b""
        try:
            while data := os.read(ours, 2**16):
                terminal += data
        except OSError:  # the way a terminal ends
            pass
        os.close(ours)
        exit_code = process.wait()
        piped.seek(0)
        return Session(exit_code, piped.read(), terminal)
