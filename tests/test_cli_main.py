"""The command line as a whole: tracebacks on request, suggestions, the version."""

from __future__ import annotations

import os
import platform
from importlib import metadata

import pytest

import nasnet_cli


def test_debug_shows_a_traceback_before_the_sentence(nasnet, tmp_path):
    plain = nasnet("inspect", tmp_path / "absent", expect=1)
    debug = nasnet("inspect", tmp_path / "absent", expect=1, NASNET_DEBUG="1")
    (sentence,) = plain.stderr.splitlines()
    assert sentence.startswith("Error: ")
    first, *_, last = debug.stderr.splitlines()
    assert (first, last) == ("Traceback (most recent call last):", sentence)


def test_an_unexpected_error_is_a_sentence_too(nasnet, tmp_path, monkeypatch):
    def fail(*_):
        raise ZeroDivisionError("by chance")

    monkeypatch.setattr("nasnet_cli.cli.main.LazyGroup.get_command", fail)
    (sentence,) = nasnet("inspect", expect=1).stderr.splitlines()
    assert "ZeroDivisionError: by chance" in sentence and "NASNET_DEBUG=1" in sentence
    assert "Traceback" in nasnet("inspect", expect=1, NASNET_DEBUG="1").stderr


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["clasify", "x"], "Did you mean 'classify'?"),
        (["dup"], "Did you mean 'duplicates'?"),
        (["cache", "lst"], "Did you mean 'ls'?"),
        (["models", "gte", "x"], "Did you mean 'get'?"),
        (["."], "It is a path; did you mean 'nasnet classify .'?"),
        (["quux"], "No such command 'quux'.\n"),
        (["classify", "--tresholt", "1"], "'--threshold'"),
        (["--verison"], "'--version'"),
    ],
)
def test_mistyped_names_get_a_suggestion(nasnet, arguments, hint):
    result = nasnet(*arguments, expect=2)
    assert hint in result.stderr and result.stdout == ""


def test_version_is_a_line(nasnet):
    assert nasnet("--version", expect=0).stdout == f"nasnet {nasnet_cli.__version__}\n"


@pytest.mark.parametrize("order", [("--version", "-v"), ("--verbose", "--version")])
def test_verbose_version_names_python_runtimes_and_model(nasnet, order):
    text = nasnet(*order, expect=0, NASNET_MODEL="imagenet-large").stdout
    lines = text.splitlines()
    assert lines[0] == f"nasnet {nasnet_cli.__version__}"
    assert lines[1].startswith(f"Python {platform.python_version()}, ")
    assert f"openvino {metadata.version('openvino')}" in lines
    assert any(line.startswith("tensorflow ") for line in lines)
    assert "model: imagenet-large" in lines


def test_verbose_alone_belongs_elsewhere(nasnet):
    result = nasnet("-v", "classify", expect=2)
    assert "-v belongs after the command's name" in result.stderr


def test_no_variable_asks_for_the_version(nasnet):
    result = nasnet("cache", "path", expect=0, NASNET_VERSION="1", NASNET_VERBOSE="1")
    assert result.stdout.startswith(os.sep)
