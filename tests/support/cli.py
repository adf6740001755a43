"""Run the command line: in the tests' process, or as a process of its own."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from nasnet_cli.cli import main, startup

NASNET = [sys.executable, "-m", "nasnet_cli"]

# A safety net for a process that hangs; no test relies on it.
WATCHDOG = 300


@dataclass(frozen=True)
class Result:
    """The exit code and output of a command."""

    exit_code: int
    stdout_bytes: bytes
    stderr_bytes: bytes

    @property
    def stdout(self) -> str:
        return self.stdout_bytes.decode()

    @property
    def stderr(self) -> str:
        return self.stderr_bytes.decode()

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The JSON lines on standard output."""
        return [json.loads(line) for line in self.stdout_bytes.splitlines()]


def run_in_process(
    *arguments: object,
    expect: int | None = None,
    cwd: Path | None = None,
    stdin: bytes | None = None,
    **variables: str,
) -> Result:
    """Run nasnet in this process, with captured streams and no terminal.

    Variables are added to the environment. With expect, another exit code fails the test.
    """
    with (
        _process_state_restored(),
        contextlib.chdir(cwd or Path.cwd()),
        CliRunner().isolation(stdin, variables) as (out, err, _),
    ):
        exit_code = _exit_code([str(argument) for argument in arguments])
        wait_for_openings()
        sys.stdout.flush()
        sys.stderr.flush()
        result = Result(exit_code, out.getvalue(), err.getvalue())
    return _checked(result, expect)


def exit_status(*arguments: object) -> int:
    """Run nasnet in this process, with the test's own streams, and return its exit code."""
    with _process_state_restored():
        status = _exit_code([str(argument) for argument in arguments])
        wait_for_openings()
    return status


def wait_for_openings() -> None:
    """Wait for the models that still open, as after a command that failed before it needed one.

    OpenVINO reads the environment meanwhile: who changes it then ends the process by SIGSEGV.
    """
    for thread in threading.enumerate():
        if thread.name == "open":
            thread.join(WATCHDOG)


def run_process(
    *arguments: object,
    expect: int | None = None,
    cwd: Path | None = None,
    stdin: bytes | None = None,
    **variables: str,
) -> Result:
    """Run nasnet as a process, for tests of signals, imports, streams and exits."""
    done = subprocess.run(
        [*NASNET, *map(str, arguments)],
        capture_output=True,
        cwd=cwd,
        input=stdin,
        env={**os.environ, **variables},
        timeout=WATCHDOG,
        check=False,
    )
    return _checked(Result(done.returncode, done.stdout, done.stderr), expect)


def _exit_code(arguments: list[str]) -> int:
    try:
        main.run(arguments)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    raise AssertionError("run() returned instead of exiting")


def _checked(result: Result, expect: int | None) -> Result:
    if expect is not None:
        assert result.exit_code == expect, result
    return result


@contextlib.contextmanager
def _process_state_restored() -> Iterator[None]:
    """Restore what a command changes in its process, which usually ends with it."""
    environment, terminate = dict(os.environ), signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        startup.kept.clear()
        signal.signal(signal.SIGTERM, terminate)
        os.environ.clear()
        os.environ.update(environment)
