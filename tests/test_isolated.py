"""Decoding of uncommon formats in separate processes, which may hang and crash."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from nasnet_cli.errors import InputError, NasnetError
from nasnet_cli.images import isolated
from nasnet_cli.images.isolated import DecoderPool
from nasnet_cli.images.load import Limits, decode_and_preprocess, load
from nasnet_cli.images.pixel_budget import PixelBudget
from nasnet_cli.images.preprocess import Preprocessing
from nasnet_cli.images.source import Source
from nasnet_cli.timings import Timings
from support.cli import WATCHDOG
from support.killing import contents
from support.waiting import wait_until

PREPROCESSING = Preprocessing((16, 24))
NOISE = Image.fromarray(np.random.default_rng(3).integers(0, 256, (40, 60, 3), dtype=np.uint8))

# Stands in for the package that decodes HEIC. This decoder does what the bytes after the head say,
# in C, as a broken one would.
DECODER = """
import ctypes, os, pathlib, sys, warnings
from PIL import Image, ImageFile

python = ctypes.PyDLL(None)  # calls keep Python's lock
poisoned = False

def hang():
    pathlib.Path(__file__).with_name(f"hanging-{os.getpid()}").touch()
    python.pause()

class HostileImage(ImageFile.ImageFile):
    format = "HEIF"

    def _open(self):
        if poisoned:
            ctypes.string_at(0)
        self.word = self.fp.read()[64:].decode()
        self._mode, self._size = "RGB", (60, 40)
        if self.word == "hang at the head":
            hang()

    def load(self):
        global poisoned
        if self.word == "crash":
            ctypes.string_at(0)
        if self.word == "hang":
            hang()
        if self.word == "exit":
            os._exit(7)
        if self.word == "all memory":
            bytearray(1 << 33)
        if self.word == "chatter":
            os.write(1, b"nonsense"), os.write(2, b"nonsense"), warnings.warn("nonsense")
        poisoned = self.word == "poison"  # what comes after it crashes
        self.im = Image.new("RGB", self.size, "teal").im
        return Image.Image.load(self)

def register_heif_opener(thumbnails):
    Image.register_open("HEIF", HostileImage, lambda head: head[4:8] == b"ftyp")
"""

# A process gets an open file from another. Without that, decoders run in the process of the tests.
pytestmark = pytest.mark.linux


def heic(word: str) -> bytes:
    head = b"\0\0\0\x18ftypheic\0\0\0\0heicmif1"
    return head.ljust(64, b"\0") + word.encode()


def saved(format: str, image: Image.Image = NOISE) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format)
    return stream.getvalue()


def member(data: bytes) -> Source:
    return Source("a.zip!/image", member=lambda _: data)


@pytest.fixture
def hostile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of the hostile decoder, which workers will import."""
    folder = tmp_path / "packages"
    folder.mkdir()
    (folder / "pi_heif.py").write_text(DECODER)
    monkeypatch.syspath_prepend(str(folder))
    return folder


def count_hanging(hostile: Path) -> int:
    """Return the number of workers that have begun to hang."""
    return len(list(hostile.glob("hanging-*")))


@pytest.fixture
def decoders() -> Iterator[DecoderPool]:
    with DecoderPool() as decoders:
        yield decoders


def children() -> set[int]:
    """Return the processes that this one has started, with zombies."""
    pids = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
        except (OSError, ValueError, IndexError):
            continue
        if parent == os.getpid():
            pids.add(int(stat.parent.name))
    return pids


def load_error(
    call: Callable[..., object], *arguments: object, **options: object
) -> tuple[str, str]:
    with pytest.raises(InputError) as caught:
        call(*arguments, **options)
    return caught.value.kind, caught.value.message


# The same results as in this process


def decode_here(data: bytes, preprocessing: Preprocessing = PREPROCESSING) -> NDArray[np.generic]:
    return decode_and_preprocess(
        io.BytesIO(data), preprocessing, max_pixels=10_000, reserve=lambda pixels: None
    )


@pytest.mark.parametrize("resample", ["bilinear", "tf1"])
def test_workers_return_the_same_pixels(
    resample: str, decoders: DecoderPool, tmp_path: Path
) -> None:
    preprocessing = Preprocessing((16, 24), resize="pad", resample=resample)  # type: ignore[arg-type]
    before = children()
    for format in ("TIFF", "JPEG2000", "AVIF", "PPM", "TGA", "ICO", "PCX", "SGI", "QOI", "DDS"):
        data = saved(format)
        expected = decode_here(data, preprocessing)
        (tmp_path / format).write_bytes(data)
        for source in (member(data), Source(format, file=str(tmp_path / format))):
            loaded = load(source, preprocessing, decoders=decoders)
            assert loaded.dtype == expected.dtype and np.array_equal(loaded, expected), format
    assert len(children() - before) == 1


