"""Errors of other libraries, quoted in one line, and what the system has run out of."""

from __future__ import annotations

import errno
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from nasnet_cli.errors import ModelError, describe_error, exhaustion


@pytest.mark.parametrize(
    ("error", "line", "expected"),
    [
        (ValueError("No such op: Foo.\nAt line 3"), 0, "No such op: Foo"),
        (RuntimeError("Exception from core.cpp:12:\n\n  It is cut off.\n"), -1, "It is cut off"),
        (KeyError("Unable to open 'x'"), 0, "Unable to open 'x'"),
        (KeyError(), 0, "KeyError"),
        (MemoryError(" \n"), -1, "MemoryError"),
        (ModelError("m.h5 is cut off.", "Get it again."), -1, "m.h5 is cut off"),
    ],
)
def test_describe_error_returns_one_line_without_a_full_stop(error, line, expected):
    assert describe_error(error, line) == expected


def test_what_the_system_has_run_out_of_is_named() -> None:
    def problem(error: BaseException) -> str | None:
        exhausted = exhaustion(error)
        return exhausted and exhausted.problem

    assert problem(MemoryError()) == problem(RuntimeError("Exception: std::bad_alloc"))
    assert problem(OSError(errno.ENOMEM, "")) == problem(MemoryError()) == "Out of memory."
    assert problem(OSError(errno.EMFILE, "")) == "Too many files are open."
    assert "no more processes" in str(problem(RuntimeError("can't start new thread")))
    assert problem(OSError(errno.EACCES, "")) is None
    assert problem(ModelError("It says bad_alloc.", "")) is None


@pytest.mark.usefixtures("uncovered")  # it could not open the file of coverage
def test_a_process_without_file_handles_says_so(tmp_path: Path) -> None:
    Image.linear_gradient("L").save(tmp_path / "a.jpg")
    code = (
        "import os, resource, sys\n"
        "from nasnet_cli.cli import classify, main\n"
        "import nasnet_cli.model, nasnet_cli.pipeline, nasnet_cli.images.load\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir('/proc/self/fd')), 100))\n"
        "main.run(sys.argv[1:])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "classify", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "Too many files are open" in done.stderr or "Too many open files" in done.stderr
    assert "Traceback" not in done.stderr and "Unexpected" not in done.stderr
