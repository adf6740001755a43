"""Runs that are interrupted, and go on: real processes, real kills."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from killing import EAGER, NASNET, contents, kill_when_grown, make_pictures, run


@pytest.fixture(scope="module", autouse=True)
def shared_cache(tmp_path_factory):
    """One cache for these tests, so that each model is compiled once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NASNET_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """A folder of 300 pictures, three of them broken."""
    folder = tmp_path_factory.mktemp("many")
    make_pictures(folder, 300)
    return folder


@pytest.fixture
def few(tmp_path):
    """A folder of 12 pictures that a test may change."""
    folder = tmp_path / "few"
    folder.mkdir()
    for i in range(12):
        draw(folder / f"{i:02d}.png", i)
    return folder


@pytest.fixture
def out(tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    return folder


def draw(path, seed):
    """A picture whose file has the same size whatever the seed."""
    pixels = np.random.default_rng(seed).integers(0, 256, (24, 24, 3), np.uint8)
    Image.fromarray(pixels).save(path, compress_level=0)


def interrupted(*arguments, names, sent=signal.SIGINT):
    """Runs the command on names, given one by one, and stops it when all are in its state."""
    process = subprocess.Popen(
        [*EAGER, *map(str, arguments), "-"],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    # What is decoded ahead waits for more to come; a broken name pushes each through.
    process.stdin.write("".join(f"{name}\n" for name in names))
    process.stdin.flush()
    time.sleep(float(os.environ.get("NASNET_TEST_PAUSE", "4")))
    process.send_signal(sent)
    _, stderr = process.communicate(timeout=60)
    return process.returncode, stderr


KILLED = [
    (("classify", "--top", "2"), "labels.jsonl", "vectors.npy"),
    (("classify", "--logits"), "labels.csv", "vectors.parquet"),
    (("classify",), "labels.parquet", "vectors.npz"),
]


@pytest.mark.parametrize(("command", "labels", "vectors"), KILLED)
def test_killed_runs_end_in_the_bytes_of_one_run(
    command, labels, vectors, many, tiny_module, tmp_path
):
    if "parquet" in labels + vectors:
        pytest.importorskip("pyarrow")
    clean, killed = tmp_path / "clean", tmp_path / "killed"
    clean.mkdir()
    killed.mkdir()

    def arguments(folder, *more):
        outs = ("-o", folder / labels, "--embed", folder / vectors)
        return (*command, many, "-m", tiny_module, *outs, *more)

    assert run(NASNET, *arguments(clean, "--workers", 1)).returncode == 3
    state = killed / f".{labels}.resume"
    kills = 0
    for _ in range(3):
        workers = random.randint(1, 4)
        by = random.randrange(8192, 60_000)
        again = arguments(killed, "--resume", "--workers", workers)
        kills += kill_when_grown(EAGER, *again, state=state, by=by)
    assert kills > 0
    assert run(EAGER, *arguments(killed, "--resume")).returncode == 3
    assert contents(killed) == contents(clean)


def rows_in(state: Path) -> int:
    database = sqlite3.connect(state)
    try:
        return database.execute("SELECT count(*) FROM rows").fetchone()[0]
    finally:
        database.close()
