"""The most memory that inputs of hostile sizes take: the table of docs/reliability.md.

    python tests/faults/peaks.py [NAME...] [--seconds N]

Each input is made, classified by the built-in model in a process of its own, and removed. The peak
is that of anonymous memory of the process and of those that it starts, looked at ten times a
second; a run that has not ended after --seconds is ended.
"""

from __future__ import annotations

import argparse
import io
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1]))
from support.killing import NASNET

SIDE = 14_000  # 196 megapixels
MODES = {
    "png": ("RGB", "RGBA", "L", "P"),
    "jpg": ("RGB", "L", "CMYK"),
    "bmp": ("RGB", "L", "P"),
    "gif": ("RGB", "L", "P"),
}


class Zeros(io.RawIOBase):
    """A file of so many zeros."""

    def __init__(self, left: int) -> None:
        self._left = left

    def read(self, size: int = -1) -> bytes:
        count = min(size, self._left)
        self._left -= count
        return bytes(count)


@contextmanager
def tar_of_large_members(folder: Path) -> Iterator[list[str]]:
    path = folder / "large.tar.gz"
    with tarfile.open(path, "w:gz", compresslevel=1) as archive:
        for number in range(12):
            info = tarfile.TarInfo(f"{number}.jpg")
            info.size = 200_000_000
            archive.addfile(info, Zeros(info.size))
    yield [str(path)]


class _Endless(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "image/jpeg")
        self.end_headers()
        part = bytes(1 << 20)
        try:
            while True:
                self.wfile.write(part)
        except OSError:  # it has had enough
            pass

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def endless_urls(_: Path) -> Iterator[list[str]]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Endless)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield [f"http://127.0.0.1:{server.server_address[1]}/{number}.jpg" for number in range(4)]
    server.shutdown()


@contextmanager
def huge_images(folder: Path) -> Iterator[list[str]]:
    for suffix, modes in MODES.items():
        for mode in modes:
            Image.new(mode, (SIDE, SIDE)).save(folder / f"{mode}.{suffix}")
    yield [str(folder)]


@contextmanager
def zip_of_a_million(folder: Path) -> Iterator[list[str]]:
    path = folder / "million.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(1_000_000):
            archive.writestr(zipfile.ZipInfo(f"notes/{number:07}.txt"), b"")
    yield [str(path)]


INPUTS: dict[str, Callable] = {
    "tar": tar_of_large_members,
    "urls": endless_urls,
    "images": huge_images,
    "zip": zip_of_a_million,
}


def peak_of(paths: list[str], seconds: float) -> tuple[int, str]:
    """Return the peak in bytes of a run over paths, and how it ended."""
    process = subprocess.Popen(
        [*NASNET, "classify", "-q", *paths],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    peak, end = 0, time.monotonic() + seconds
    while process.poll() is None and time.monotonic() < end:
        peak = max(peak, sum(map(anonymous, family(process.pid))))
        time.sleep(0.1)
    if process.poll() is None:
        process.kill()
        process.wait()
        return peak, f"ended after {seconds:g} s"
    return peak, f"status {process.returncode}"


def family(pid: int) -> Iterator[int]:
    """Yield a process and all that it has started."""
    yield pid
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children = task.read_text().split()
        except OSError:
            continue
        for child in children:
            yield from family(int(child))


def anonymous(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:  # it has ended
        return 0
    return sum(1024 * int(line.split()[1]) for line in lines if line.startswith("RssAnon"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", choices=[[], *INPUTS], help="default: all of them")
    parser.add_argument("--seconds", type=float, default=100.0)
    given = parser.parse_args()
    for name in given.names or INPUTS:
        temporary = tempfile.TemporaryDirectory(prefix="nasnet-peaks-")
        with temporary as folder, INPUTS[name](Path(folder)) as paths:
            peak, end = peak_of(paths, given.seconds)
        print(f"{name}: {peak / 1e6:,.0f} MB, {end}", flush=True)


if __name__ == "__main__":
    main()
