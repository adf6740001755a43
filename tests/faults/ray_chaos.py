"""Kills a Ray job's workers and drivers, again and again, and compares its bytes with a clean run's.

By hand, since it takes a quarter of an hour: python tests/faults/ray_chaos.py [images]
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from support import ray_processes
from support.cli import NASNET
from support.shards import content, make_photos
from support.waiting import wait_until

FORMATS = (("classify", "jsonl"), ("classify", "parquet"), ("embed", "npy"))
DRIVERS, WORKERS = 3, 3
"""Drivers that are killed in each job, and workers that are killed under each driver."""


def run(*arguments: object) -> None:
    subprocess.run([*NASNET, *map(str, arguments)], check=True)


def alive(driver: subprocess.Popen[bytes], seconds: float) -> bool:
    """Return whether the driver still runs after so many seconds."""
    try:
        driver.wait(seconds)
    except subprocess.TimeoutExpired:
        return True
    return False


def kill_some(driver: subprocess.Popen[bytes]) -> None:
    """Kills workers at random moments, then the driver."""
    for _ in range(WORKERS):
        while not (workers := ray_processes.workers(driver.pid)):
            if not alive(driver, 0.1):
                return
        if not alive(driver, random.uniform(0, 5)):
            return
        victim = random.choice(workers)
        print(f"  worker {victim} is killed", flush=True)
        try:
            os.kill(victim, signal.SIGKILL)
        except ProcessLookupError:
            continue
    if alive(driver, random.uniform(0, 5)):
        everyone = ray_processes.essential(driver.pid)
        print("  the driver is killed", flush=True)
        driver.kill()
        driver.wait()
        wait_until(lambda everyone=everyone: not any(map(ray_processes.runs, everyone)))


def chaos(folder: Path, photos: Path, command: str, format_: str) -> None:
    """One job, killed and run again, against the same job done in peace."""
    sharded = (command, photos, "-q", "--shard-size", 100, "--format", format_, "--out")
    clean, job = folder / f"clean-{format_}", folder / f"job-{format_}"
    run(*sharded, clean)
    arguments = [*sharded, job, "--engine", "ray", "--workers-per-node", 2, "--retries", 9]
    for number in range(DRIVERS):
        print(f"{command} {format_}: driver {number + 1}", flush=True)
        kill_some(subprocess.Popen([*NASNET, *map(str, arguments)]))
    start = time.monotonic()
    run(*arguments)
    print(f"  the last one finishes it in {time.monotonic() - start:.0f} s", flush=True)
    run("status", job, "--verify")
    done, expected = (
        {name: data for name, data in content(where).items() if name.startswith("shard-")}
        for where in (job, clean)
    )
    assert done == expected, "the bytes are not those of a clean run"


def main() -> None:
    images = int(sys.argv[1]) if len(sys.argv) > 1 else 20_000
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_photos(folder / "photos", images)
        for command, format_ in FORMATS:
            chaos(folder, folder / "photos", command, format_)
    print("All bytes are those of a clean run.")


if __name__ == "__main__":
    main()
