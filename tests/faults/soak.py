"""A long run in one process: memory and open files must stay flat, and the rate must hold.

    make soak       or: python tests/faults/soak.py [--seconds N] [--model M]

Round after round, good and damaged images are classified by a model that is opened anew, and every
fifth round a job is cut short and resumed. Of the rounds after the first eighth, the last quarter's
memory and file handles must be within 5 % of the first quarter's, and its images per second of
processor time, which other programs hardly change, at least 0.8 of it. Exits with 1 otherwise.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from nasnet_cli import load_model
from nasnet_cli.images.listing import list_sources
from nasnet_cli.images.source import SkipCounter
from nasnet_cli.jobs.outputs import Target
from nasnet_cli.jobs.run import run_to_files
from nasnet_cli.jobs.spec import JobSpec, RunOptions
from support.killing import make_images

RESUME_EVERY = 5
GROWTH, RATE = 1.05, 0.8


@dataclass(frozen=True)
class Round:
    """Measures of one round: bytes of memory, open files, images a second of processor time."""

    memory: float
    files: int
    rate: float


def run_round(photos: Path, model: str | None, number: int) -> Round:
    """Classify all photos; in some rounds, resume a job that was cut short as well."""
    begin = time.process_time()
    images = sum(1 for _ in load_model(model).classify([photos]))
    rate = images / (time.process_time() - begin)
    if number % RESUME_EVERY == 0:
        resume(photos, model)
    return Round(resident_bytes(), len(os.listdir("/proc/self/fd")), rate)  # noqa: PTH208


class CutShortError(Exception):
    """The end of a job in its middle."""


def resume(photos: Path, model: str | None) -> None:
    """Cut a job short in its middle, and resume it."""
    spec = JobSpec(("labels",), model=model)
    sources = list(list_sources([str(photos)], skips=SkipCounter()))

    def half():
        yield from islice(sources, len(sources) // 2)
        raise CutShortError

    with tempfile.TemporaryDirectory(prefix="nasnet-soak-") as folder:
        targets = [Target("labels", "jsonl", Path(folder) / "a.jsonl")]
        with suppress(CutShortError):
            run_to_files(spec, spec.open_model(), half(), targets)
        options = RunOptions(resume=True)
        summary = run_to_files(spec, spec.open_model(), iter(sources), targets, options)
        assert summary.inputs == len(sources)


def resident_bytes() -> float:
    """Return the memory of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return float(pages * os.sysconf("SC_PAGE_SIZE"))


def drift(rounds: Sequence[Round]) -> list[str]:
    """Return what has grown or slowed from the first quarter to the last, in words."""
    kept = rounds[len(rounds) // 8 :]
    quarter = max(1, len(kept) // 4)
    found = []
    for name in ("memory", "files", "rate"):
        values = [getattr(one, name) for one in kept]
        first, last = (statistics.median(part) for part in (values[:quarter], values[-quarter:]))
        is_bad = last < RATE * first if name == "rate" else last > GROWTH * first
        print(f"{name}: {first:,.0f} in the first quarter, {last:,.0f} in the last")
        if is_bad:
            found.append(f"{name} went from {first:,.0f} to {last:,.0f}")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=3600.0)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--model", help="default: the built-in one")
    given = parser.parse_args()
    rounds: list[Round] = []
    end = time.monotonic() + given.seconds
    with tempfile.TemporaryDirectory(prefix="nasnet-soak-") as name:
        photos = Path(name) / "photos"
        make_images(photos, given.images)
        while time.monotonic() < end:
            rounds.append(run_round(photos, given.model, len(rounds)))
    print(f"{len(rounds)} rounds of {given.images:,} images in {given.seconds:,.0f} s")
    if found := drift(rounds):
        sys.exit("; ".join(found))


if __name__ == "__main__":
    main()
