"""The pipeline: results in order, the same bytes however it is run, a bound on what is under way."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from nasnet_cli import load_model, pipeline
from nasnet_cli.errors import InputError, ModelError
from nasnet_cli.images.listing import list_sources
from nasnet_cli.images.source import SkipCounter, Source
from nasnet_cli.pipeline import Item, most_ahead
from nasnet_cli.timings import Timings
from support.cli import WATCHDOG

BOTH = ("logits", "features")

# Seconds after which a condition that should come is taken for one that never does.
HANG = float(WATCHDOG)


def pipeline_threads(*names: str) -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name.startswith(names)]


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    """Wait until a test's threads have ended; the one that lists ends with its items."""
    yield
    for thread in pipeline_threads("decode", "feed", "list"):
        thread.join(HANG)
        assert not thread.is_alive(), f"{thread.name} is left"


@pytest.fixture
def model(tiny_module: Path) -> Any:
    return load_model(tiny_module)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """37 images of several sizes and formats, and four files that are not images."""
    random = np.random.default_rng(11)
    folder = tmp_path / "photos"
    folder.mkdir()
    for i in range(37):
        size = (40 + 37 * (i % 9), 50 + 29 * (i % 7))
        image = Image.fromarray(random.integers(0, 256, (8, 8, 3), np.uint8)).resize(size)
        image.save(folder / f"{i:03}.{('jpg', 'png', 'webp')[i % 3]}")
    for i in (0, 7, 8, 36):
        (folder / f"{i:03}-not.jpg").write_bytes(b"no image")
    return folder


def items_of(folder: Path) -> Iterator[Item[None]]:
    for source in list_sources([str(folder)], skips=SkipCounter()):
        yield Item(source, None)


def numbered(count: int) -> list[Item[int]]:
    """Items whose sources are named by their numbers, which are their contexts too."""
    return [Item(Source(str(i), file=str(i)), i) for i in range(count)]


def grey(source: Source) -> np.ndarray:
    return np.full((32, 32, 3), int(source.path) % 251, np.uint8)


def failing(source: Source) -> np.ndarray:
    raise InputError("not_an_image", f"{source.path} is not an image.")


def run(model: Any, items: Any, decode: Any, **options: Any) -> Any:
    """The results of a run, as a generator that closes at the end of a with block."""
    options = {"workers": 2, **options}
    open_runtime = options.pop("open_runtime", lambda: model.runtime(BOTH))
    return closing(pipeline.run(items, decode, open_runtime, **options))


def results(*arguments: Any, **options: Any) -> list[Any]:
    with run(*arguments, **options) as found:
        return list(found)


def test_bytes_do_not_depend_on_workers_and_batch_size(model: Any, photos: Path) -> None:
    def everything(**options: Any) -> list[Any]:
        return [
            (r.source.path, r.error and r.error.kind)
            if r.outputs is None
            else (r.source.path, *(r.outputs[name].tobytes() for name in BOTH))
            for r in model.results(BOTH, items_of(photos), **options)
        ]

    expected = everything()
    assert len(expected) == 41 and len({row[1] for row in expected}) == 38
    for workers in (1, 2, 8):
        for batch_size in (1, 4, 7, 32):
            assert everything(workers=workers, batch_size=batch_size) == expected


def test_results_are_in_the_order_of_the_items_however_long_each_takes(model: Any) -> None:
    """Each tenth image is decoded after the next one, which another worker decodes meanwhile."""
    decoded = [threading.Event() for _ in range(60)]

    def decode(source: Source) -> np.ndarray:
        number = int(source.path)
        if number % 10 == 0:
            assert decoded[number + 1].wait(HANG)
        decoded[number].set()
        return failing(source) if number % 7 == 3 else grey(source)

    found = results(model, numbered(60), decode, workers=4, batch_size=5)
    assert [r.source.path for r in found] == [str(i) for i in range(60)]
    assert [r.context for r in found] == list(range(60))
    assert [i for i, r in enumerate(found) if r.error] == list(range(3, 60, 7))
    (alone,) = results(model, numbered(5)[4:], grey)
    np.testing.assert_array_equal(found[4].outputs["features"], alone.outputs["features"])


def test_no_item_gives_no_result(model: Any) -> None:
    assert results(model, [], grey) == []


def test_done_items_keep_their_place_and_are_not_decoded(model: Any) -> None:
    items = [
        Item(item.source, item.context, is_done=item.context % 3 != 1) for item in numbered(200)
    ]
    decoded = []

    def decode(source: Source) -> np.ndarray:
        decoded.append(int(source.path))
        return failing(source) if int(source.path) % 2 else grey(source)

    found = results(model, items, decode)
    assert [r.context for r in found] == list(range(200))
    assert sorted(decoded) == list(range(1, 200, 3))
    assert [r.context for r in found if r.error] == list(range(1, 200, 6))
    assert [r.context for r in found if r.outputs] == list(range(4, 200, 6))
    plain = results(model, numbered(5)[4:], grey)[0]
    np.testing.assert_array_equal(found[4].outputs["logits"], plain.outputs["logits"])


