"""Completion in three shells: commands, options, models and items of the cache."""

from __future__ import annotations

import contextlib
import os
import pty
import shutil
import subprocess

import pytest

from nasnet_cli.cli.main import COMMANDS
from nasnet_cli.models.hub.published import PUBLISHED
from support.documents import programs

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
    assert complete(nasnet_process, "fish", "nasnet", "cache", "rm", "f") == ["features"]


@pytest.mark.parametrize("shell", SHELLS)
def test_the_script_is_printed_and_where_to_save_it(nasnet, shell):
    result = nasnet("completion", shell, expect=0)
    assert f"_NASNET_COMPLETE={shell}_complete" in result.stdout
    assert result.stderr.startswith("Save this as ~/")
    quiet = nasnet("completion", shell, "--quiet", expect=0)
    assert (quiet.stdout, quiet.stderr) == (result.stdout, "")


def test_another_shell_is_refused_by_name(nasnet):
    assert "'csh' is not one of 'bash', 'zsh', 'fish'" in nasnet("completion", "csh").stderr


# For each shell: how it is started, where the script of completion is saved, and what the shell
# reads at its start. There nasnet is a function that writes down what it is given, and says so.
START = {
    "bash": (
        ["bash", "--rcfile", ".bashrc", "-i"],
        ".completion",
        ".bashrc",
        'PS1="ready> "\n. ~/.completion\nnasnet() { echo "$@" >> ~/typed; echo done; }\n',
    ),
    "zsh": (
        ["zsh", "-d", "-i"],
        ".zfunc/_nasnet",
        ".zshrc",
        'PS1="ready> "\nfpath+=(~/.zfunc)\nautoload -Uz compinit; compinit -u -D\n'
        'nasnet() { echo "$@" >> ~/typed; echo done; }\n',
    ),
    "fish": (
        ["fish", "-i"],
        ".config/fish/completions/nasnet.fish",
        ".config/fish/config.fish",
        "function fish_prompt; echo 'ready> '; end\nset -g fish_greeting\n"
        "function nasnet; echo $argv >> ~/typed; echo done; end\n",
    ),
}

# What is typed before Tab, and the line that it becomes.
COMPLETED = {
    "class": "classify",
    "completion z": "completion zsh",
    "classify -m buil": "classify -m builtin",
    "classify -m a_mod": "classify -m a_model.onnx",
    "classify --resize str": "classify --resize stretch",
    "classify --model=buil": "classify --model=builtin",
    "classify --model=a_mod": "classify --model=a_model.onnx",
    "inspect https://ex": f"inspect {HANDLE}",
    "inspect https:": f"inspect {HANDLE}",
    "embed --model=https://ex": f"embed --model={HANDLE}",
    "cache rm nas": "cache rm nasnet-1-0123456789ab",
}


@pytest.fixture(params=SHELLS)
def type_into_shell(request, nasnet, cached_handle, tmp_path):
    """Type lines into an interactive shell, one at each prompt; return those that nasnet gets."""
    command, script, settings, start = START[request.param]
    if not shutil.which(command[0]):
        pytest.skip(f"{command[0]} is not installed")
    for name, text in (
        (script, nasnet("completion", request.param, expect=0).stdout),
        (settings, start),
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "a_model.onnx").touch()
    environment = {
        **os.environ,
        "PATH": f"{programs(tmp_path / 'bin')}:{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "ZDOTDIR": str(tmp_path),
        "TERM": "dumb",
    }
    for name in ("XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME"):
        environment.pop(name, None)

    def typed(*lines: str) -> list[str]:
        ours, theirs = pty.openpty()
        process = subprocess.Popen(
            # fish reads keys only from the terminal that controls it.
            ["setsid", "--ctty", *command],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            cwd=tmp_path,
            env=environment,
        )
        os.close(theirs)
        seen = b""
        with contextlib.suppress(OSError):  # the way a terminal ends
            for count, line in enumerate((*lines, "exit\n")):
                while seen.count(b"done") < count or b"ready> " not in seen.rpartition(b"done")[2]:
                    seen += os.read(ours, 2**16)
                os.write(ours, line.encode())
            while data := os.read(ours, 2**16):
                seen += data
        os.close(ours)
        process.wait()
        assert (tmp_path / "typed").exists(), seen.decode()
        return (tmp_path / "typed").read_text().splitlines()

    return typed


def test_shells_complete_lines(type_into_shell):
    lines = [f"nasnet {typed}\t\n" for typed in COMPLETED]
    assert type_into_shell(*lines) == list(COMPLETED.values())


def test_the_line_of_each_command_is_shown_whole(nasnet_process):
    answer = nasnet_process(
        expect=0, _NASNET_COMPLETE="fish_complete", COMP_WORDS="nasnet ", COMP_CWORD=""
    )
    lines = [f"plain,{name}\t{text}" for name, text in COMMANDS.items()]
    assert answer.stdout.splitlines() == lines
