"""Errors of other libraries, quoted in one line."""

from __future__ import annotations

import pytest

from nasnet_cli.errors import ModelError, describe_error


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
