"""Signals at random moments: each must end the run in time, and a resume must lose nothing.

    make signals        or: python tests/faults/signals.py [--signals N] [--images N] [--model M]

A run over images is sent SIGINT, SIGTERM or SIGHUP, one or two in a row, at a random moment; it
must end within two seconds with the status of the first, without a traceback or a hidden file.
Then it is resumed, and signalled again, until the last run ends by itself; its bytes must be those
of a run that was left alone. Exits with 1 if anything was otherwise.
"""

from __future__ import annotations

import argparse
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from support.killing import NASNET, contents, make_images

STATUS = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}
BOUND_SECONDS = 2.0
# Signals that come before our first line of code end Python itself, each in its own way.
_BEFORE_OURS = (-signal.SIGINT, -signal.SIGTERM, -signal.SIGHUP)
_NO_START = ("Fatal Python error: init_", "Could not import runpy module")


@dataclass
class Found:
    """The number of signals sent, the seconds from each to the end, and what went wrong."""

    signals: int = 0
    before_ours: int = 0
    seconds: list[float] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


def run_once(
    folder: Path,
    model: Path | None,
    *,
    images: int,
    signals: int,
    wait: Callable[[float], float] = lambda longest: random.uniform(0, longest),
) -> Found:
    """Send so many signals to runs over images, resume each, and compare the bytes at the end.

    wait gets how long an undisturbed run takes and returns the seconds before the next signal.
    """
    found = Found()
    photos, clean, out = folder / "photos", folder / "clean", folder / "out"
    make_images(photos, images)
    clean.mkdir()
    out.mkdir()
    more = ["-m", str(model)] if model else []

    def command(target: Path) -> list[str]:
        return [*NASNET, "classify", str(photos), *more, "-o", str(target / "a.jsonl"), "--resume"]

    begin = time.monotonic()
    subprocess.run(command(clean), capture_output=True, check=False)
    whole = time.monotonic() - begin
    while found.signals < signals:
        sent = random.choice(list(STATUS))
        process = subprocess.Popen(
            command(out), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        try:
            process.wait(wait(whole))
        except subprocess.TimeoutExpired:
            _signal(process, sent, out, found)
        else:  # it was done before its signal, and starts over
            process.communicate()
            _compare(out, clean, found)
            for path in out.iterdir():
                path.unlink()
    last = subprocess.run(command(out), capture_output=True, text=True, check=False)
    if last.returncode != 3:  # some images are broken
        found.faults.append(f"the last run ended with {last.returncode}: {last.stderr}")
    _compare(out, clean, found)
    return found


def _signal(process: subprocess.Popen[str], sent: signal.Signals, out: Path, found: Found) -> None:
    begin = time.monotonic()
    for _ in range(random.choice((1, 2))):
        process.send_signal(sent)
    _, stderr = process.communicate()
    found.seconds.append(time.monotonic() - begin)
    found.signals += 1
    label = f"{sent.name}, signal {found.signals}"
    before_ours = process.returncode in _BEFORE_OURS or (
        process.returncode == 1 and stderr.startswith(_NO_START)
    )
    found.before_ours += before_ours
    if process.returncode not in (STATUS[sent], 3) and not before_ours:
        found.faults.append(f"{label}: status {process.returncode}")
    if not before_ours and ("Traceback" in stderr or "Exception" in stderr):
        found.faults.append(f"{label}: {stderr}")
    if left := [path.name for path in out.iterdir() if path.name.endswith(".partial")]:
        found.faults.append(f"{label}: left {left}")


def _compare(out: Path, clean: Path, found: Found) -> None:
    if contents(out) != contents(clean):
        found.faults.append(f"other bytes after {found.signals} signals: {sorted(contents(out))}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--signals", type=int, default=200)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--model", type=Path, help="default: the built-in one")
    given = parser.parse_args()
    seed = random.randrange(1 << 32)
    random.seed(seed)
    with tempfile.TemporaryDirectory(prefix="nasnet-signals-") as name:
        found = run_once(Path(name), given.model, images=given.images, signals=given.signals)
    late = sum(seconds > BOUND_SECONDS for seconds in found.seconds)
    print(
        f"{found.signals} signals, seed {seed}: {found.before_ours} before our first line; the "
        f"slowest end took {max(found.seconds):.2f} s, {late} over {BOUND_SECONDS:g} s"
    )
    for fault in found.faults:
        print(fault)
    sys.exit(bool(found.faults or late))


if __name__ == "__main__":
    main()