def test_items_that_are_all_done_need_no_request(model: Any) -> None:
    runtime = model.runtime(BOTH)

    class Unused:
        plan = runtime.plan

    done = [Item(item.source, item.context, is_done=True) for item in numbered(100)]
    assert [r.context for r in results(model, done, grey, open_runtime=Unused)] == list(range(100))
    failed = results(model, numbered(100), failing, open_runtime=Unused)
    assert all(r.error is not None for r in failed) and len(failed) == 100


@pytest.mark.parametrize(("workers", "batch_size"), [(1, 1), (2, 1), (3, 50)])
def test_a_million_failing_items_are_taken_a_bounded_number_ahead(
    model: Any, workers: int, batch_size: int
) -> None:
    taken = 0

    def items() -> Any:
        nonlocal taken
        while True:
            taken += 1
            yield Item(Source(str(taken), file=""), None)

    with run(model, items(), failing, workers=workers, batch_size=batch_size) as found:
        for count in range(1, 501):
            next(found)
            assert taken - count <= most_ahead(workers, batch_size)


def test_decoding_goes_on_up_to_the_bound_while_nobody_takes_results(model: Any) -> None:
    changed, decoded = threading.Condition(), 0
    bound = most_ahead(2, 50)

    def decode(source: Source) -> np.ndarray:
        nonlocal decoded
        with changed:
            decoded += 1
            changed.notify()
        return grey(source)

    with run(model, numbered(2 * bound), decode, batch_size=50) as found:
        next(found)
        with changed:
            assert changed.wait_for(lambda: decoded == bound, HANG)
    assert decoded == bound


def test_items_are_all_taken_in_one_thread(model: Any) -> None:
    """Iterators of items need not be thread-safe."""
    threads = set()

    def items() -> Any:
        for item in numbered(100):
            threads.add(threading.current_thread())
            yield item

    assert len(results(model, items(), grey, batch_size=1)) == 100
    assert len(threads) == 1


def test_a_result_does_not_wait_for_the_next_item(model: Any) -> None:
    taken = threading.Semaphore(0)

    def items() -> Any:
        for item in numbered(9):
            yield item
            assert taken.acquire(timeout=HANG)

    count = 0
    with run(model, items(), grey) as found:
        for _ in found:
            count += 1
            taken.release()
    assert count == 9


def test_closing_early_does_not_wait_for_the_next_item(model: Any) -> None:
    closed, waited = threading.Event(), threading.Event()

    def items() -> Any:
        yield from numbered(1)
        if not closed.wait(HANG):
            waited.set()

    with run(model, items(), grey) as found:
        next(found)
    assert not waited.is_set()
    closed.set()


def test_closing_early_leaves_no_thread_and_the_runtime_goes_on(model: Any) -> None:
    for _ in range(3):
        with run(model, numbered(500), grey) as found:
            next(found)
        assert pipeline_threads("decode", "feed") == []
    assert len(results(model, numbered(30), grey)) == 30


@pytest.mark.parametrize("place", ["items", "decode", "runtime"])
def test_an_unexpected_error_reaches_the_caller_and_ends_all_threads(
    model: Any, place: str
) -> None:
    def fail(*_: Any) -> Any:
        raise ModelError("It broke.", "Mend it.")

    def broken() -> Any:
        yield from numbered(40)
        fail()

    items = broken() if place == "items" else numbered(40)
    options = {"open_runtime": fail} if place == "runtime" else {}
    with pytest.raises(ModelError, match="It broke"):
        results(model, items, fail if place == "decode" else grey, **options)
    assert pipeline_threads("decode", "feed") == []


class Stepwise:
    """A runtime whose requests end in order, one for each call of step."""

    def __init__(self, runtime: Any) -> None:
        self.plan, self._runtime = runtime.plan, runtime
        self._changed = threading.Condition()
        self._submitted = self._steps = 0

    def submit(self, images: Any) -> Any:
        self._submitted += 1
        return Request(self, self._submitted, self._runtime.submit(images))

    def step(self) -> None:
        with self._changed:
            self._steps += 1
            self._changed.notify_all()

    def has_ended(self, number: int, timeout: float) -> bool:
        """Wait until so many requests have ended, for so many seconds.

        In short waits: a signal that comes right before one is noticed after it.
        """
        end = time.monotonic() + timeout
        with self._changed:
            while number > self._steps and (left := end - time.monotonic()) > 0:
                self._changed.wait(min(left, 0.05))
            return number <= self._steps


@dataclass
class Request:
    runtime: Stepwise
    number: int
    pending: Any

    def result(self, timeout: float | None = None) -> Any:
        if not self.runtime.has_ended(self.number, HANG if timeout is None else timeout):
            raise TimeoutError
        return self.pending.result()


