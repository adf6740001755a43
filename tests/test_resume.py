"""Interrupted runs that are resumed: real processes, real kills."""

from __future__ import annotations

import contextlib
import json
import math
import os
import random
import re
import signal
import sqlite3
import subprocess
import sys
import tarfile
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nasnet_cli.errors import NasnetError, OutputError
from nasnet_cli.jobs.rows import Row
from nasnet_cli.jobs.state import open_state
from nasnet_cli.jobs.state_file import state_path
from support.cli import WATCHDOG
from support.killing import EAGER, KILL, contents, eager, make_images, run
from support.waiting import wait_until


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """A folder of 300 images, three of them broken."""
    folder = tmp_path_factory.mktemp("many")
    make_images(folder, 300)
    return folder


@pytest.fixture
def few(tmp_path):
    """A folder of 12 images that a test may change."""
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
    """Write an image whose file has the same size for every seed."""
    pixels = np.random.default_rng(seed).integers(0, 256, (24, 24, 3), np.uint8)
    Image.fromarray(pixels).save(path, compress_level=0)


class Started:
    """A run over a list of paths on standard input, of which the first are finished.

    more() gives it the rest, and its status and standard error.
    """

    def __init__(self, *arguments, names, **settings):
        self.process = subprocess.Popen(
            [*EAGER, *map(str, arguments), "-", "-v", "--workers", "1"],
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **settings,
        )
        # A name without a file has a row with an error, which -v shows: what is before it is done.
        # What comes after it pushes it through what is under way: about a hundred.
        self.give([*names, "marker.png", *[names[0]] * 160])
        for line in self.process.stderr:
            if line.startswith("marker.png"):
                return
        raise AssertionError("the run has ended")

    def give(self, names):
        self.process.stdin.write("".join(f"{name}\n" for name in names))
        self.process.stdin.flush()

    def more(self, *names):
        with contextlib.suppress(BrokenPipeError):
            self.give(names)
        _, stderr = self.process.communicate(timeout=WATCHDOG)
        assert "Traceback" not in stderr
        return self.process.returncode, stderr

    def stop(self, sent):
        self.process.send_signal(sent)
        return self.more()


def lines(path):
    """Return the lines of a result file by the names of the images."""
    found = {}
    for line in path.read_text().splitlines():
        found[Path(json.loads(line)["path"]).name] = line
    return found


def state_of(path):
    return path.with_name(f".{path.name}.resume")


KILLED = [
    (("classify", "--top", "2"), "labels.jsonl", "vectors.npy"),
    (("classify", "--logits"), "labels.csv", "vectors.parquet"),
    (("classify",), "labels.parquet", "vectors.npz"),
]


@pytest.mark.parametrize(("command", "labels", "vectors"), KILLED)
def test_killed_and_resumed_runs_write_the_same_bytes(
    nasnet, command, labels, vectors, many, tiny_module, label_file, tmp_path
):
    if "parquet" in labels + vectors:
        pytest.importorskip("pyarrow")
    clean, killed = tmp_path / "clean", tmp_path / "killed"
    clean.mkdir()
    killed.mkdir()

    def arguments(folder, *more):
        outs = ("-o", folder / labels, "--embed", folder / vectors)
        labelled = ("--labels", label_file, "--sure", 0.3)
        return (*command, many, "-m", tiny_module, *labelled, *outs, *more)

    assert nasnet(*arguments(clean, "--workers", 1)).exit_code == 3
    for _ in range(2):
        again = arguments(killed, "--resume", "--workers", random.randint(1, 4))
        done = run(eager(random.randrange(20, 140), KILL), *again)
        assert done.returncode == -signal.SIGKILL, done
    assert nasnet(*arguments(killed, "--resume")).exit_code == 3
    assert contents(killed) == contents(clean)


