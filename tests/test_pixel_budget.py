"""How many pixels are decoded at once: bounded, whatever the pictures and the threads."""

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


def test_threads_hold_no_more_than_the_budget_together() -> None:
    budget, lock = PixelBudget(100), threading.Lock()
    held = most = 0

    def use(pixels: int) -> None:
        nonlocal held, most
        with budget.hold(pixels):
            with lock:
                held += pixels
                most = max(most, held)
            time.sleep(0.001)
            with lock:
                held -= pixels

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(use, [30, 70, 10, 100, 45] * 20))
    assert 45 < most <= 100 and held == 0


def test_a_picture_over_the_budget_is_decoded_alone_and_is_not_overtaken() -> None:
    budget, order = PixelBudget(100), list[str]()
    begun, may_end = threading.Event(), threading.Event()

    def small(name: str) -> None:
        with budget.hold(10):
            order.append(name)
            begun.set()
            may_end.wait(20)

    def large() -> None:
        with budget.hold(1000):
            order.append("large")

    threads = []
    for target, arguments in ((small, ("first",)), (large, ()), (small, ("second",))):
        threads.append(threading.Thread(target=target, args=arguments))
        threads[-1].start()
        begun.wait(20)
        time.sleep(0.05)
    assert order == ["first"]
    may_end.set()
    for thread in threads:
        thread.join(20)
    assert order == ["first", "large", "second"]


def test_what_fails_gives_its_room_back() -> None:
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
def test_what_counts_is_what_a_picture_takes_in_memory(
    format: str, options: dict[str, bool], expected: int
) -> None:
    file = io.BytesIO()
    Image.new("RGB", (800, 600)).save(file, format, **options)
    reserved: list[int] = []
    decode(file.getvalue(), needed_size=lambda _: (50, 40), reserve=reserved.append)
    assert reserved == [expected]


def peak(arguments: list[str], cwd: Path) -> float:
    """The most memory, in MB, that the tool has while it runs."""
    code = (
        "import resource, subprocess, sys\n"
        "subprocess.run([sys.executable, '-m', 'nasnet_cli', *sys.argv[1:]], check=True)\n"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e3)\n"
    )
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, cwd=cwd, check=True, capture_output=True, text=True)
    return float(done.stdout)


def test_large_pictures_stay_within_memory_whatever_the_workers(
    tiny_module: Path, cache_folder: Path, tmp_path: Path
) -> None:
    """Eight of them at once would take 1.3 GB."""
    Image.new("RGB", (8000, 5000), "teal").save(tmp_path / "large.png", compress_level=1)
    arguments = ["classify", *["large.png"] * 8, "-m", str(tiny_module), "--workers", "8"]
    assert peak([*arguments, "-o", "out.csv"], tmp_path) < 750


def test_memory_does_not_grow_with_the_number_of_pictures(
    tiny_module: Path, cache_folder: Path, tmp_path: Path
) -> None:
    Image.effect_noise((64, 64), 80).convert("RGB").save(tmp_path / "small.jpg")
    peaks = []
    for count in (1000, 4000):
        (tmp_path / "list").write_text("small.jpg\n" * count)
        arguments = ["classify", "--from", "list", "-m", str(tiny_module), "-o", f"{count}.jsonl"]
        peaks.append(peak(arguments, tmp_path))
    assert peaks[1] < 1.05 * peaks[0]
