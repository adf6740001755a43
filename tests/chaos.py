"""The long form of the tests that kill: 20,000 images, ten kills, four formats.

    make chaos                     or: python tests/chaos.py [--images N] [--kills K] [--model M]

For each format, one run is left alone and one is killed with SIGKILL at random moments and resumed
each time; then all their bytes are compared. Exits with 1 at the first difference.
"""

from __future__ import annotations

import argparse
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from support.killing import NASNET, contents, make_images

FORMATS = [
    ("classify", "out.jsonl"),
    ("classify", "out.csv"),
    ("embed", "out.npy"),
    ("classify", "out.parquet"),
]


def timed(command: list[str]) -> float:
    """Run a command, which must end because some images have errors, and return the seconds."""
    start = time.monotonic()
    status = subprocess.run(command, stderr=subprocess.DEVNULL, check=False).returncode
    if status != 3:
        sys.exit(f"{' '.join(command)} ended with {status}")
    return time.monotonic() - start


def kill_and_resume(command: list[str], out: Path, kills: int, startup: float, work: float) -> None:
    """Kill the command at random moments, resume it each time, and let the last run end.

    startup is how long it takes to start, work how long the images take; the killed runs get nine
    tenths of that together, as far as the machine's speed is predictable. When a run ends before
    its kill, its files are removed and the job starts over.
    """
    done = 0
    while done < kills:
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        try:
            process.wait(startup + random.uniform(0, 0.9 * work / kills))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            done += 1
        else:
            for path in out.parent.iterdir():
                path.unlink()
    timed(command)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--model", help="default: the built-in one")
    given = parser.parse_args()
    seed = random.randrange(1 << 32)
    random.seed(seed)
    print(f"{given.images:,} images, {given.kills} kills, seed {seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="nasnet-chaos-") as name:
        folder = Path(name)
        photos, one = folder / "photos", folder / "one"
        make_images(photos, given.images)
        one.mkdir()
        shutil.copy(photos / "000" / "000050.jpg", one)  # a broken one: each run exits with 3
        model = ["--model", given.model] if given.model else []
        for command, out in FORMATS:
            clean, killed = folder / "clean", folder / "killed"
            clean.mkdir()
            killed.mkdir()

            def nasnet(images: Path, out: Path, *more: str, command: str = command) -> list[str]:
                return [*NASNET, command, str(images), "-o", str(out), "-q", *model, *more]

            startup = timed(nasnet(one, killed / out))
            for path in killed.iterdir():
                path.unlink()
            whole = timed(nasnet(photos, clean / out))
            kill_and_resume(
                nasnet(photos, killed / out, "--resume"),
                killed / out,
                given.kills,
                startup,
                max(0.0, whole - startup),
            )
            if contents(killed) != contents(clean):
                sys.exit(f"{out}: the resumed run wrote other bytes than the undisturbed one")
            print(f"{out}: the same bytes; an undisturbed run takes {whole:.0f} s", flush=True)
            shutil.rmtree(clean)
            shutil.rmtree(killed)


if __name__ == "__main__":
    main()
