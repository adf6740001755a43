"""Kills at random moments of a training run: it must end as one that was left alone.

    make train-kills        or: python tests/faults/training.py [--steps N] [--kills N]
                            or: python tests/faults/training.py [--kills N] --train FOLDER ARGUMENTS

nasnet train --full runs over images of its own, or with other arguments for it, once to its end.
Then it is killed each time its state on disk has reached a random step, a moment later, and resumed.
Its losses, its curves and its module must be those of the first run. Exits with 1 if not.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1]))
from support.killing import NASNET

CLASSES, EPOCHS, BATCH = 4, 4, 32
"""Fewer epochs than early stopping needs, so that the number of steps is known before."""


def write_images(folder: Path, steps: int) -> list[str]:
    """Write images of four colours, of which a fifth is to be held out, for so many steps.

    Return the arguments of nasnet train.
    """
    numbers = np.random.default_rng(0)
    count = -(-steps * BATCH * 5 // (4 * EPOCHS * CLASSES))
    for colour in range(CLASSES):
        place = folder / f"colour {colour}"
        place.mkdir(parents=True)
        for number in range(max(count, 10)):
            pixels = numbers.normal(60 * np.eye(CLASSES, 3)[colour] + 90, 60, (48, 48, 3))
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(place / f"{number:05}.png")
    return [str(folder), "--epochs", str(EPOCHS)]


def steps_on_disk(out: Path) -> int:
    """Return the steps of the state beside an output, -1 without one."""
    try:
        history = json.loads((out.with_name(f".{out.name}.resume") / "history.json").read_text())
    except FileNotFoundError:
        return -1
    return len(history["losses"])


def contents(folder: Path) -> dict[str, bytes]:
    """Return the contents of all files below a folder by their paths."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def kill_at(command: list[str], out: Path, step: int, seconds: float) -> bool:
    """Kill a run so many seconds after its state has reached a step. Return False if it ended."""
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    while process.poll() is None:
        if steps_on_disk(out) >= step:
            time.sleep(seconds)
            process.kill()
            break
        time.sleep(0.05)
    return process.wait() == -9


def run_once(
    folder: Path,
    train: list[str],
    kills: int,
    note: Callable[[str], None] = lambda _: None,
    wait: Callable[[float], float] = lambda longest: random.uniform(0, longest),
) -> list[str]:
    """Return what is wrong after so many kills of a run, each resumed.

    wait gets how long ten steps take and returns the seconds from a state on disk to the kill.
    """

    def command(name: str) -> tuple[list[str], Path]:
        (folder / name).mkdir()
        out = folder / name / "model"
        return [*NASNET, "train", *train, "--full", "--resume", "--out", str(out)], out

    whole, out = command("whole")
    start = time.monotonic()
    subprocess.run(whole, check=True)
    pace = time.monotonic() - start
    losses = json.loads((out.parent / "model.curves.json").read_text())["losses"]
    note(f"{len(losses)} steps in {pace:.0f} s without a kill")
    broken, out = command("broken")
    faults = []
    for number in range(kills):  # one in each part, but for the last steps
        step = int((number + random.random()) / kills * len(losses) * 0.9)
        if kill_at(broken, out, step, wait(10 * pace / len(losses))):
            note(f"killed when step {step} was on disk; now {steps_on_disk(out)} are")
        else:
            faults.append(f"ended before the kill at step {step}")
            break
    else:
        subprocess.run(broken, check=True)
    found, expected = contents(folder / "broken"), contents(folder / "whole")
    other = [name for name in sorted({*found, *expected}) if found.get(name) != expected.get(name)]
    return faults + [f"other bytes: {name}" for name in other]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--train", nargs=argparse.REMAINDER, help="arguments of nasnet train")
    given = parser.parse_args()
    seed = random.randrange(1 << 32)
    random.seed(seed)
    print(f"seed {seed}", flush=True)
    start = time.monotonic()

    def note(words: str) -> None:
        print(f"{time.monotonic() - start:.0f} s: {words}", flush=True)

    with tempfile.TemporaryDirectory(prefix="nasnet-training-") as name:
        folder = Path(name)
        train = given.train or write_images(folder / "images", given.steps)
        faults = run_once(folder, train, given.kills, note)
    note("other than a run that was left alone:" if faults else "as a run that was left alone")
    for fault in faults:
        print(fault)
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
