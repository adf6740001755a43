"""What errors say, in one line."""

from __future__ import annotations

import pytest

from nasnet_cli.errors import ModelError, in_words


@pytest.mark.parametrize(
    ("error", "line", "words"),
    [
        (ValueError("No such op: Foo.\nAt line 3"), 0, "No such op: Foo"),
        (RuntimeError("Exception from core.cpp:12:\n\n  It is cut off.\n"), -1, "It is cut off"),
        (KeyError("Unable to open 'x'"), 0, "Unable to open 'x'"),
        (KeyError(), 0, "KeyError"),
        (MemoryError(" \n"), -1, "MemoryError"),
        (ModelError("m.h5 is cut off.", "Get it again."), -1, "m.h5 is cut off"),
    ],
)
def test_an_error_is_one_line_of_a_sentence(error, line, words):
    assert in_words(error, line) == words
