"""A resume state may hold anything: that is one sentence, or the bytes of a run without it."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import chdir, closing, suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from nasnet_cli.images.listing import list_sources
from nasnet_cli.images.source import SkipCounter, Source
from nasnet_cli.jobs.outputs import Target
from nasnet_cli.jobs.run import run_to_files
from nasnet_cli.jobs.spec import JobSpec
from nasnet_cli.jobs.state_file import state_path
from nasnet_cli.jobs.state_rows import _checksum
from support.cli import Result
from support.killing import make_images

pytestmark = pytest.mark.usefixtures("models_opened_once")

ODD = st.sampled_from(
    [None, -1, 0, 2**31, 2**63 - 1, 1e308, "", "\0", "x" * 70_000, b"", b"\xff" * 11, bytes(4096)]
)
IDENTITIES = st.sampled_from(["", "[" * 100_000, "{}", "null", '{"model": 1}', "9" * 5000, b"\xff"])
COLUMNS = ("key", "path", "kind", "message", "labels", "vector")
KINDS = ("labels", "vectors")
COMMAND = ("classify", "photos", "-m", "module", "-o", "a.csv", "--embed", "a.npy")
# All that a run writes, beside its state.
OUTPUTS = ("a.csv", "a.npy", "a.jsonl")


@pytest.fixture(scope="module")
def place(
    nasnet: Callable[..., Result], tiny_module: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A folder with images, their results, and in cut.db the state of a run that was cut short."""
    folder = tmp_path_factory.mktemp("cut")
    make_images(folder / "photos", 60)
    (folder / "module").symlink_to(tiny_module)
    nasnet(*COMMAND, expect=3, cwd=folder)  # some are broken
    for name in OUTPUTS:
        (folder / name).rename(folder / f"whole-{name}")
    for path in folder.glob("a.*"):
        path.unlink()
    with chdir(folder), suppress(KeyboardInterrupt):
        spec = JobSpec(KINDS, model="module")
        targets = [
            Target("labels", "csv", Path("a.csv")),
            Target("vectors", "npy", Path("a.npy")),
        ]
        run_to_files(spec, spec.open_model(), most(), targets)
    state_path(folder / "a.csv").rename(folder / "cut.db")
    return folder


def most() -> Iterator[Source]:
    yield from list(list_sources(["photos"], skips=SkipCounter()))[:55]
    raise KeyboardInterrupt


def resumed(nasnet: Callable[..., Result], place: Path) -> bool:
    """Resume the run, and return whether it has ended as a whole one does."""
    try:
        done = nasnet(*COMMAND, "--resume", cwd=place)
        assert done.exit_code in (1, 3), done
        assert "Unexpected error" not in done.stderr, done
        return done.exit_code == 3
    finally:
        state_path(place / "a.csv").unlink(missing_ok=True)


def outputs(place: Path, start: str = "") -> list[bytes]:
    return [(place / f"{start}{name}").read_bytes() for name in OUTPUTS]


def remove_outputs(place: Path) -> None:
    for path in place.glob("a.*"):
        path.unlink()


def test_a_whole_state_is_resumed(nasnet: Callable[..., Result], place: Path) -> None:
    state_path(place / "a.csv").write_bytes((place / "cut.db").read_bytes())
    assert resumed(nasnet, place)
    assert outputs(place) == outputs(place, "whole-")
    remove_outputs(place)


@settings(max_examples=60, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_damaged_pages(nasnet: Callable[..., Result], place: Path, data: st.DataObject) -> None:
    damaged = bytearray((place / "cut.db").read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(damaged) - 1))
        length = data.draw(st.sampled_from([1, 2, 100, 4096]))
        damaged[start : start + length] = data.draw(st.binary(min_size=1, max_size=1)) * length
    end = data.draw(st.one_of(st.none(), st.integers(0, len(damaged))))
    state_path(place / "a.csv").write_bytes(damaged[:end])
    if resumed(nasnet, place):
        assert outputs(place) == outputs(place, "whole-")
    remove_outputs(place)


@settings(max_examples=60, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_forged_rows(nasnet: Callable[..., Result], place: Path, data: st.DataObject) -> None:
    state = state_path(place / "a.csv")
    state.write_bytes((place / "cut.db").read_bytes())
    number = data.draw(st.integers(1, 55))
    with closing(sqlite3.connect(state)) as database, database:
        query = f"SELECT {', '.join(COLUMNS)} FROM rows WHERE id = ?"
        values: list[Any] = list(database.execute(query, (number,)).fetchone())
        values[data.draw(st.integers(1, len(values) - 1))] = data.draw(ODD)
        checksum: Any = 0
        with suppress(TypeError, AttributeError):
            checksum = _checksum(*values)
        change = ", ".join(f"{name} = ?" for name in (*COLUMNS, "checksum"))
        database.execute(f"UPDATE rows SET {change} WHERE id = ?", (*values, checksum, number))
    resumed(nasnet, place)
    remove_outputs(place)


@settings(max_examples=40, suppress_health_check=list(HealthCheck))
@given(
    column=st.sampled_from(["job.version", "job.identity", "files.sha256", "rows.id"]),
    value=st.one_of(ODD, IDENTITIES),
)
@example(column="rows.id", value=(1 << 63) - 1)
def test_other_columns(
    nasnet: Callable[..., Result], place: Path, column: str, value: object
) -> None:
    state = state_path(place / "a.csv")
    state.write_bytes((place / "cut.db").read_bytes())
    table, name = column.split(".")
    with closing(sqlite3.connect(state)) as database, database, suppress(sqlite3.IntegrityError):
        if table == "files":
            database.execute("INSERT INTO files VALUES (?)", (value,))
        else:
            only = "rowid = (SELECT min(rowid) FROM " + table + ")"
            database.execute(f"UPDATE {table} SET {name} = ? WHERE {only}", (value,))
    if resumed(nasnet, place):
        assert outputs(place) == outputs(place, "whole-")
    remove_outputs(place)
