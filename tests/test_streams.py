"""Processes with standard streams that are closed, full or left, and without a home or a folder."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from support.cli import NASNET, WATCHDOG
from support.disks import run_or_skip

CLOSED = "Error: Standard output is closed, and there is something to write to it. Redirect it to"
FULL = "Error: Cannot write standard output: there is no space left on the disk. Free some, or"


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    path = tmp_path_factory.mktemp("images") / "a.png"
    Image.new("RGB", (40, 40), "teal").save(path)
    return path


def shell(command, *arguments, cwd=None):
    """Run a line of the shell in which "$@" is nasnet with arguments."""
    return subprocess.run(
        ["sh", "-c", command, "sh", *NASNET, *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=cwd,
        timeout=WATCHDOG,
        check=False,
    )


@pytest.mark.parametrize(
    ("redirections", "status", "words"),
    [(">&-", 1, CLOSED), ("> /dev/full", 1, FULL), ("2>&-", 0, ""), ("2> /dev/full", 0, "")],
)
def test_results_for_a_stream_that_cannot_be_written(
    image, tiny_module, redirections, status, words
):
    done = shell(f'"$@" {redirections}', "classify", image, "-m", tiny_module)
    assert done.returncode == status
    assert len(done.stdout.splitlines()) == (status == 0)
    assert done.stderr.startswith(words) and done.stderr.count("\n") == bool(words)


@pytest.mark.parametrize("redirections", [">&- <&-", "<&- >&- 2>&-", "> /dev/full 2> /dev/full"])
def test_results_for_a_file_need_no_stream(image, tiny_module, tmp_path, redirections):
    out = tmp_path / "out.jsonl"
    done = shell(f'"$@" {redirections}', "classify", image, "-m", tiny_module, "-o", out)
    assert done.returncode == 0
    (row,) = map(json.loads, out.read_text().splitlines())
    assert (row["path"], row["status"]) == (str(image), "ok")


@pytest.mark.parametrize("arguments", [("--help",), ("inspect", "--json")])
@pytest.mark.parametrize(("redirection", "words"), [(">&-", CLOSED), ("> /dev/full", FULL)])
def test_other_output_that_cannot_be_written(arguments, redirection, words):
    done = shell(f'"$@" {redirection}', *arguments)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(words) and done.stderr.count("\n") == 1


def test_a_closed_input_has_no_paths(tiny_module):
    done = shell('"$@" <&-', "classify", "-", "-m", tiny_module)
    assert done.returncode == 1
    assert "There are no images in the list on standard input." in done.stderr


def test_usage_is_told_where_notes_cannot_be_written():
    assert shell('"$@" 2> /dev/full', "classify", "--no-such-option").returncode == 2


@pytest.mark.parametrize("arguments", ["--help", "--version", "classify --help", "classify IMAGE"])
def test_a_reader_that_has_gone_ends_the_run_with_141(image, tiny_module, arguments):
    command = [*NASNET, *arguments.replace("IMAGE", f"{image} -m {tiny_module}").split()]
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, timeout=WATCHDOG)
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, b"")


def test_a_working_folder_that_was_removed(image, tiny_module, tmp_path):
    gone = tmp_path / "gone"
    gone.mkdir()
    line = f'rmdir {shlex.quote(str(gone))}; "$@"'
    done = shell(line, "classify", image, "-m", tiny_module, cwd=gone)
    assert done.returncode == 0 and json.loads(done.stdout)["status"] == "ok"
    for arguments, words in (
        (("-o", "out.jsonl", image), "The current folder has been removed."),
        ((), "The current folder has been removed."),
    ):
        gone.mkdir()
        done = shell(line, "classify", "-m", tiny_module, *arguments, cwd=gone)
        assert done.returncode == 1
        (sentence,) = (line for line in done.stderr.splitlines() if line.startswith("Error: "))
        assert words in sentence


def test_a_user_without_a_home(image, tiny_module, monkeypatch):
    """Neither HOME nor an entry in the list of users, as in many containers."""
    user = ["unshare", "--user", "--map-user=54321"]
    run_or_skip(*user, "true")
    for name in ("HOME", "NASNET_CACHE_DIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        command = [*user, *NASNET, *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    done = run("classify", image, "-m", tiny_module)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["status"] == "ok"
    done = run("models", "get", "imagenet-mobile")
    assert done.returncode == 1 and "NASNET_CACHE_DIR" in done.stderr
    assert done.stderr.count("\n") == 1
    assert not Path(os.devnull, "nasnet").exists()


def test_a_message_is_printed_while_a_library_loads():
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import os, sys; from nasnet_cli.cli import streams; streams.restore()\n"
            "from nasnet_cli.quiet import silence, silence_errors\n"
            "with silence_errors():\n"
            "    os.write(2, b'chatter')\n"
            "    print('Error: ä', file=sys.stderr)\n"
            "with silence():\n"
            "    print('chatter', file=sys.stderr)\n"
            "    print('chatter')\n",
        ],
        capture_output=True,
        timeout=WATCHDOG,
        check=True,
    )
    assert (done.stderr.decode(), done.stdout) == ("Error: ä\n", b"")
