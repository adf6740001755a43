"""The long commands of the Makefile, for a moment each: what they find, and that they find it."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import pytest

from faults import fuzz_images, soak
from support.killing import make_pictures


def test_damaged_images_have_rows(tiny_module: Path, tmp_path: Path) -> None:
    numbers, whole, kinds = random.Random(1), fuzz_images.seeds(), Counter[str]()
    for number in range(60):
        damaged = fuzz_images.damage(whole[number % len(whole)], numbers)
        (tmp_path / f"{number:02d}.jpg").write_bytes(damaged)
    assert fuzz_images.faults(tmp_path, 60, tiny_module, kinds) == []
    assert kinds.total() == 60 and len(kinds) > 2
    assert fuzz_images.faults(tmp_path, 61, tiny_module, kinds) == ["60 rows for 61 images"]


def test_a_batch_without_a_model_is_a_fault(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"")
    (fault,) = fuzz_images.faults(tmp_path, 1, tmp_path / "absent", Counter())
    assert fault.startswith("status 1: ")


def test_rounds_of_a_soak(tiny_module: Path, tmp_path: Path) -> None:
    make_pictures(tmp_path / "photos", 60)
    rounds = [soak.run_round(tmp_path / "photos", str(tiny_module), number) for number in (0, 1)]
    assert all(one.memory > 0 and one.files > 0 and one.rate > 0 for one in rounds)


@pytest.mark.parametrize(
    ("last", "found"),
    [
        (soak.Round(1.04e9, 20, 81), []),
        (soak.Round(1.06e9, 20, 100), ["memory"]),
        (soak.Round(1e9, 22, 79), ["files", "rate"]),
    ],
)
def test_drift_is_found(last: soak.Round, found: list[str]) -> None:
    rounds = [soak.Round(5e9, 99, 1), *[soak.Round(1e9, 20, 100)] * 4, *[last] * 3]
    assert [words.split()[0] for words in soak.drift(rounds)] == found
