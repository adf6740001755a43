"""Whose output it is: --resume replaces nothing but its own, and opens no other state."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nasnet_cli.jobs.state_file import state_path
from support.cli import WATCHDOG
from support.killing import KILL, contents, eager, run

pytestmark = pytest.mark.usefixtures("models_opened_once")

# A run that is killed after so many rows, which are on disk.
KILLED = eager(4, f"state._COMMIT_SECONDS = 0.0; add(*arguments); {KILL}")


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """A folder photos/ of 6 images; results go to the folder out/, the current one."""
    (tmp_path / "photos").mkdir()
    (tmp_path / "out").mkdir()
    for seed in range(6):
        pixels = np.random.default_rng(seed).integers(0, 256, (24, 24, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / "photos" / f"{seed}.png")
    monkeypatch.chdir(tmp_path / "out")
    return tmp_path / "photos"


def kill(*arguments: object) -> None:
    """Start a run that is killed with some rows on disk."""
    done = run(KILLED, *arguments, timeout=WATCHDOG)
    assert done.returncode == -signal.SIGKILL, done


def test_other_jobs_output_is_not_replaced(photos, tiny_module, nasnet):
    nasnet("classify", photos, "-m", tiny_module, "--out", "p.jsonl", expect=0)
    before = contents(Path())
    embed = ("embed", photos, "-m", tiny_module, "--out", "p.npy")
    refused = nasnet(*embed, "--resume", expect=1)
    assert "p.jsonl is not the output of this job" in refused.stderr
    assert contents(Path()) == before
    nasnet(*embed, "--resume", "--out", "q.npy", expect=0)
    Path("q.jsonl").write_bytes(before["p.jsonl"])
    assert "q.jsonl has changed" in nasnet(*embed, "--out", "q.npy", "--resume", expect=1).stderr
    assert Path("q.jsonl").read_bytes() == before["p.jsonl"]


def test_other_jobs_output_is_not_replaced_by_an_unfinished_run(photos, tiny_module, nasnet):
    embed = ("embed", photos, "-m", tiny_module, "--out", "p.npy")
    kill(*embed)
    nasnet("classify", photos, "-m", tiny_module, "--out", "p.jsonl", expect=0)
    before = Path("p.jsonl").read_bytes()
    refused = nasnet(*embed, "--resume", expect=1)
    assert "p.jsonl is not the output of this job" in refused.stderr
    assert Path("p.jsonl").read_bytes() == before and not Path("p.npy").exists()
    nasnet(*embed, "--resume", "--overwrite", expect=0)
    assert '"row": 5' in Path("p.jsonl").read_text()
    assert not state_path(Path("p.npy")).exists()


@pytest.mark.parametrize(
    "text",
    [
        "my notes",
        "{}",
        '{"tool": {"name": "other"}, "summary": {"inputs": 1}}',
        "[" * 100_000,
    ],
)
def test_file_of_another_program_is_not_replaced(text, photos, tiny_module, nasnet):
    Path("l.jsonl").write_text("mine")
    Path("l.jsonl.meta.json").write_text(text)
    before = contents(Path())
    refused = nasnet("classify", photos, "-m", tiny_module, "-o", "l.jsonl", "--resume", expect=1)
    assert "l.jsonl does not say how it was made" in refused.stderr
    assert "--overwrite" in refused.stderr
    assert contents(Path()) == before


def test_matches_of_similar_are_not_replaced(photos, tiny_module, nasnet):
    """Its description is like that of labels, with the same --top."""
    nasnet("embed", photos, "-m", tiny_module, "--out", "v.npy", expect=0)
    query = ("similar", photos, "--index", "v.npy", "-m", tiny_module, "--top", 5)
    nasnet(*query, "--out", "l.jsonl", expect=0)
    before = contents(Path())
    refused = nasnet("classify", photos, "-m", tiny_module, "-o", "l.jsonl", "--resume", expect=1)
    assert "l.jsonl was started with" in refused.stderr and "--index" in refused.stderr
    assert contents(Path()) == before


def test_record_of_another_program_is_not_replaced(photos, tiny_module, nasnet):
    Path("l.jsonl.inputs").write_text("mine")
    for more in ((), ("--resume",), ("--overwrite",)):
        refused = nasnet("classify", photos, "-m", tiny_module, "-o", "l.jsonl", *more, expect=1)
        assert "l.jsonl.inputs is not a file of nasnet" in refused.stderr
    assert contents(Path()) == {"l.jsonl.inputs": b"mine"}


def test_edited_output_is_refused(photos, tiny_module, nasnet):
    arguments = ("classify", photos, "-m", tiny_module, "-o", "l.csv")
    nasnet(*arguments, expect=0)
    Path("l.csv").write_text(Path("l.csv").read_text().replace("class", "my class"))
    before = contents(Path())
    refused = nasnet(*arguments, "--resume", expect=1)
    assert "l.csv has changed since nasnet wrote it" in refused.stderr
    assert contents(Path()) == before
    nasnet(*arguments, "--overwrite", expect=0)
    assert "already complete" in nasnet(*arguments, "--resume", expect=0).stderr


def test_output_that_is_overwritten_can_be_resumed(photos, tiny_module, nasnet):
    arguments = ("classify", photos, "-m", tiny_module, "-o", "l.csv")
    nasnet(*arguments, "--top", 1, expect=0)
    kill(*arguments, "--overwrite")
    nasnet(*arguments, "--resume", expect=0)
    resumed = contents(Path())
    nasnet(*arguments, "--overwrite", expect=0)
    assert contents(Path()) == resumed


def test_result_that_is_gone_is_made_anew(photos, tiny_module, nasnet):
    arguments = ("embed", photos, "-m", tiny_module, "-o", "v.npy")
    nasnet(*arguments, expect=0)
    before = contents(Path())
    Path("v.npy").unlink()
    assert "v.npy is missing" in nasnet(*arguments, "--resume", expect=0).stderr
    assert contents(Path()) == before
    Path("v.npy").unlink()
    Path("v.jsonl").unlink()
    nasnet(*arguments, expect=0)
    assert contents(Path()) == before


HOSTILE = [
    "CREATE TRIGGER t AFTER INSERT ON rows BEGIN DELETE FROM rows; END",
    "CREATE VIEW v AS SELECT 1",
    "ALTER TABLE rows ADD COLUMN more TEXT",
    "DROP TABLE files; CREATE VIEW files AS SELECT '0' AS sha256",
    "CREATE TABLE other (a)",
    "DROP INDEX rows_by_key",
]


@pytest.mark.parametrize("statements", HOSTILE)
def test_state_with_other_tables_is_refused(statements, photos, tiny_module, nasnet):
    arguments = ("classify", photos, "-m", tiny_module, "-o", "l.csv")
    kill(*arguments)
    with closing(sqlite3.connect(state_path(Path("l.csv")))) as database:
        database.executescript(statements)
    before = contents(Path())
    refused = nasnet(*arguments, "--resume", expect=1)
    assert "The resume state of l.csv is damaged" in refused.stderr
    assert "--overwrite" in refused.stderr
    assert contents(Path()) == before
    nasnet(*arguments, "--overwrite", expect=0)


@pytest.mark.parametrize("suffix", ["", "-journal"])
@pytest.mark.parametrize("kind", ["link", "dangling", "pipe", "folder"])
def test_state_that_is_not_a_file_is_refused(kind, suffix, photos, tiny_module, nasnet, tmp_path):
    state = state_path(Path("l.csv"))
    planted, victim = state.with_name(state.name + suffix), tmp_path / "victim"
    if kind == "link":
        victim.write_bytes(b"precious")
        planted.symlink_to(victim)
    elif kind == "dangling":
        planted.symlink_to(victim)
    elif kind == "pipe":
        os.mkfifo(planted)
    else:
        planted.mkdir()
    for more in ((), ("--resume",)):
        refused = nasnet("classify", photos, "-m", tiny_module, "-o", "l.csv", *more, expect=1)
        assert "The resume state of l.csv is damaged" in refused.stderr
    assert not Path("l.csv").exists()
    if kind != "folder":
        nasnet("classify", photos, "-m", tiny_module, "-o", "l.csv", "--overwrite", expect=0)
    assert victim.exists() == (kind == "link")
    assert kind != "link" or victim.read_bytes() == b"precious"


@pytest.mark.parametrize("identity", ["[" * 100_000, "1", "{", '{"tool": 3}', "null"])
def test_state_with_another_identity_is_damaged(identity, photos, tiny_module, nasnet):
    arguments = ("classify", photos, "-m", tiny_module, "-o", "l.csv")
    kill(*arguments)
    with closing(sqlite3.connect(state_path(Path("l.csv")))) as database, database:
        database.execute("UPDATE job SET identity = ?", (identity,))
    assert "is damaged" in nasnet(*arguments, "--resume", expect=1).stderr


def test_description_says_what_was_done(photos, tiny_module, nasnet):
    """The identity in a state has more than OUT.meta.json shows."""
    nasnet("classify", photos, "-m", tiny_module, "-o", "l.csv", expect=0)
    meta = json.loads(Path("l.csv.meta.json").read_text())
    assert list(meta) == ["tool", "runtime", "model", "preprocessing", "options", "summary"]
