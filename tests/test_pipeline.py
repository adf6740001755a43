"""The pipeline: every input's result in its place, the same bytes however it is run, bounded."""

from __future__ import annotations

import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from nasnet_cli import load_model, pipeline
from nasnet_cli.errors import InputError, ModelError
from nasnet_cli.images.listing import list_sources
from nasnet_cli.images.source import SkipCounter, Source
from nasnet_cli.timings import Timings

BOTH = ("logits", "features")


@pytest.fixture
def model(tiny_module: Path, cache_folder: Path) -> Any:
    return load_model(tiny_module)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """37 pictures of several sizes and formats, and four files that are none."""
    random = np.random.default_rng(11)
    folder = tmp_path / "photos"
    folder.mkdir()
    for i in range(37):
        size = (40 + 37 * (i % 9), 50 + 29 * (i % 7))
        picture = Image.fromarray(random.integers(0, 256, (8, 8, 3), np.uint8)).resize(size)
        picture.save(folder / f"{i:03}.{('jpg', 'png', 'webp')[i % 3]}")
    for i in (0, 7, 8, 36):
        (folder / f"{i:03}-not.jpg").write_bytes(b"no picture")
    return folder


def sources_of(folder: Path) -> Any:
    return list_sources([str(folder)], skips=SkipCounter())


def numbered(count: int) -> list[Source]:
    return [Source(str(i), file=str(i)) for i in range(count)]


def grey(source: Source) -> np.ndarray:
    return np.full((32, 32, 3), int(source.path) % 251, np.uint8)


def failing(source: Source) -> np.ndarray:
    raise InputError("not_an_image", f"{source.path} is none.")


def run(model: Any, sources: Any, decode: Any, **how: Any) -> Any:
    how = {"workers": 2, **how}
    return pipeline.run(sources, decode, lambda: model.runtime(BOTH), **how)


def test_the_bytes_are_the_same_for_any_workers_and_batch_size(model: Any, photos: Path) -> None:
    def everything(**how: Any) -> list[Any]:
        return [
            (r.source.path, r.error and r.error.kind)
            if r.outputs is None
            else (r.source.path, *(r.outputs[name].tobytes() for name in BOTH))
            for r in model.results(BOTH, sources_of(photos), **how)
        ]

    expected = everything()
    assert len(expected) == 41 and len({row[1] for row in expected}) == 38
    for workers in (1, 2, 8):
        for batch_size in (1, 4, 7, 32):
            assert everything(workers=workers, batch_size=batch_size) == expected


def test_results_come_in_the_order_of_the_inputs_however_long_each_takes(model: Any) -> None:
    def decode(source: Source) -> np.ndarray:
        time.sleep(0.05 if int(source.path) % 10 == 0 else 0)
        return failing(source) if int(source.path) % 7 == 3 else grey(source)

    results = list(run(model, numbered(60), decode, workers=4, batch_size=5))
    assert [r.source.path for r in results] == [str(i) for i in range(60)]
    assert [i for i, r in enumerate(results) if r.error] == list(range(3, 60, 7))
    alone = next(run(model, numbered(5)[4:], grey)).outputs["features"]
    np.testing.assert_array_equal(results[4].outputs["features"], alone)


def test_no_input_gives_no_result(model: Any) -> None:
    assert list(run(model, [], grey)) == []


def test_a_million_failing_inputs_are_not_kept_until_the_end(model: Any) -> None:
    taken = 0

    def sources() -> Any:
        nonlocal taken
        while True:
            taken += 1
            yield Source(str(taken), file="")

    results = run(model, sources(), failing, batch_size=1)
    for _ in range(500):
        next(results)
    results.close()
    assert taken < 600


def test_what_is_under_way_is_bounded_but_does_not_wait_for_who_takes_results(model: Any) -> None:
    lock, decoded = threading.Lock(), 0

    def decode(source: Source) -> np.ndarray:
        nonlocal decoded
        with lock:
            decoded += 1
        return grey(source)

    results = run(model, numbered(1000), decode, batch_size=50)
    next(results)
    deadline = time.monotonic() + 20
    while decoded < 50 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.1)
    assert 50 <= decoded < 120
    results.close()


def test_sources_are_all_taken_in_one_thread(model: Any) -> None:
    """What finds the inputs need not be safe in threads."""
    seen = set()

    def sources() -> Any:
        for source in numbered(100):
            seen.add(threading.current_thread())
            yield source

    assert len(list(run(model, sources(), grey, batch_size=1))) == 100
    assert len(seen) == 1


def test_a_result_does_not_wait_for_the_next_source(model: Any) -> None:
    taken = threading.Semaphore(0)

    def sources() -> Any:
        for source in numbered(9):
            yield source
            assert taken.acquire(timeout=20)

    count = 0
    for _ in run(model, sources(), grey):
        count += 1
        taken.release()
    assert count == 9


def test_who_stops_early_does_not_wait_for_a_source(model: Any) -> None:
    stopped = threading.Event()

    def sources() -> Any:
        yield from numbered(1)
        stopped.wait(20)

    results = run(model, sources(), grey)
    next(results)
    begin = time.monotonic()
    results.close()
    assert time.monotonic() - begin < 10
    stopped.set()


