"""The limit on the pixels that all threads together have in memory while decoding."""

from __future__ import annotations

import io
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from PIL import Image

from nasnet_cli.images.decode import decode
from nasnet_cli.images.pixel_budget import PixelBudget
from support.cli import WATCHDOG
from support.waiting import wait_until


def test_images_within_the_budget_are_decoded_at_once() -> None:
    budget, both = PixelBudget(100), threading.Barrier(2)

    def use(pixels: int) -> None:
        with budget.hold(pixels):
            both.wait(WATCHDOG)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(use, [30, 70]))


def test_threads_hold_no_more_than_the_budget_together() -> None:
    budget, lock = PixelBudget(100), threading.Lock()
    held = most = 0

    def use(pixels: int) -> None:
        nonlocal held, most
        with budget.hold(pixels):
            with lock:
                held += pixels
                most = max(most, held)
            time.sleep(0)  # lets other threads run
            with lock:
                held -= pixels

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(use, [30, 70, 10, 100, 45] * 20))
    assert most == 100 and held == 0


def test_image_over_the_budget_is_decoded_alone_and_not_overtaken() -> None:
    budget, order = PixelBudget(100), list[str]()
    is_held, may_end = threading.Event(), threading.Event()

    def small(name: str) -> None:
        with budget.hold(10):
            order.append(name)
            is_held.set()
            may_end.wait(WATCHDOG)

    def large() -> None:
        with budget.hold(1000):
            order.append("large")

    with ThreadPoolExecutor(3) as pool:
        pool.submit(small, "first")
        assert is_held.wait(WATCHDOG)
        pool.submit(large)
        wait_until(budget._turn.locked)  # it waits for room
        pool.submit(small, "second")
        assert order == ["first"]
        may_end.set()
    assert order == ["first", "large", "second"]


def test_failure_releases_the_pixels() -> None:
    budget = PixelBudget(10)
    for _ in range(3):
        with pytest.raises(ValueError, match="bad"), budget.hold(10):
            raise ValueError("bad")


@pytest.mark.parametrize(
    ("format", "options", "expected"),
    [
        ("PNG", {}, 800 * 600),
        ("JPEG", {}, 200 * 150),
        ("JPEG", {"progressive": True}, 800 * 600),
    ],
)
def test_reserved_pixels_are_those_held_in_memory(
    format: str, options: dict[str, bool], expected: int
) -> None:
    file = io.BytesIO()
    Image.new("RGB", (800, 600)).save(file, format, **options)
    reserved: list[int] = []
    decode(file.getvalue(), needed_size=lambda _: (50, 40), reserve=reserved.append)
    assert reserved == [expected]


def peak(arguments: list[str], cwd: Path) -> float:
    """Return the peak memory of nasnet, in MB, with these arguments."""
    code = (
        "import resource, subprocess, sys\n"
        "subprocess.run([sys.executable, '-m', 'nasnet_cli', *sys.argv[1:]], check=True)\n"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e3)\n"
    )
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, cwd=cwd, check=True, capture_output=True, text=True)
    return float(done.stdout)


@pytest.mark.linux
def test_memory_is_bounded_whatever_the_number_of_workers(
    tiny_module: Path, cache_folder: Path, tmp_path: Path
) -> None:
    """Eight such images at once would take 1.3 GB."""
    Image.new("RGB", (8000, 5000), "teal").save(tmp_path / "large.png", compress_level=1)
    arguments = ["classify", *["large.png"] * 8, "-m", str(tiny_module), "--workers", "8"]
    assert peak([*arguments, "-o", "out.csv"], tmp_path) < 750


def test_memory_does_not_grow_with_the_number_of_images(
    tiny_module: Path, cache_folder: Path, tmp_path: Path
) -> None:
    Image.effect_noise((64, 64), 80).convert("RGB").save(tmp_path / "small.jpg")
    peaks = []
    for count in (1000, 4000):
        (tmp_path / "list").write_text("small.jpg\n" * count)
        arguments = ["classify", "--from", "list", "-m", str(tiny_module), "-o", f"{count}.jsonl"]
        peaks.append(peak(arguments, tmp_path))
    assert peaks[1] < 1.05 * peaks[0]