def test_workers_return_the_same_errors(
    decoders: DecoderPool,
) -> None:
    tiff = saved("TIFF")
    bad = [saved(name)[:-900] for name in ("TIFF", "JPEG2000", "PPM", "TGA", "QOI")]
    bad += [b"II*\0" + b"\xff" * 200, tiff[:40], b"text, not an image", b"\xff\x0ajpeg xl"]
    bad += [saved("TIFF", Image.new("L", (200, 200))), saved("JPEG2000")[:200]]
    kinds = set()
    for data in bad:
        expected = load_error(decode_here, data)
        limits = Limits(max_pixels=10_000)
        actual = load_error(load, member(data), PREPROCESSING, limits, decoders=decoders)
        assert actual == expected
        kinds.add(actual[0])
    assert kinds == {"decode_failed", "not_an_image", "too_large", "truncated", "unsupported"}


def test_large_files_are_read_from_disk(decoders: DecoderPool, tmp_path: Path) -> None:
    image = NOISE.resize((3000, 2000))
    image.save(tmp_path / "large.tif")
    assert (tmp_path / "large.tif").stat().st_size > 1 << 24
    source = Source("large.tif", file=str(tmp_path / "large.tif"))
    with (tmp_path / "large.tif").open("rb") as stream:
        expected = decode_and_preprocess(
            stream, PREPROCESSING, max_pixels=10**7, reserve=lambda pixels: None
        )
    assert np.array_equal(load(source, PREPROCESSING, decoders=decoders), expected)


def test_common_formats_start_no_worker(decoders: DecoderPool) -> None:
    before = children()
    for format in ("JPEG", "PNG", "WEBP", "GIF", "BMP"):
        load(member(saved(format)), PREPROCESSING, decoders=decoders)
    assert load_error(load, member(b""), PREPROCESSING, decoders=decoders)[0] == "not_an_image"
    assert children() == before


def test_worker_without_a_pool_ends_with_its_image() -> None:
    before = children()
    load(member(saved("TIFF")), PREPROCESSING)
    assert children() == before


# Decoders that fail


def test_crash_is_an_error_of_its_image(hostile: Path, decoders: DecoderPool) -> None:
    good = load(member(heic("good")), PREPROCESSING, decoders=decoders)
    for word, reason in (("crash", "SIGSEGV"), ("exit", "exit status 7")):
        failed = load_error(load, member(heic(word)), PREPROCESSING, decoders=decoders)
        assert failed == ("crashed", f"Decoding it crashed ({reason}).")
        again = load(member(heic("good")), PREPROCESSING, decoders=decoders)
        assert np.array_equal(again, good)


def test_crash_caused_by_the_image_before_is_retried(hostile: Path, decoders: DecoderPool) -> None:
    words = ("good", "poison", "good")
    arrays = [load(member(heic(word)), PREPROCESSING, decoders=decoders) for word in words]
    assert np.array_equal(arrays[0], arrays[2])


def test_killed_worker_is_replaced(decoders: DecoderPool) -> None:
    before, data = children(), saved("TIFF")
    first = load(member(data), PREPROCESSING, decoders=decoders)
    (pid,) = children() - before
    os.kill(pid, signal.SIGKILL)
    assert np.array_equal(load(member(data), PREPROCESSING, decoders=decoders), first)
    assert pid not in children()