def ours() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name.startswith(("decode", "feed"))]


def test_who_stops_early_leaves_no_thread_and_the_runtime_goes_on(model: Any) -> None:
    for _ in range(3):
        results = run(model, numbered(500), grey)
        next(results)
        results.close()
        assert ours() == []
    assert len(list(run(model, numbered(30), grey))) == 30


@pytest.mark.parametrize("where", ["sources", "decode", "runtime"])
def test_an_unforeseen_error_reaches_the_caller_and_ends_all_threads(
    model: Any, where: str
) -> None:
    def fail(*_: Any) -> Any:
        raise ModelError("It broke.", "Mend it.")

    def broken() -> Any:
        yield from numbered(40)
        fail()

    with pytest.raises(ModelError, match="It broke"):
        list(
            pipeline.run(
                broken() if where == "sources" else numbered(40),
                fail if where == "decode" else grey,
                fail if where == "runtime" else lambda: model.runtime(BOTH),
                workers=2,
            )
        )
    assert ours() == []


class Slow:
    """A runtime whose requests, one after the other, each take a while."""

    def __init__(self, runtime: Any, seconds: float) -> None:
        self.plan, self.seconds = runtime.plan, seconds
        self._runtime, self._pool = runtime, ThreadPoolExecutor(1)
        self.ended = 0

    def submit(self, pictures: Any) -> Any:
        return self._pool.submit(self._compute, list(pictures))

    def _compute(self, pictures: list[np.ndarray]) -> Any:
        time.sleep(self.seconds)
        outputs = self._runtime.submit(pictures).result()
        self.ended += len(pictures)
        return outputs


def soon(source: Source) -> np.ndarray:
    time.sleep(0.01)
    return grey(source)


def test_no_result_waits_for_requests_that_still_run(model: Any) -> None:
    runtime = Slow(model.runtime(BOTH), 0.2)
    waiting = [
        runtime.ended - i
        for i, _ in enumerate(pipeline.run(numbered(80), soon, lambda: runtime, workers=2))
    ]
    assert max(waiting) <= 2 * runtime.plan.request_size


def test_an_interruption_loses_no_result_that_is_there(model: Any) -> None:
    runtime = Slow(model.runtime(BOTH), 0.3)
    found: list[str] = []
    ended = 0

    def interrupt() -> None:
        nonlocal ended
        ended = runtime.ended
        signal.raise_signal(signal.SIGINT)

    threading.Timer(2, interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        for result in pipeline.run(numbered(2000), soon, lambda: runtime, workers=2):
            found.append(result.source.path)
    assert found == [str(i) for i in range(len(found))]
    assert len(found) >= ended - runtime.plan.request_size > 0


def test_an_error_of_a_request_comes_after_the_results_before_it(model: Any) -> None:
    runtime = model.runtime(BOTH)
    size = runtime.plan.request_size

    class Failing:
        """The runtime, but that its sixth request fails."""

        plan = runtime.plan
        submitted = 0

        def submit(self, pictures: Any) -> Any:
            self.submitted += 1
            return self if self.submitted == 6 else runtime.submit(pictures)

        def result(self, timeout: float | None = None) -> Any:
            raise ModelError("It broke.", "Mend it.")

    found = []
    with pytest.raises(ModelError, match="It broke"):
        for result in pipeline.run(numbered(200), grey, Failing, workers=2):
            found.append(result.source.path)
    assert found == [str(i) for i in range(5 * size)]


def test_timings_say_where_the_time_went(model: Any) -> None:
    timings = Timings()

    def sources() -> Any:
        for source in numbered(40):
            end = time.thread_time() + 0.002
            while time.thread_time() < end:
                pass
            yield source

    def decode(source: Source) -> np.ndarray:
        with timings.spent("decode"):
            end = time.thread_time() + 0.005
            while time.thread_time() < end:
                pass
        return grey(source)

    for _ in run(model, sources(), decode, timings=timings):
        end = time.thread_time() + 0.001
        while time.thread_time() < end:
            pass
    *rows, rate = timings.table(processors=1)
    seconds = {name: float(value) for name, value, *_ in (row.split() for row in rows)}
    assert list(seconds) == ["start", "list", "read", "decode", "write", "infer", "wait"]
    assert 0.08 <= seconds["list"] < 0.5
    assert 0.2 <= seconds["decode"] < 0.4
    assert 0.04 <= seconds["write"] < 0.2
    assert seconds["read"] == 0 < seconds["infer"]
    assert rate.startswith("Steady rate: ")


def test_timings_of_several_runs_begin_with_the_first() -> None:
    timings = Timings()
    for _ in range(2):
        timings.ready()
        end = time.thread_time() + 0.1
        while time.thread_time() < end:
            pass
    timings.finish()
    (infer,) = (row.split()[1] for row in timings.table(processors=1) if "infer" in row)
    assert float(infer) >= 0.2
