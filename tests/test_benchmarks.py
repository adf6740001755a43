"""The benchmarks run: every peer classifies ten photos, and they agree on most of them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

COMPARE = Path(__file__).parents[1] / "benchmarks" / "compare.py"
PEERS = ("nasnet", "hub-one", "hub-batches", "keras", "openvino", "onnxruntime")


@pytest.mark.slow
def test_every_peer_has_a_row_for_each_photo_and_mostly_the_same_label(tmp_path: Path) -> None:
    # Their centre is of the model's own size, so that it doesn't matter how each peer shrinks.
    photos, found = tmp_path / "photos", tmp_path / "found.json"
    photos.mkdir()
    random = np.random.default_rng(3)
    for i in range(10):
        coarse = Image.fromarray(random.integers(0, 256, (4, 4, 3), np.uint8))
        coarse.resize((110, 110), Image.Resampling.BICUBIC).save(photos / f"{i}.jpg", quality=95)
    command = [sys.executable, COMPARE, "--photos", photos, "--count", 10, "--cases", "many"]
    command += ["--models", "built-in", "--runs", 1, "--cold", "--rate-seconds", 1]
    subprocess.run([*map(str, command), "--json", str(found)], check=True)
    results = json.loads(found.read_text())
    assert [run["peer"] for run in results["runs"]] == list(PEERS)
    for run in results["runs"]:
        assert run["rows"] == 10
        assert run["same_label"] >= 0.7, run
        assert len(run["seconds"]) == 1 and 20 < run["peak_mb"][0] < 5000
    assert min(results["openvino_rates"]["built-in"].values()) > 1


def test_memory_is_measured_of_every_case(tmp_path: Path) -> None:
    command = [sys.executable, COMPARE.with_name("memory.py"), "--folder", tmp_path / "made"]
    command += ["--counts", 30, "--names", 50000, "--huge", 5, "--side", 500, "--workers", 2]
    done = subprocess.run([*map(str, command)], check=True, capture_output=True, text=True)
    peaks = [float(line.split(": ")[1].split(" MB")[0]) for line in done.stdout.splitlines()]
    assert len(peaks) == 3 and all(5 < peak < 1000 for peak in peaks), done.stdout