def test_no_result_waits_for_requests_that_still_run(model: Any) -> None:
    runtime = Stepwise(model.runtime(BOTH))
    size = runtime.plan.request_size
    with run(model, numbered(20 * size), grey, open_runtime=lambda: runtime) as found:
        for number in range(20):
            runtime.step()
            contexts = [next(found).context for _ in range(size)]
            assert contexts == list(range(number * size, number * size + size))


def test_an_interruption_loses_no_finished_result(model: Any) -> None:
    runtime = Stepwise(model.runtime(BOTH))
    count = 5 * runtime.plan.request_size
    for _ in range(5):
        runtime.step()
    found: list[int] = []
    all_found = threading.Event()
    main_thread = threading.get_ident()

    def interrupt() -> None:
        if all_found.wait(HANG):
            signal.pthread_kill(main_thread, signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with (
        pytest.raises(KeyboardInterrupt),
        run(model, numbered(2000), grey, open_runtime=lambda: runtime) as iterator,
    ):
        for result in iterator:
            found.append(result.context)
            if len(found) == count:
                all_found.set()
    thread.join(HANG)
    assert found == list(range(count))


@pytest.mark.parametrize("error", [ModelError("It broke.", "Mend it."), KeyboardInterrupt()])
def test_an_error_of_a_request_comes_after_the_results_before_it(
    model: Any, error: BaseException
) -> None:
    runtime = model.runtime(BOTH)
    size = runtime.plan.request_size

    class Failing:
        """The runtime, with a sixth request that fails."""

        plan = runtime.plan
        submitted = 0

        def submit(self, images: Any) -> Any:
            self.submitted += 1
            return self if self.submitted == 6 else runtime.submit(images)

        def result(self, timeout: float | None = None) -> Any:
            raise error

    found = []
    with (
        pytest.raises(type(error)) as caught,
        run(model, numbered(200), grey, open_runtime=Failing) as iterator,
    ):
        for result in iterator:
            found.append(result.context)
    assert caught.value is error
    assert found == list(range(5 * size))


class Clock:
    """The functions of the module time that Timings uses, of a time that passes when told to."""

    def __init__(self) -> None:
        self._threads: dict[int, float] = {}
        self._other = 0.0
        self._lock = threading.Lock()

    def spend(self, seconds: float) -> None:
        """Let this thread spend processor time."""
        with self._lock:
            thread = threading.get_ident()
            self._threads[thread] = self._threads.get(thread, 0.0) + seconds

    def spend_elsewhere(self, seconds: float) -> None:
        """Let other threads of the process, such as the runtime's, spend processor time."""
        with self._lock:
            self._other += seconds

    def thread_time(self) -> float:
        return self._threads.get(threading.get_ident(), 0.0)

    def process_time(self) -> float:
        return sum(self._threads.values()) + self._other

    perf_counter = staticmethod(time.perf_counter)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("nasnet_cli.timings.time", clock)
    return clock


def seconds_of(timings: Timings) -> tuple[dict[str, float], list[str]]:
    """The rows of the table, and the lines below them."""
    lines = timings.table(processors=1)
    rows = {name: float(value) for name, value, *_ in (line.split() for line in lines[:7])}
    return rows, lines[7:]


def test_timings_say_where_the_time_went(model: Any, clock: Clock) -> None:
    timings = Timings()

    def items() -> Any:
        for item in numbered(40):
            clock.spend(0.002)
            yield item

    def decode(source: Source) -> np.ndarray:
        with timings.spent("decode"):
            clock.spend(0.005)
        return grey(source)

    def open_runtime() -> Any:
        clock.spend(0.5)
        return Computing()

    class Computing:
        """The runtime, whose requests each take some processor time of threads of its own."""

        runtime = model.runtime(BOTH)
        plan = runtime.plan
        submitted = 0

        def submit(self, images: Any) -> Any:
            Computing.submitted += 1
            clock.spend_elsewhere(0.3)
            return self.runtime.submit(images)

    with run(model, items(), decode, open_runtime=open_runtime, timings=timings) as found:
        for _ in found:
            clock.spend(0.001)
    rows, (rate,) = seconds_of(timings)
    assert list(rows) == ["start", "list", "read", "decode", "write", "infer", "wait"]
    assert rows["start"] == 0.5
    assert rows["list"] == 0.08
    assert rows["read"] == 0
    assert rows["decode"] == 0.2
    assert rows["write"] == 0.04
    assert rows["infer"] == pytest.approx(0.3 * Computing.submitted)
    assert rate.startswith("Steady rate: ")


def test_timings_of_several_runs_begin_with_the_first(clock: Clock) -> None:
    timings = Timings()
    for _ in range(2):
        timings.ready()
        clock.spend(0.1)
    timings.finish()
    assert seconds_of(timings)[0]["infer"] == 0.2


def test_timings_count_only_decoded_images(model: Any) -> None:
    timings = Timings()
    items: list[Any] = [Item(i.source, None, is_done=i.context < 15) for i in numbered(40)]
    assert len(results(model, items, grey, timings=timings)) == 40
    assert timings.images == 25
