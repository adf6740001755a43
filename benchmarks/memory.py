"""Peak memory of nasnet: the figures of docs/performance.md.

Runs `nasnet classify` on folders of more and more photos, and on images of 100 megapixels, lists
a folder of a great many names, and prints the peak of all processes together of each.

    python benchmarks/memory.py --photos photos/ --folder /tmp/memory
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import material

HERE = Path(__file__).parent
INTERVAL = 0.02  # seconds between two looks at the processes
KINDS = {  # what Pillow is told for each kind of large image
    "jpg": {"quality": 92},
    "progressive.jpg": {"quality": 92, "progressive": True},
    "png": {"compress_level": 1},
    "tif": {},
    "webp": {"method": 0},
}
LIST = (
    "import sys\n"
    "from nasnet_cli.images.source import SkipCounter\n"
    "from nasnet_cli.images.listing import list_sources\n"
    "print(sum(1 for _ in list_sources([sys.argv[1]], skips=SkipCounter())))\n"
)


def link_photos(folder: Path, photos: Path, count: int) -> None:
    """Fill a folder with count links to the JPEGs below photos."""
    kept = folder.with_name("kept")
    shutil.rmtree(kept, ignore_errors=True)
    # Copies, again and again: file systems allow a file some ten thousand names.
    material.copy_photos(kept, photos, min(count, 1000))
    found = sorted(kept.iterdir())
    folder.mkdir(parents=True)
    for number in range(count):
        (folder / f"{number:06d}.jpg").hardlink_to(found[number % len(found)])
    shutil.rmtree(kept)


def write_huge(folder: Path, photos: Path, side: int, count: int) -> None:
    """Fill a folder with count links to images of side x side pixels, one of each kind."""
    import numpy as np
    from PIL import Image

    Image.MAX_IMAGE_PIXELS = None
    folder.mkdir(parents=True)
    with Image.open(material.jpegs(photos)[0]) as image:
        large = image.convert("RGB").resize((side, side), Image.Resampling.BILINEAR)
    pixels = np.array(large)
    random = np.random.default_rng(0)
    for row in pixels:  # noise, as a camera's, in little memory
        row[:] = np.minimum(row, 247) + random.integers(0, 8, row.shape, np.uint8)
    large = Image.fromarray(pixels)
    for place, (kind, options) in enumerate(KINDS.items()):
        first = folder / f"{place:03d}.{kind}"
        large.save(first, None, **options)
        for number in range(place + len(KINDS), count, len(KINDS)):
            (folder / f"{number:03d}.{kind}").hardlink_to(first)


def write_names(folder: Path, count: int) -> None:
    """Fill a folder with count empty files."""
    folder.mkdir(parents=True)
    for number in reversed(range(count)):  # so that their order has to be found
        os.close(os.open(folder / f"{number:07d}.jpg", os.O_CREAT | os.O_WRONLY))


def family(pid: int) -> list[int]:
    """Return a process and all its descendants."""
    found = [pid]
    for one in found:
        try:
            for task in Path(f"/proc/{one}/task").iterdir():
                found += map(int, (task / "children").read_text().split())
        except OSError:  # it has ended
            continue
    return found


def memory_of(pid: int) -> int:
    """Return a process' proportional set size (PSS) in kB: shared pages count once among them."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))


def peak_of(*command: object) -> tuple[float, float]:
    """Return the seconds and peak MB of a command and its descendants; it must succeed."""
    start, peak = time.monotonic(), 0
    child = subprocess.Popen([sys.executable, *map(str, command)], stdout=subprocess.DEVNULL)
    while child.poll() is None:
        peak = max(peak, sum(memory_of(pid) for pid in family(child.pid)))
        time.sleep(INTERVAL)
    if child.returncode:
        sys.exit(f"{' '.join(map(str, command))} failed.")
    return time.monotonic() - start, peak / 1024


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--photos", type=Path, default=HERE.parent / "examples" / "photos", help="JPEGs to link")
    add("--counts", type=int, nargs="*", default=[2000, 20000], help="of photos (2000 20000)")
    add("--names", type=int, default=1_000_000, help="in the folder that is listed (1000000)")
    add("--huge", type=int, default=100, help="images of 100 megapixels (100)")
    add("--side", type=int, default=10_000, help="of each of them, in pixels (10000)")
    add("--workers", type=int, nargs="*", default=[1, 4], help="for them (1 4)")
    add("--folder", type=Path, required=True, help="for the images, which stay there")
    return parser.parse_args()


def main() -> None:
    given = options()
    given.folder.mkdir(parents=True, exist_ok=True)
    classify = ("-m", "nasnet_cli", "classify", "--overwrite", "-q", "--out")
    out = given.folder / "out.jsonl"

    def show(what: str, *command: object) -> None:
        seconds, peak = peak_of(*command)
        print(f"{what}: {peak:.0f} MB, {seconds:.1f} s", flush=True)

    peak_of(*classify, out, material.jpegs(given.photos)[0])  # compiles the model, if need be
    for count in given.counts:
        photos = material.made(given.folder / f"photos-{count}", link_photos, given.photos, count)
        show(f"classify {count} photos", *classify, out, photos)
    names = material.made(given.folder / f"names-{given.names}", write_names, given.names)
    show(f"list {given.names} names", "-c", LIST, names)
    huge = material.made(
        given.folder / f"huge-{given.huge}-{given.side}",
        write_huge, given.photos, given.side, given.huge,
    )  # fmt: skip
    for workers in given.workers:
        what = f"classify {given.huge} images of {given.side}x{given.side}, {workers} workers"
        show(what, *classify, out, huge, "--workers", workers)


if __name__ == "__main__":
    main()
