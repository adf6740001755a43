"""The cost of a job with shards for each image: the figures that docs/scale.md computes from.

Makes small images, lists them, runs `nasnet classify --shard-size`, and prints as JSON: seconds
and bytes for each image of the listing, the manifest and the markers; the rate of the first and
of the last tenth of the shards; the peak of memory; and what running again costs when all is done.

    python benchmarks/scale.py --images 100000 --folder /tmp/scale
"""

from __future__ import annotations

import argparse
import io
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image

IN_A_FOLDER = 1000
KINDS = 500  # different images; more would only measure the making of them


def make_images(folder: Path, count: int) -> None:
    """Write count JPEGs of 64x64 pixels, a thousand to a folder."""
    random = np.random.default_rng(0)
    kinds = []
    for _ in range(KINDS):
        coarse = Image.fromarray(random.integers(0, 256, (8, 8, 3), np.uint8))
        stream = io.BytesIO()
        coarse.resize((64, 64), Image.Resampling.BICUBIC).save(stream, "JPEG", quality=85)
        kinds.append(stream.getvalue())
    for number in range(count):
        place = folder / f"{number // IN_A_FOLDER:05d}"
        if number % IN_A_FOLDER == 0:
            place.mkdir(parents=True, exist_ok=True)
        (place / f"{number:08d}.jpg").write_bytes(kinds[number % KINDS])


def run(*arguments: object) -> tuple[float, float]:
    """Return the wall and CPU seconds of a nasnet command, which must succeed."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    command = [sys.executable, "-m", "nasnet_cli", *map(str, arguments)]
    subprocess.run(command, check=True, stdout=sys.stderr)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.monotonic() - start, cpu


def list_images(folder: Path, out: Path, shard_size: int) -> dict[str, float]:
    """Measure the manifest alone, in a process that does nothing else."""
    code = (
        "import sys, time, resource\n"
        "from pathlib import Path\n"
        "from nasnet_cli.images.source import SkipCounter\n"
        "from nasnet_cli.images.listing import list_sources\n"
        "from nasnet_cli.jobs.shards.update import extend\n"
        "from nasnet_cli.jobs.shards.manifest import make_manifest\n"
        "from nasnet_cli.jobs.shards.slices import Cut\n"
        "folder, out, size = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])\n"
        "def sources():\n"
        "    skips = SkipCounter()\n"
        "    return list_sources([folder], skips=skips), skips\n"
        "start = time.monotonic()\n"
        "manifest = make_manifest(out, *sources(), work={}, cut=Cut(shard_size=size))\n"
        "first = time.monotonic() - start\n"
        "extend(manifest, *sources())\n"
        "again = time.monotonic() - start - first\n"
        "print(first, again, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)\n"
    )
    command = [sys.executable, "-c", code, str(folder), str(out), str(shard_size)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    first, again, peak = map(float, done.stdout.split())
    return {"seconds": first, "seconds_again": again, "peak_mb": peak / 1024}


def size_of(paths: list[Path]) -> int:
    """Return the total size of files in bytes."""
    return sum(path.stat().st_size for path in paths)


def rate(markers: list[Path]) -> float:
    """Return images per second between the first and the last of these markers."""
    times = [path.stat().st_mtime for path in markers]
    images: int = sum(json.loads(path.read_text())["pictures"] for path in markers[1:])
    return images / (times[-1] - times[0])


def measure(folder: Path, images: int, shard_size: int, model: str | None) -> dict[str, object]:
    photos, out = folder / "photos", folder / "job"
    make_images(photos, images)
    shutil.rmtree(out, ignore_errors=True)
    listing = list_images(photos, folder / "listed", shard_size)
    job = ["classify", photos, "--out", out, "--shard-size", shard_size]
    job += ["--model", model] if model else []
    wall, cpu = run(*job)
    markers = sorted(path for path in out.glob("shard-*.json"))
    tenth = max(2, len(markers) // 10)
    again, _ = run(*job)
    merged, _ = run("merge", out, "--out", folder / "merged.jsonl", "--overwrite")
    return {
        "images": images,
        "shards": len(markers),
        "processors": len(os.sched_getaffinity(0)),
        "listing": listing,
        "manifest_bytes": size_of(list((out / "manifest").iterdir())),
        "marker_bytes": size_of(markers),
        "result_bytes": size_of(list(out.glob("shard-*.jsonl"))),
        "seconds": wall,
        "cpu_seconds": cpu,
        "rate_first_tenth": rate(markers[:tenth]),
        "rate_last_tenth": rate(markers[-tenth:]),
        "peak_mb": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024,
        "seconds_again_with_all_done": again,
        "seconds_of_merge": merged,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--shard-size", type=int, default=1000)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--model")
    given = parser.parse_args()
    found = measure(given.folder, given.images, given.shard_size, given.model)
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
