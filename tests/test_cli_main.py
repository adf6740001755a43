"""The command line as a whole: tracebacks on request, and completion in three shells."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from nasnet_cli.cli.main import COMMANDS


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


def complete(nasnet_process, shell, *words):
    """Ask for completions of the last word; the answers' first words."""
    number = words[-1] if shell == "fish" else str(len(words) - 1)
    variables = {"COMP_WORDS": " ".join(words), "COMP_CWORD": number}
    result = nasnet_process(expect=0, _NASNET_COMPLETE=f"{shell}_complete", **variables)
    assert result.stderr == ""
    return result.stdout.splitlines()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_are_answered_with_commands_and_options(nasnet_process, shell):
    commands = complete(nasnet_process, shell, "nasnet", "")
    options = complete(nasnet_process, shell, "nasnet", "classify", "--to")
    inner = complete(nasnet_process, shell, "nasnet", "cache", "v")
    separator = {"bash": "plain,", "fish": "plain,", "zsh": ""}[shell]
    for answers, names in ((commands, COMMANDS), (options, ["--top"]), (inner, ["verify"])):
        found = [answer.split("\t")[0] for answer in answers]
        assert {separator + name for name in names} <= set(found)
    assert not any("embed" in answer.split("\t")[0] for answer in options)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_are_given_a_script(nasnet_process, shell):
    script = nasnet_process(expect=0, _NASNET_COMPLETE=f"{shell}_source").stdout
    assert f"_NASNET_COMPLETE={shell}_complete" in script


def test_bash_completes_a_command_by_the_script(tmp_path):
    program = tmp_path / "nasnet"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m nasnet_cli "$@"\n')
    program.chmod(0o755)
    code = (
        'eval "$(_NASNET_COMPLETE=bash_source nasnet)"\n'
        "COMP_WORDS=(nasnet class); COMP_CWORD=1\n"
        "_nasnet_completion nasnet; echo ${COMPREPLY[@]}"
    )
    done = subprocess.run(
        ["bash", "-c", code],
        env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert (done.stdout, done.stderr) == ("classify\n", "")