@pytest.mark.parametrize("word", ["hang", "hang at the head"])
def test_hanging_decoder_times_out(
    word: str, hostile: Path, decoders: DecoderPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(isolated, "TIMEOUT", 1.0)
    before = children()
    failed = load_error(load, member(heic(word)), PREPROCESSING, decoders=decoders)
    assert failed == ("timeout", "Decoding it took more than 1 seconds.")
    assert children() == before


def test_decoder_memory_is_limited(hostile: Path, decoders: DecoderPool) -> None:
    failed = load_error(load, member(heic("all memory")), PREPROCESSING, decoders=decoders)
    assert failed == ("too_large", "There is not enough memory to decode it.")


def test_output_of_decoders_is_discarded(
    hostile: Path, decoders: DecoderPool, capfd: pytest.CaptureFixture[str]
) -> None:
    load(member(heic("chatter")), PREPROCESSING, decoders=decoders)
    assert capfd.readouterr() == ("", "")


# Waiting and timings


def test_waiting_for_pixels_does_not_time_out(
    hostile: Path, decoders: DecoderPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The time allowed begins anew when there is room."""
    budget, order = PixelBudget(60 * 40), list[str]()

    def timeout(_: int) -> float:
        order.append("timeout")
        return isolated.TIMEOUT

    monkeypatch.setattr(isolated, "_timeout", timeout)

    def decode() -> None:
        load(member(heic("good")), PREPROCESSING, budget=budget, decoders=decoders)
        order.append("decoded")

    with ThreadPoolExecutor(1) as pool, budget.hold(1):
        decoding = pool.submit(decode)
        wait_until(budget._turn.locked)  # it waits for room
        order.append("room")
    decoding.result()
    assert order == ["timeout", "room", "timeout", "decoded"]
    with budget.hold(60 * 40):  # all pixels are free again
        pass


def test_time_of_workers_counts_as_decoding(decoders: DecoderPool) -> None:
    data = saved("JPEG2000", NOISE.resize((900, 600)))
    timings = Timings()
    timings.ready()
    for _ in range(3):
        load(member(data), PREPROCESSING, decoders=decoders, timings=timings)
    timings.finish()
    rows = dict(line.split()[:2] for line in timings.table(2) if "%" in line)
    assert float(rows["decode"]) > 3 * float(rows["infer"]) >= 0


def test_close_ends_hanging_workers(hostile: Path) -> None:
    before, decoders = children(), DecoderPool()
    caught: list[BaseException] = []

    def decode(word: str) -> None:
        try:
            load(member(heic(word)), PREPROCESSING, decoders=decoders)
        except (InputError, RuntimeError) as error:
            caught.append(error)

    threads = [threading.Thread(target=decode, args=("hang",)) for _ in range(2)]
    for thread in threads:
        thread.start()
    wait_until(lambda: count_hanging(hostile) == 2)
    assert len(children() - before) == 2
    decoders.close()
    for thread in threads:
        thread.join()
    assert len(caught) == 2 and children() == before
    with pytest.raises(RuntimeError):
        load(member(heic("good")), PREPROCESSING, decoders=decoders)
    assert children() == before


def test_worker_that_does_not_start_is_not_an_error_of_the_image(
    decoders: DecoderPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for executable, reason in (("/bin/false", "exit status 1"), ("/no/python", "No such file")):
        monkeypatch.setattr(sys, "executable", executable)
        with pytest.raises(NasnetError, match=f"doesn't start .*{reason}"):
            load(member(saved("TIFF")), PREPROCESSING, decoders=decoders)


def test_worker_that_is_killed_while_it_starts_is_started_once_more(
    decoders: DecoderPool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    python, mark = tmp_path / "python", tmp_path / "mark"
    python.write_text(
        f'#!/bin/sh\n[ -e {mark} ] || {{ touch {mark}; kill -9 $$; }}\nexec {sys.executable} "$@"\n'
    )
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    load(member(saved("TIFF")), PREPROCESSING, decoders=decoders)
    python.write_text("#!/bin/sh\nkill -9 $$\n")
    with pytest.raises(NasnetError, match=r"doesn't start .*SIGKILL"):
        load(member(saved("TIFF")), PREPROCESSING, decoders=DecoderPool())


def test_whatever_a_decoder_raises_is_the_row_of_its_image(
    nasnet: Callable[..., Any], tiny_module: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def preprocess(image: Image.Image, *_: object) -> object:
        return {}[image.size]

    (tmp_path / "a.jpg").write_bytes(saved("JPEG"))
    monkeypatch.setattr("nasnet_cli.images.load.preprocess", preprocess)
    done = nasnet("classify", tmp_path, "-m", tiny_module, "-v", expect=3)
    assert done.rows[0]["error"]["kind"] == "decode_failed"
    assert "KeyError" not in done.stdout and "(KeyError)" in done.stderr


# Whole runs


# Only images that hang run out of time: others may take as long as a busy machine needs.
IMPATIENT = """
import os, threading
from nasnet_cli.images import isolated
decode, image = isolated._Worker.run, threading.local()
def look_and_decode(worker, task):
    image.hangs = b"hang" in os.pread(task.descriptor, 100, 0)
    return decode(worker, task)
isolated._Worker.run = look_and_decode
isolated._timeout = lambda size: 1.0 if image.hangs else 600.0
"""
PATIENT = """
from nasnet_cli.images import isolated
isolated.TIMEOUT = 600.0
"""


class Run:
    """A nasnet command in a session of its own, and the processes that it starts."""

    def __init__(self, folder: Path, hostile: Path, *arguments: str, limits: str = PATIENT) -> None:
        self.mark = f"NASNET_TEST_MARK={uuid.uuid4()}"
        name, _, value = self.mark.partition("=")
        code = f"{limits}\nfrom nasnet_cli.cli.main import run\nrun()\n"
        packages = os.pathsep.join((str(hostile), os.environ.get("PYTHONPATH", "")))
        self.process = subprocess.Popen(
            [sys.executable, "-c", code, *arguments],
            cwd=folder,
            env={**os.environ, name: value, "PYTHONPATH": packages},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def wait(self) -> tuple[int, str, str]:
        out, err = self.process.communicate(timeout=WATCHDOG)
        return self.process.returncode, out, err

    def workers(self) -> list[int]:
        """Return the processes that it has started and that still run."""
        pids = []
        for environ in Path("/proc").glob("[0-9]*/environ"):
            try:
                is_marked = self.mark.encode() in environ.read_bytes().split(b"\0")
            except OSError:
                continue
            if is_marked and int(environ.parent.name) != self.process.pid:
                pids.append(int(environ.parent.name))
        return pids


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for i in range(8):
        NOISE.rotate(40 * i).save(folder / f"{i}.{('jpg', 'tif')[i % 2]}")
    return folder


def test_run_continues_after_images_that_crash_and_hang(
    photos: Path, hostile: Path, tiny_module: Path, tmp_path: Path
) -> None:
    def rows(*arguments: str) -> tuple[int, str, dict[str, str]]:
        run = Run(
            *(tmp_path, hostile, "classify", "photos", "-m", str(tiny_module), *arguments),
            limits=IMPATIENT,
        )
        status, out, err = run.wait()
        assert run.workers() == []
        return status, err, {json.loads(line)["path"]: line for line in out.splitlines()}

    status, _, expected = rows()
    assert status == 0 and len(expected) == 8
    for name, word in (("0a", "hang"), ("2a", "crash"), ("3a", "hang at the head")):
        (photos / f"{name}.heic").write_bytes(heic(word))
    status, err, actual = rows("--workers", "2")
    assert status == 3
    failed = {path: json.loads(actual.pop(path)) for path in list(actual) if "heic" in path}
    assert actual == expected
    assert {path: row["error"]["kind"] for path, row in failed.items()} == {
        "photos/0a.heic": "timeout",
        "photos/2a.heic": "crashed",
        "photos/3a.heic": "timeout",
    }
    assert "Traceback" not in err and "nonsense" not in err


def test_results_are_the_same_for_any_number_of_workers(
    photos: Path, hostile: Path, tiny_module: Path, tmp_path: Path
) -> None:
    (photos / "2a.heic").write_bytes(heic("crash"))
    outputs = []
    for workers in ("1", "8"):
        out = tmp_path / workers
        out.mkdir()
        run = Run(
            tmp_path, hostile, "embed", "photos", "-m", str(tiny_module), "--workers", workers,
            "-o", str(out / "v.npy"),
        )  # fmt: skip
        assert run.wait()[0] == 3
        files = contents(out)
        outputs.append({name: files[name] for name in ("v.npy", "v.jsonl")})
    assert outputs[0] == outputs[1]


def test_no_worker_outlives_a_killed_run(
    photos: Path, hostile: Path, tiny_module: Path, tmp_path: Path
) -> None:
    (photos / "0a.heic").write_bytes(heic("hang"))
    arguments = ("classify", "photos", "-m", str(tiny_module), "--workers", "2")
    run = Run(tmp_path, hostile, *arguments)
    wait_until(lambda: len(run.workers()) == 2 and count_hanging(hostile) == 1)
    run.process.kill()
    run.wait()
    wait_until(lambda: not run.workers())


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["Ctrl-C", "SIGTERM"]
)
def test_interrupted_run_ends_at_once(
    number: int, status: int,
    photos: Path, hostile: Path, tiny_module: Path, tmp_path: Path,
) -> None:  # fmt: skip
    (photos / "0a.heic").write_bytes(heic("hang"))
    arguments = ("embed", "photos", "-m", str(tiny_module), "-o", "v.npy", "-q", "--workers", "2")
    run = Run(tmp_path, hostile, *arguments)
    wait_until(lambda: len(run.workers()) == 2 and count_hanging(hostile) == 1)
    os.killpg(run.process.pid, number)  # as a terminal does
    code, out, err = run.wait()  # in less than the timeout
    assert code == status
    assert out == "" and err.strip() in ("", "Interrupted.")
    wait_until(lambda: not run.workers())