@pytest.mark.parametrize(("sent", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_resume_keeps_finished_rows_and_redoes_changed_images(
    sent, status, nasnet, few, tiny_module, out
):
    """An image gets other pixels but keeps its size and time: its row must stay."""
    labels = out / "labels.jsonl"
    arguments = ("classify", "-m", tiny_module, "-o", labels)
    names = sorted(few.iterdir())
    kept, changed, deleted = names[2:5]
    code, stderr = Started(*arguments, names=names).stop(sent)
    assert code == status
    assert "Continue with --resume" in stderr
    assert not labels.exists() and state_of(labels).exists()

    times = kept.stat()
    draw(kept, 100)
    os.utime(kept, ns=(times.st_atime_ns, times.st_mtime_ns))
    draw(changed, 101)
    os.utime(changed, ns=(times.st_atime_ns, times.st_mtime_ns + 10**9))
    deleted.unlink()
    draw(few / "00a.png", 102)
    assert nasnet(*arguments, few, "--resume").exit_code == 0
    assert not state_of(labels).exists()

    found = lines(labels)
    nasnet("classify", few, "-m", tiny_module, "-o", out / "now.jsonl")
    now = lines(out / "now.jsonl")
    assert list(found) == list(now) and deleted.name not in found
    assert found.pop(kept.name) != now.pop(kept.name)
    assert found == now


def test_check_content_detects_changes_behind_size_and_time(nasnet, few, tiny_module, out):
    arguments = ("classify", "-m", tiny_module, "-o", out / "a.jsonl", "--check", "content")
    names = sorted(few.iterdir())
    Started(*arguments, names=names).stop(signal.SIGINT)
    times = names[2].stat()
    draw(names[2], 100)
    os.utime(names[2], ns=(times.st_atime_ns, times.st_mtime_ns))
    assert nasnet(*arguments, few, "--resume").exit_code == 0
    nasnet("classify", few, "-m", tiny_module, "-o", out / "now.jsonl")
    assert (out / "a.jsonl").read_bytes() == (out / "now.jsonl").read_bytes()


def test_resume_refuses_other_options_and_names_them(nasnet, few, tiny_module, out):
    labels = out / "labels.csv"
    arguments = ("classify", few, "-m", tiny_module, "-o", labels)
    Started("classify", "-m", tiny_module, "-o", labels, names=sorted(few.iterdir())).stop(
        signal.SIGKILL
    )

    def refused(*more):
        done = nasnet(*arguments, "--resume", *more)
        assert done.exit_code == 1 and not labels.exists()
        return done.stderr

    assert "labels.csv was started with --top 5; this run has --top 3." in refused("--top", "3")
    assert "--resize stretch; this run has --resize pad" in refused("--resize", "pad")
    assert "--check stat; this run has --check content" in refused("--check", "content")
    with sqlite3.connect(state_of(labels)) as database:
        (text,) = database.execute("SELECT identity FROM job").fetchone()
        other = json.loads(text)
        other["tool"]["version"] = "0.0.1"
        other["runtime"]["instruction_set"] = "sse"
        database.execute("UPDATE job SET identity = ?", (json.dumps(other),))
    database.close()
    stderr = refused()
    assert "was started with nasnet 0.0.1, instruction set sse; this run has nasnet" in stderr


def test_resume_starts_a_new_run_and_accepts_a_complete_one(nasnet, few, tiny_module, out):
    labels = out / "labels.json"
    (few / "broken.png").write_bytes(b"broken")
    arguments = ("classify", few, "-m", tiny_module, "-o", labels, "--resume")
    first = nasnet(*arguments)
    assert first.exit_code == 3
    before = labels.stat()
    again = nasnet(*arguments)
    after = labels.stat()
    assert again.exit_code == 3
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert "already complete" in again.stderr
    other = nasnet(*arguments, "--top", 2)
    assert other.exit_code == 1 and "--top 5; this run has --top 2" in other.stderr
    Path(f"{labels}.meta.json").write_text("{}")
    unknown = nasnet(*arguments)
    assert unknown.exit_code == 1 and "has changed since nasnet wrote it" in unknown.stderr


def test_unfinished_run_is_refused_without_resume_and_starts_over_with_overwrite(
    nasnet, few, tiny_module, out
):
    labels = out / "labels.jsonl"
    arguments = ("classify", "-m", tiny_module, "-o", labels)
    Started(*arguments, names=sorted(few.iterdir())).stop(signal.SIGKILL)
    kept = state_of(labels).read_bytes()
    refused = nasnet(*arguments, few)
    assert refused.exit_code == 1
    assert re.search(r"unfinished run of .*labels\.jsonl has \d+ finished rows?", refused.stderr)
    assert "--resume" in refused.stderr and "--overwrite" in refused.stderr
    assert state_of(labels).read_bytes() == kept
    done = nasnet(*arguments, few, "--top", 1, "--overwrite")
    assert done.exit_code == 0
    assert "starts over" in done.stderr
    assert len(lines(labels)) == 12
    assert not state_of(labels).exists()


def test_second_run_with_the_same_output_is_refused(nasnet, few, tiny_module, out):
    labels = out / "labels.jsonl"
    arguments = ("classify", "-m", tiny_module, "-o", labels)
    first = Started(*arguments, names=sorted(few.iterdir()))
    for more in ((), ("--resume",), ("--overwrite",)):
        second = nasnet(*arguments, few, *more)
        assert second.exit_code == 1
        assert f"Another run is writing {labels}" in second.stderr
    assert first.more()[0] == 3
    assert len(lines(labels)) == 13


# Ends the process with SIGKILL where the patch says.
DYING = (
    "import os, signal\n"
    "from nasnet_cli.jobs import state\n"
    "from nasnet_cli.results import atomic\n"
    "def die(*_): os.kill(os.getpid(), signal.SIGKILL)\n"
    "{patch}\n"
    "from nasnet_cli.cli.main import run\n"
    "run()\n"
)


# After so many of the five files have taken their names.
DYING_AFTER = (
    "publish, count = atomic._Replacement.publish, []\n"
    "def publish_and_die(file):\n"
    "    publish(file)\n"
    "    count.append(file)\n"
    "    if len(count) == {after}: die()\n"
    "atomic._Replacement.publish = publish_and_die"
)


@pytest.mark.parametrize(
    "patch",
    [
        "state.State.remove = die",
        "atomic._Replacement.publish = die",
        *(DYING_AFTER.format(after=number) for number in (1, 2, 4)),
    ],
)
def test_kill_during_publishing_is_resumed(patch, nasnet, few, tiny_module, tmp_path):
    folders = [tmp_path / "clean", tmp_path / "killed"]
    for folder in folders:
        folder.mkdir()
    names = ("labels.jsonl", "vectors.npy")

    def arguments(folder, *more):
        outs = ("-o", folder / names[0], "--embed", folder / names[1])
        return ("classify", few, "-m", tiny_module, *outs, *more)

    nasnet(*arguments(folders[0]))
    dying = [sys.executable, "-c", DYING.format(patch=patch)]
    assert run(dying, *arguments(folders[1])).returncode == -signal.SIGKILL
    assert nasnet(*arguments(folders[1], "--resume")).exit_code == 0
    assert contents(folders[1]) == contents(folders[0])


def test_archive_members_with_one_name_keep_their_own_rows(nasnet, few, tiny_module, tmp_path, out):
    archive = tmp_path / "twice.tar"
    with tarfile.open(archive, "w") as tar:
        for path in sorted(few.iterdir()):
            tar.add(path, "same.png")
    arguments = ("classify", archive, "-m", tiny_module)
    whole = nasnet(*arguments).stdout
    assert len(set(whole.splitlines())) == 12
    dying = [sys.executable, "-c", DYING.format(patch="state.State.remove = die")]
    run(dying, *arguments, "-o", out / "a.jsonl")
    assert nasnet(*arguments, "-o", out / "a.jsonl", "--resume").exit_code == 0
    assert (out / "a.jsonl").read_text() == whole


def test_rows_are_committed_without_further_rows(tmp_path):
    target = tmp_path / "out.jsonl"
    rows = [Row(f"{i}.png", None, bytes([i]) * 100) for i in range(3)]

    def on_disk():
        there = sqlite3.connect(f"file:{state_path(target)}?mode=ro&nolock=1", uri=True)
        with contextlib.closing(there):
            try:
                return there.execute("SELECT count(*) FROM rows").fetchone()[0]
            except sqlite3.OperationalError:  # no table yet
                return 0

    with open_state(target, dict, resume=False, note=print) as state:
        state._committed = math.inf  # so that no commit is due
        for position, row in enumerate(rows):
            state.add(position, bytes([position]) * 16, row)
        assert on_disk() == 0
        state._committed = -math.inf
        wait_until(lambda: on_disk() == 3)
    for thread in threading.enumerate():
        if thread.name == "commit":
            thread.join(WATCHDOG)
            assert not thread.is_alive()


def test_full_disk_between_rows_is_the_error_of_the_next_row(tmp_path):
    with open_state(tmp_path / "out.jsonl", dict, resume=False, note=print) as state:
        state._committed = math.inf  # so that no commit is due
        state.add(0, bytes(16), Row("a.png", None, bytes(100_000)))
        with state._lock:  # as full as it gets: SQLite then drops what was not committed
            (pages,) = state._database.execute("PRAGMA page_count").fetchone()
            state._database.execute(f"PRAGMA max_page_count = {pages}")
            state._committed = -math.inf
        wait_until(lambda: state._failure)
        state._committed = math.inf
        for attempt in (state.commit, lambda: list(state.rows()), state.changes):
            with pytest.raises(OutputError, match="no space left on the disk"):
                attempt()
        state._committed = -math.inf
        with pytest.raises(OutputError, match="no space left on the disk"):
            state.add(1, bytes(16), Row("b.png", None))


@pytest.mark.parametrize("failing", ["SAVEPOINT", "INTO rows", "INTO sequence", "RELEASE"])
def test_interrupted_insert_is_repeated_at_the_next_commit(tmp_path, failing):
    class Interrupted(sqlite3.Connection):
        """A database that is interrupted once, right after a statement of that kind."""

        left = 1

        def execute(self, sql, *arguments):
            return self._interrupted(sql, super().execute(sql, *arguments))

        def executemany(self, sql, arguments):
            return self._interrupted(sql, super().executemany(sql, arguments))

        def _interrupted(self, sql, done):
            if failing in sql and self.left:
                self.left = 0
                raise KeyboardInterrupt
            return done

    target = tmp_path / "out.jsonl"
    rows = [Row(f"{i}.png", None, bytes([i]) * 100) for i in range(100)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sqlite3, "connect", lambda *a, **how: Interrupted(*a, **how))
        with (
            pytest.raises(KeyboardInterrupt),
            open_state(target, dict, resume=False, note=print) as state,
        ):
            for position, row in enumerate(rows):
                state.add(position, bytes([position]) * 16, row)
    with open_state(target, dict, resume=True, note=print) as state:
        found = [state.take(i, bytes([i]) * 16, f"{i}.png") for i in range(100)]
    assert found == [*rows[:64], *[None] * 36]


def test_missing_row_is_an_error(tmp_path):
    with open_state(tmp_path / "out.jsonl", dict, resume=False, note=print) as state:
        for position in (0, 1, 3):
            state.add(position, bytes([position]) * 16, Row(f"{position}.png", None))
        with pytest.raises(NasnetError, match="damaged"):
            list(state.rows())


@pytest.fixture
def kept_state(tmp_path):
    """The state of an unfinished output, and the rows in it by their keys."""
    target = tmp_path / "out.jsonl"
    rows = {bytes([i]) * 16: Row(f"{i}.png", None, bytes([i]) * 100) for i in range(40)}
    with open_state(target, lambda: {"tool": {}}, resume=True, note=print) as state:
        for position, (key, row) in enumerate(rows.items()):
            state.add(position, key, row)
    return target, rows


def test_damaged_state_never_returns_a_wrong_row(kept_state):
    target, rows = kept_state
    path = state_path(target)
    good = path.read_bytes()
    refused = missing = 0
    numbers = random.Random(3)
    for _ in range(300):
        damaged = bytearray(good)
        for _ in range(numbers.choice([1, 20])):
            damaged[numbers.randrange(len(good))] ^= 1 << numbers.randrange(8)
        path.write_bytes(damaged[: len(good) if numbers.random() < 0.8 else 9000])
        try:
            with open_state(target, lambda: {"tool": {}}, resume=True, note=print) as state:
                for position, (key, row) in enumerate(rows.items()):
                    found = state.take(position, key, rows[key].path)
                    missing += found is None
                    if found is None:
                        state.add(position, key, row)
                    else:
                        assert found == row
                assert list(state.rows()) == list(rows.values())
        except NasnetError as error:
            assert "damaged" in error.problem or "was started with" in error.problem, error
            refused += 1
    assert refused and missing


def test_state_that_is_not_a_database_can_start_over(kept_state):
    target, _ = kept_state
    state_path(target).write_bytes(b"no database at all" * 100)
    damaged = pytest.raises(NasnetError, match=r"damaged.*Start over: --overwrite")
    with damaged, open_state(target, lambda: {"tool": {}}, resume=True, note=print):
        pass
    identity = {"tool": {}}
    with open_state(target, lambda: identity, resume=False, overwrite=True, note=print) as state:
        assert state.is_empty
