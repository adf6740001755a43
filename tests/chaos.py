"""The full form of the tests that kill: 20,000 pictures, ten kills, four formats.

    make chaos                     or: python tests/chaos.py [--pictures N] [--kills K] [--model M]

For each format one clean run and one that is killed with SIGKILL at random moments and resumed
each time; then every byte of what they wrote is compared. Exits with 1 at the first difference.
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
from support.killing import NASNET, contents, make_pictures

FORMATS = [
    ("classify", "out.jsonl"),
    ("classify", "out.csv"),
    ("embed", "out.npy"),
    ("classify", "out.parquet"),
]


def timed(command: list[str]) -> float:
    """Runs a command to its end, which must be that some pictures had errors; the seconds."""
    start = time.monotonic()
    status = subprocess.run(command, stderr=subprocess.DEVNULL, check=False).returncode
    if status != 3:
        sys.exit(f"{' '.join(command)} ended with {status}")
    return time.monotonic() - start


def kill_and_resume(command: list[str], out: Path, kills: int, startup: float, work: float) -> None:
    """Kills the command so often at random moments, each time resuming, then lets it end.

    startup is how long it takes to begin, work how long the pictures take; the runs that are
    killed get nine tenths of that together, as far as the machine's speed can be foretold. One
    that ends before its kill is thrown away, and the job begun anew.
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
    parser.add_argument("--pictures", type=int, default=20_000)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--model", help="the built-in one unless given")
    given = parser.parse_args()
    seed = random.randrange(1 << 32)
    random.seed(seed)
    print(f"{given.pictures:,} pictures, {given.kills} kills, seed {seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="nasnet-chaos-") as name:
        folder = Path(name)
        photos, one = folder / "photos", folder / "one"
        make_pictures(photos, given.pictures)
        one.mkdir()
        shutil.copy(photos / "000" / "000050.jpg", one)  # a broken one: each run ends with 3
        model = ["--model", given.model] if given.model else []
        for command, out in FORMATS:
            clean, killed = folder / "clean", folder / "killed"
            clean.mkdir()
            killed.mkdir()

            def nasnet(pictures: Path, out: Path, *more: str, command: str = command) -> list[str]:
                return [*NASNET, command, str(pictures), "-o", str(out), "-q", *model, *more]

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
                sys.exit(f"{out}: the resumed run wrote other bytes than the clean one")
            print(f"{out}: the same bytes; a clean run takes {whole:.0f} s", flush=True)
            shutil.rmtree(clean)
            shutil.rmtree(killed)


if __name__ == "__main__":
    main()
