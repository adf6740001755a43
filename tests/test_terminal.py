"""A run on a real terminal: a progress bar that is gone in the end, colours, and a table."""

from __future__ import annotations

import re

import numpy as np
import pytest
from PIL import Image
from tqdm import tqdm

from nasnet_cli.cli.console import _COUNT, _SHARE
from support.cli import NASNET
from support.terminal import run_on_terminal

# tqdm draws each step, not only those that are far enough apart in time.
EVERY_STEP = {"TQDM_MININTERVAL": "0", "TQDM_MINITERS": "1"}


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    random = np.random.default_rng(4)
    for i in range(5):
        Image.fromarray(random.integers(0, 256, (40, 40, 3), np.uint8)).save(folder / f"{i}.png")
    return folder


def test_a_bar_counts_images_and_is_gone_in_the_end(images, tiny_module):
    command = [*NASNET, "classify", images, "-m", tiny_module]
    session = run_on_terminal(command, **EVERY_STEP)
    assert session.exit_code == 0
    assert session.stdout.count(b"\n") == 5
    counts = re.findall(rb"(\d)(?:/5 | [a-z]+) ?\[", session.terminal)
    assert counts[0] == b"0" and counts[-1] == b"5"
    assert re.search(rb"\d/s\]|s/", session.terminal)
    *_, summary, last = session.screen
    assert summary.startswith("5 ") and "5 classified" in summary and last == ""
    assert not any("[" in line for line in session.screen)


def test_rows_and_bar_share_a_terminal(images, tiny_module):
    command = [*NASNET, "classify", images, "-m", tiny_module, "--top", 1]
    session = run_on_terminal(command, stdout_too=True, **EVERY_STEP)
    assert session.exit_code == 0
    rows = [line for line in session.screen if ".png" in line and "class " in line]
    assert len(rows) == 5


def test_an_output_file_has_a_bar_too(images, tiny_module, tmp_path):
    command = [*NASNET, "embed", images, "-m", tiny_module, "-o", tmp_path / "v.npy"]
    session = run_on_terminal(command, **EVERY_STEP)
    assert (session.exit_code, session.stdout) == (0, b"")
    assert re.search(rb"5(/5 | [a-z]+) ?\[", session.terminal)


def test_a_line_takes_the_place_of_the_bar(images, tiny_module, tmp_path):
    (tmp_path / "broken.png").write_text("no image")
    paths = [images, tmp_path / "broken.png", images]
    command = [*NASNET, "classify", *paths, "-m", tiny_module, "-v"]
    session = run_on_terminal(command, **EVERY_STEP)
    assert session.exit_code == 3
    (line,) = (line for line in session.screen if "broken.png" in line)
    assert line.startswith(f"{tmp_path}/broken.png: ") and line.endswith("(UnidentifiedImageError)")


def test_a_bar_counts_errors(images, tiny_module, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"\x89PNG\r\n\x1a\n")
    command = [*NASNET, "classify", broken, images, "-m", tiny_module]
    session = run_on_terminal(command, **EVERY_STEP)
    assert session.exit_code == 3
    assert re.search(rb"\[.*, 1 error\]", session.terminal)


def test_results_that_cannot_be_counted_are_one_error(tmp_path):
    results = tmp_path / "labels.jsonl"
    results.write_text('{"path": "a.png", "status": "ok", "predictions": []}\n{"path": 3}\n')
    command = [*NASNET, "report", results, "-o", tmp_path / "page.html"]
    session = run_on_terminal(command)
    assert session.exit_code == 1
    assert b"Error: " in session.terminal and b"Traceback" not in session.terminal


def test_a_dumb_terminal_gets_lines_alone(images, tiny_module):
    command = [*NASNET, "classify", images, "-m", tiny_module]
    session = run_on_terminal(command, stdout_too=True, **EVERY_STEP, TERM="dumb")
    assert session.exit_code == 0
    assert b"\x1b" not in session.terminal and b"\r" not in session.terminal.replace(b"\r\n", b"")
    assert session.screen[-2].startswith("5 ") and "5 classified" in session.screen[-2]


def test_quiet_draws_nothing(images, tiny_module):
    command = [*NASNET, "classify", images, "-m", tiny_module, "--quiet"]
    session = run_on_terminal(command, **EVERY_STEP)
    assert (session.exit_code, session.terminal) == (0, b"")


def test_no_color_is_respected(images, tiny_module):
    command = [*NASNET, "classify", images, "-m", tiny_module]
    assert b"\x1b[2m" in run_on_terminal(command).terminal
    assert b"\x1b[2m" not in run_on_terminal(command, NO_COLOR="1").terminal


def test_help_is_as_wide_as_the_terminal():
    session = run_on_terminal([*NASNET, "classify", "--help"], stdout_too=True, COLUMNS="")
    assert session.exit_code == 0
    assert 90 < max(map(len, session.screen)) <= 98


def test_a_slow_rate_is_per_second_too():
    assert tqdm.format_meter(1, 10, 4, unit=" images", bar_format=_SHARE).endswith(
        "1/10 [00:04<00:36,  0.25 images/s]"
    )
    assert tqdm.format_meter(1, None, 4, unit=" images", bar_format=_COUNT, postfix="1 error") == (
        "1 images [00:04,  0.25 images/s, 1 error]"
    )
