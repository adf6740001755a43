"""The long commands of the Makefile, for a moment each: what they find, and that they find it."""

from __future__ import annotations

import gc
import random
import threading
import weakref
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from faults import fuzz_images, soak
from nasnet_cli.images.listing import list_sources
from nasnet_cli.images.source import SkipCounter, Source
from nasnet_cli.jobs.outputs import Target
from nasnet_cli.jobs.run import run_to_files
from nasnet_cli.jobs.spec import JobSpec
from support.killing import make_images


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
    make_images(tmp_path / "photos", 60)
    rounds = [soak.run_round(tmp_path / "photos", str(tiny_module), number) for number in (0, 1)]
    assert all(one.memory > 0 and one.files > 0 and one.rate > 0 for one in rounds)


@pytest.mark.parametrize("is_cut", [False, True])
def test_a_job_lets_go_of_its_model_at_its_end(
    is_cut: bool, tiny_module: Path, tmp_path: Path
) -> None:
    make_images(tmp_path / "photos", 30)
    spec = JobSpec(("labels",), model=str(tiny_module))
    model = spec.open_model()
    is_held = weakref.ref(model)

    def sources() -> Iterator[Source]:
        yield from list_sources([str(tmp_path / "photos")], skips=SkipCounter())
        if is_cut:
            raise soak.CutShortError

    gc.collect()
    gc.disable()  # which would find a circle, some time
    try:
        with suppress(soak.CutShortError):
            run_to_files(spec, model, sources(), [Target("labels", "csv", tmp_path / "a.csv")])
        for thread in threading.enumerate():
            if thread.name in ("list", "commit"):  # ending
                thread.join()
        del model, thread
        assert is_held() is None
    finally:
        gc.enable()


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
