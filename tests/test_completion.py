"""Completion in three shells: commands, options, models and items of the cache."""

from __future__ import annotations

import os
import pty
import subprocess
import sys

import pytest

from nasnet_cli.cli.main import COMMANDS
from nasnet_cli.models.hub.published import PUBLISHED

SHELLS = ("bash", "zsh", "fish")
HANDLE = "https://example.org/nasnet/1"


def complete(nasnet_process, shell, *words):
    """Ask for completions of the last word; the values that are answered."""
    number = words[-1] if shell == "fish" else str(len(words) - 1)
    variables = {"COMP_WORDS": " ".join(words), "COMP_CWORD": number}
    result = nasnet_process(expect=0, _NASNET_COMPLETE=f"{shell}_complete", **variables)
    assert result.stderr == ""
    lines = result.stdout.splitlines()
    if shell == "zsh":  # type, value and help are lines of their own
        return lines[1::3]
    return [line.partition(",")[2].split("\t")[0] for line in lines]


@pytest.mark.parametrize("shell", SHELLS)
def test_shells_are_answered_with_commands_and_options(nasnet_process, shell):
    assert set(complete(nasnet_process, shell, "nasnet", "")) == set(COMMANDS)
    assert complete(nasnet_process, shell, "nasnet", "classify", "--to") == ["--top"]
    assert complete(nasnet_process, shell, "nasnet", "cache", "v") == ["verify"]


@pytest.fixture
def cached_handle(cache_folder):
    """The cache with a model that was fetched by its handle."""
    from nasnet_cli.models.hub import store

    def build(folder):
        (folder / "saved_model.pb").write_bytes(b"")
        return folder, "downloaded", "0" * 64

    from nasnet_cli.models.listener import SILENT

    store.keep("nasnet-1-0123456789ab", HANDLE, HANDLE, build, SILENT)
    return "nasnet-1-0123456789ab"


def test_models_are_completed_by_name_and_handle(nasnet_process, cached_handle):
    models = complete(nasnet_process, "fish", "nasnet", "classify", "--model", "")
    assert {"builtin", HANDLE, *PUBLISHED} <= set(models)
    mobile = [name for name in PUBLISHED if name.startswith("imagenet-m")]
    for command in (["embed", "-m"], ["inspect"], ["models", "default"]):
        answer = complete(nasnet_process, "fish", "nasnet", *command, "imagenet-m")
        assert answer[-len(mobile) :] == mobile
    assert complete(nasnet_process, "fish", "nasnet", "models", "get", "imagenet-m") == mobile


def test_items_of_the_cache_are_completed(nasnet_process, cached_handle):
    for command in ("rm", "verify", "path"):
        assert complete(nasnet_process, "fish", "nasnet", "cache", command, "nas") == [
            cached_handle
        ]


@pytest.mark.parametrize("shell", SHELLS)
def test_the_script_is_printed_and_where_to_save_it(nasnet, shell):
    result = nasnet("completion", shell, expect=0)
    assert f"_NASNET_COMPLETE={shell}_complete" in result.stdout
    assert result.stderr.startswith("Save this as ~/")
    quiet = nasnet("completion", shell, "--quiet", expect=0)
    assert (quiet.stdout, quiet.stderr) == (result.stdout, "")


def test_another_shell_is_refused_by_name(nasnet):
    assert "'csh' is not one of 'bash', 'zsh', 'fish'" in nasnet("completion", "csh").stderr


@pytest.fixture
def bash(tmp_path):
    """Run an interactive bash with nasnet's script, type a text, and return what it shows.

    The text's Tab is bash's own; readline then has the completed line.
    """
    program = tmp_path / "nasnet"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m nasnet_cli "$@"\n')
    program.chmod(0o755)
    script = tmp_path / "startup"
    script.write_text('PS1="ready> "\neval "$(nasnet completion bash --quiet)"\n')
    (tmp_path / "a_model.onnx").touch()

    def typed(text: str) -> str:
        ours, theirs = pty.openpty()
        process = subprocess.Popen(
            ["bash", "--rcfile", script, "-i"],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            cwd=tmp_path,
            start_new_session=True,
            env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "TERM": "dumb"},
        )
        os.close(theirs)
        seen = b""
        try:
            while b"ready> " not in seen:
                seen += os.read(ours, 2**16)
            # The line is echoed as a comment, so that nothing runs.
            os.write(ours, f"{text}\t\x01#\n".encode())
            while b"#" not in seen.rpartition(b"ready> ")[0]:
                seen += os.read(ours, 2**16)
            os.write(ours, b"exit\n")
            while data := os.read(ours, 2**16):
                seen += data
        except OSError:  # the way a terminal ends
            pass
        os.close(ours)
        process.wait()
        return seen.decode()

    return typed


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("nasnet class", "nasnet classify"),
        ("nasnet completion z", "nasnet completion zsh"),
        ("nasnet classify -m buil", "nasnet classify -m builtin"),
        ("nasnet classify -m a_mod", "nasnet classify -m a_model.onnx"),
        ("nasnet classify --resize str", "nasnet classify --resize stretch"),
    ],
)
def test_bash_completes_a_line(bash, text, line):
    assert line in bash(text)
