"""Repeat the tests that the scheduler could upset: each round must pass, alone and beside load.

    make rounds        or: python tests/faults/rounds.py [--rounds N] [--load N]

A round runs the test files that use threads, processes, signals or clocks, without their slow
tests, two at a time as make test does; --load runs so many busy loops beside them. Exits with 1
if a round failed.
"""

from __future__ import annotations

import argparse
import multiprocessing
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

TESTS = Path(__file__).parents[1]
USES = re.compile(
    r"threading|multiprocessing|Popen|\bsignal\b|nasnet_process|monotonic|time\.time"
    r"|os\.(fork|kill|pipe)"
    r"|support\.(killed_moves|killing|loopback|shards|terminal|waiting|\w+_(server|store))"
)
PYTEST = (
    *(sys.executable, "-m", "pytest", "-n", "2", "--dist", "loadfile", "--no-loadscope-reorder"),
    *("--max-worker-restart", "0", "-m", "not slow", "-o", "addopts=--strict-markers -q"),
)


def chosen_files() -> list[str]:
    """Return the test files whose outcome could depend on the scheduler."""
    return [str(path) for path in sorted(TESTS.glob("test_*.py")) if USES.search(path.read_text())]


def spin() -> None:
    """Keep one core busy until the process is killed."""
    while True:
        pass


@contextmanager
def busy_loops(count: int) -> Iterator[None]:
    """Run so many busy loops beside a block."""
    loops = [multiprocessing.Process(target=spin, daemon=True) for _ in range(count)]
    for loop in loops:
        loop.start()
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()


def main() -> int:
    """Run the rounds, print the last line of each and all of one that failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--load", type=int, default=0)
    arguments = parser.parse_args()
    files = chosen_files()
    print(f"{len(files)} files, {arguments.load} busy loops beside them", flush=True)
    failed = 0
    with busy_loops(arguments.load):
        for number in range(1, arguments.rounds + 1):
            began = time.monotonic()
            done = subprocess.run(
                [*PYTEST, *files], cwd=TESTS.parent, capture_output=True, text=True
            )
            last = done.stdout.rstrip().rpartition("\n")[2]
            print(f"round {number}: {last} ({time.monotonic() - began:.0f} s)", flush=True)
            if done.returncode:
                failed += 1
                print(done.stdout, done.stderr, flush=True)
    print(f"{arguments.rounds - failed} of {arguments.rounds} rounds passed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
