"""Repeat the tests that the scheduler could upset: each round must pass, alone and beside load.

    make rounds        or: python tests/faults/rounds.py [--rounds N] [--load N] PYTEST …

A round runs the test files that use threads, processes, signals or clocks with the command PYTEST;
--load runs so many busy loops beside them. Exits with 1 if a round failed.
"""

from __future__ import annotations

import argparse
import multiprocessing
import re
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).parents[1]
USES = re.compile(
    r"threading|multiprocessing|Popen|\bsignal\b|nasnet_process|monotonic|time\.time"
    r"|os\.(fork|kill|pipe)"
    r"|support\.(killed_moves|killing|loopback|shards|terminal|waiting|\w+_(server|store))"
)


def chosen_files() -> list[str]:
    """Return the test files whose outcome could depend on the scheduler."""
    return [str(path) for path in sorted(TESTS.glob("test_*.py")) if USES.search(path.read_text())]


def spin() -> None:
    """Keep one core busy until the parent has ended, however it did."""
    parent = multiprocessing.parent_process()
    while parent and parent.is_alive():
        pass


def main() -> int:
    """Run the rounds, print the last line of each and all of one that failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--load", type=int, default=0)
    parser.add_argument("pytest", nargs=argparse.REMAINDER)
    arguments = parser.parse_args()
    files = chosen_files()
    print(f"{len(files)} files, {arguments.load} busy loops beside them", flush=True)
    for _ in range(arguments.load):
        multiprocessing.Process(target=spin, daemon=True).start()
    failed = 0
    for number in range(1, arguments.rounds + 1):
        command = [*arguments.pytest, *files]
        done = subprocess.run(command, cwd=TESTS.parent, capture_output=True, text=True)
        last = done.stdout.rstrip().rpartition("\n")[2]
        print(f"round {number}: {last}", flush=True)
        if done.returncode:
            failed += 1
            print(done.stdout, done.stderr, flush=True)
    print(f"{arguments.rounds - failed} of {arguments.rounds} rounds passed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
