"""Fixtures that several tests share."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from nasnet_cli.jobs.spec import JobSpec
from nasnet_cli.model import Model
from nasnet_cli.models.listener import ProgressListener
from nasnet_cli.network.spec import CIFAR, MOBILE, NASNetA
from support import cli, disks, rights
from support.modules import TINY, copy_of_exports, copy_of_module, write_labels

# How long an example takes depends on what else the machine does.
hypothesis.settings.register_profile("no deadline", deadline=None)
hypothesis.settings.load_profile("no deadline")

# Who starts the tests in the background, or with nohup, has them ignore Ctrl-C or the terminal's end,
# and what they start as well.
with contextlib.suppress(ValueError):  # not in the main thread
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture
def uncovered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have processes that a test starts import nothing for `make coverage`."""
    monkeypatch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)


# Files of few and long tests, which come first: at the end, one process would wait for them.
LONG = ("test_tf1_consumer", "test_export", "test_tf2_modules", "test_fuzz_modules", "test_network")


# Tests may be skipped in CI for what a machine cannot be given: rights, file systems, and a Python
# that Debian no longer has. A missing program or package is a failure there.
ALLOWED_SKIPS = (
    disks.NOT_PERMITTED,
    "Python 3.7 is not on this machine",
    "TensorFlow 1.15 can't be installed here",
    "this file system doesn't keep the time of reading",
)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Iterator[Any]:
    report: pytest.TestReport = yield
    return fail_skip_in_ci(report)


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Iterator[Any]:
    report: pytest.CollectReport = yield
    return fail_skip_in_ci(report)


def fail_skip_in_ci(report: Any) -> Any:
    """Turn a skip whose reason is not allowed into a failure when CI is set."""
    if not report.skipped or hasattr(report, "wasxfail"):
        return report
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    if os.environ.get("CI") in ("1", "true") and not any(a in reason for a in ALLOWED_SKIPS):
        report.outcome = "failed"
        report.longrepr = (
            f"{reason}: not an allowed reason to skip a test in CI (tests/conftest.py)"
        )
    return report


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    places = {name: place for place, name in enumerate(LONG)}
    items.sort(key=lambda item: places.get(item.path.stem, len(LONG)))


@pytest.fixture(scope="session")
def nasnet() -> Callable[..., cli.Result]:
    """Run a command in the tests' process: fast, and right for most tests."""
    return cli.run_in_process


@pytest.fixture(scope="session")
def nasnet_process() -> Callable[..., cli.Result]:
    """Run a command as a process, where the process itself is tested."""
    return cli.run_process


@pytest.fixture(scope="session")
def tiny_spec() -> NASNetA:
    return TINY


@pytest.fixture(scope="session")
def kept_modules(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that holds shared modules; a temporary one where pytest has no cache."""
    cache = getattr(pytestconfig, "cache", None)
    return cache.mkdir("modules") if cache else tmp_path_factory.mktemp("kept")


@pytest.fixture(scope="session")
def tiny_module(kept_modules: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A TF1 Hub module of a very small NASNet-A with golden weights."""
    return copy_of_module(tmp_path_factory.mktemp("modules") / "tiny", TINY, kept_modules)


@pytest.fixture(scope="session")
def label_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """WordNet's ids and names for the seven classes of tiny_module; four of them are dogs."""
    path = tmp_path_factory.mktemp("labels") / "labels.txt"
    path.write_text(
        "n02099601 golden retriever\n"
        "n02099712 Labrador retriever\n"
        "n02110958 pug\n"
        "n02088364 beagle\n"
        "n02123045 tabby\n"
        "n01558993 robin\n"
        "n07753592 banana\n"
    )
    return path


@pytest.fixture(scope="session")
def golden_module(kept_modules: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The mobile module with golden weights."""
    return copy_of_module(tmp_path_factory.mktemp("modules") / "mobile", MOBILE, kept_modules)


@pytest.fixture(scope="session")
def labelled_module(tiny_module: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny module with labels, and a card that has its own preprocessing."""
    folder = shutil.copytree(tiny_module, tmp_path_factory.mktemp("labelled") / "tiny")
    return write_labels(folder)


@pytest.fixture(scope="session")
def runtime_files(
    labelled_module: Path, kept_modules: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A folder with the labelled module as support.modules.FILES, and features-* of each."""
    return copy_of_exports(tmp_path_factory.mktemp("files") / "all", labelled_module, kept_modules)


@pytest.fixture(scope="session")
def small_cifar() -> NASNetA:
    """A network with the stem, the raw first cell and the path dropout of the cifar size."""
    return replace(CIFAR, cells_per_stage=1, filters=8)


@pytest.fixture(scope="module")
def models_opened_once() -> Iterator[None]:
    """Have a file's runs share the open models: for tests of states and outputs.

    To open a model takes longer than all that a small run does with it.
    """
    open_model, opened = JobSpec.open_model, dict[str, Model]()

    def open_once(spec: JobSpec, *listener: ProgressListener) -> Model:
        place = Path(spec.model).resolve() if spec.model else None
        settings = (spec.labels, spec.preprocessing, spec.runtime, spec.precision)
        key = repr((place, *settings, spec.allow_unsafe_ops))
        if key not in opened:
            opened[key] = open_model(spec, *listener)
        return opened[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(JobSpec, "open_model", open_once)
        yield


@pytest.fixture
def cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the test's own."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("NASNET_CACHE_DIR", str(folder))
    return folder


@pytest.fixture
def public_path() -> Iterator[Path]:
    """A folder like tmp_path, which other users may enter."""
    with rights.public_folder() as folder:
        yield folder


@pytest.fixture
def as_nobody() -> Iterator[Callable[[], None]]:
    """A function that drops root's rights until the test ends."""
    with rights.as_nobody() as drop:
        yield drop


@pytest.fixture(scope="session", autouse=True)
def tests_own_temporary_files(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A folder for temporary files that goes with the tests: locks stay, and what kills leave."""
    folder = str(tmp_path_factory.mktemp("tmp"))
    with pytest.MonkeyPatch.context() as patch:
        # The names of Ray's sockets would be too long there.
        patch.setenv("RAY_TMPDIR", os.environ.get("RAY_TMPDIR", str(rights.TEMPORARY)))
        patch.setenv("TMPDIR", folder)
        patch.setattr(tempfile, "tempdir", folder)
        yield


@pytest.fixture(scope="session", autouse=True)
def tests_own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """One cache for all tests, so that each model is compiled once, and none in the user's.

    Nor is the user's default model the tests'.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NASNET_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.mktemp("config")))
        patch.delenv("NASNET_MODEL", raising=False)
        yield


@pytest.fixture(autouse=True)
def no_log_level(monkeypatch: pytest.MonkeyPatch) -> None:
    """No process that a test starts inherits what JAX sets where TensorFlow was imported by a test.

    nasnet itself imports TensorFlow with a level of its own, at which it is quiet.
    """
    monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL", raising=False)


@pytest.fixture(autouse=True)
def openings_end(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No model opens while the next test, or the end of monkeypatch, changes the environment."""
    yield
    cli.wait_for_openings()


@pytest.fixture(autouse=True)
def pillows_own_limit() -> Iterator[None]:
    """decode sets Pillow's pixel limit, which is one for the process: no test leaves it changed."""
    from PIL import Image

    before = Image.MAX_IMAGE_PIXELS
    yield
    Image.MAX_IMAGE_PIXELS = before
