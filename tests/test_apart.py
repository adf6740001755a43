"""Pictures of uncommon formats are decoded in processes apart, which may hang and crash."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from nasnet_cli.errors import InputError, NasnetError
from nasnet_cli.images import isolated
from nasnet_cli.images.isolated import DecoderPool
from nasnet_cli.images.load import Limits, load, pixels_of
from nasnet_cli.images.pixel_budget import PixelBudget
from nasnet_cli.images.preprocess import Preprocessing
from nasnet_cli.images.source import Source
from nasnet_cli.timings import Timings
from support.killing import contents

PREPROCESSING = Preprocessing((16, 24))
NOISE = Image.fromarray(np.random.default_rng(3).integers(0, 256, (40, 60, 3), dtype=np.uint8))

# A package that the product looks for when it meets a HEIC picture. This one's decoder does what
# the bytes after the head say, in C, as a broken one would.
DECODER = """
import ctypes, os, sys, warnings
from PIL import Image, ImageFile

python = ctypes.PyDLL(None)  # calls keep Python's lock
poisoned = False

class Picture(ImageFile.ImageFile):
    format = "HEIF"

    def _open(self):
        if poisoned:
            ctypes.string_at(0)
        self.word = self.fp.read()[64:].decode()
        self._mode, self._size = "RGB", (60, 40)
        if self.word == "hang at the head":
            python.pause()

    def load(self):
        global poisoned
        if self.word == "crash":
            ctypes.string_at(0)
        if self.word == "hang":
            python.pause()
        if self.word == "exit":
            os._exit(7)
        if self.word == "all memory":
            bytearray(1 << 33)
        if self.word == "chatter":
            os.write(1, b"nonsense"), os.write(2, b"nonsense"), warnings.warn("nonsense")
        poisoned = self.word == "poison"  # what comes after it crashes
        self.im = Image.new("RGB", self.size, "teal").im
        return Image.Image.load(self)

def register_heif_opener():
    Image.register_open("HEIF", Picture, lambda head: head[4:8] == b"ftyp")
"""


def heic(word: str) -> bytes:
    head = b"\0\0\0\x18ftypheic\0\0\0\0heicmif1"
    return head.ljust(64, b"\0") + word.encode()


def saved(format: str, image: Image.Image = NOISE) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format)
    return stream.getvalue()


def member(data: bytes) -> Source:
    return Source("a.zip!/picture", member=lambda _: data)


@pytest.fixture
def hostile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the decoder that does what pictures say, which processes apart will import."""
    folder = tmp_path / "packages"
    folder.mkdir()
    (folder / "pillow_heif.py").write_text(DECODER)
    monkeypatch.syspath_prepend(str(folder))
    return folder


@pytest.fixture
def decoders() -> Iterator[DecoderPool]:
    with DecoderPool() as decoders:
        yield decoders


def children() -> set[int]:
    """The processes that this one has started, zombies too."""
    found = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
        except (OSError, ValueError, IndexError):
            continue
        if parent == os.getpid():
            found.add(int(stat.parent.name))
    return found


def refused(call: Callable[..., object], *arguments: object, **options: object) -> tuple[str, str]:
    with pytest.raises(InputError) as caught:
        call(*arguments, **options)
    return caught.value.kind, caught.value.message


# The same results as in this process


def here(data: bytes, preprocessing: Preprocessing = PREPROCESSING) -> NDArray[np.generic]:
    return pixels_of(
        io.BytesIO(data), preprocessing, max_pixels=10_000, reserve=lambda pixels: None
    )


@pytest.mark.parametrize("resample", ["bilinear", "tf1"])
def test_uncommon_formats_give_the_same_pixels_as_in_this_process(
    resample: str, decoders: DecoderPool, tmp_path: Path
) -> None:
    preprocessing = Preprocessing((16, 24), resize="pad", resample=resample)  # type: ignore[arg-type]
    before = children()
    for format in ("TIFF", "JPEG2000", "AVIF", "PPM", "TGA", "ICO", "PCX", "SGI", "QOI", "DDS"):
        data = saved(format)
        expected = here(data, preprocessing)
        (tmp_path / format).write_bytes(data)
        for source in (member(data), Source(format, file=str(tmp_path / format))):
            loaded = load(source, preprocessing, decoders=decoders)
            assert loaded.dtype == expected.dtype and np.array_equal(loaded, expected), format
    assert len(children() - before) == 1


def test_uncommon_formats_fail_with_the_same_words_as_in_this_process(
    decoders: DecoderPool,
) -> None:
    tiff = saved("TIFF")
    bad = [saved(name)[:-900] for name in ("TIFF", "JPEG2000", "PPM", "TGA", "QOI")]
    bad += [b"II*\0" + b"\xff" * 200, tiff[:40], b"text, not a picture", b"\xff\x0ajpeg xl"]
    bad += [saved("TIFF", Image.new("L", (200, 200))), saved("JPEG2000")[:200]]
    kinds = set()
    for data in bad:
        expected = refused(here, data)
        limits = Limits(max_pixels=10_000)
        found = refused(load, member(data), PREPROCESSING, limits, decoders=decoders)
        assert found == expected
        kinds.add(found[0])
    assert kinds == {"decode_failed", "not_an_image", "too_large", "truncated", "unsupported"}


def test_large_files_are_decoded_from_where_they_are(decoders: DecoderPool, tmp_path: Path) -> None:
    image = NOISE.resize((3000, 2000))
    image.save(tmp_path / "large.tif")
    assert (tmp_path / "large.tif").stat().st_size > 1 << 24
    source = Source("large.tif", file=str(tmp_path / "large.tif"))
    with (tmp_path / "large.tif").open("rb") as stream:
        expected = pixels_of(stream, PREPROCESSING, max_pixels=10**7, reserve=lambda pixels: None)
    assert np.array_equal(load(source, PREPROCESSING, decoders=decoders), expected)


def test_common_formats_need_no_other_process(decoders: DecoderPool) -> None:
    before = children()
    for format in ("JPEG", "PNG", "WEBP", "GIF", "BMP"):
        load(member(saved(format)), PREPROCESSING, decoders=decoders)
    assert refused(load, member(b""), PREPROCESSING, decoders=decoders)[0] == "not_an_image"
    assert children() == before


def test_a_process_of_ones_own_ends_with_the_picture() -> None:
    before = children()
    load(member(saved("TIFF")), PREPROCESSING)
    assert children() == before


# What goes wrong in a decoder


def test_a_crash_is_the_error_of_its_picture(hostile: Path, decoders: DecoderPool) -> None:
    good = load(member(heic("good")), PREPROCESSING, decoders=decoders)
    for word, how in (("crash", "SIGSEGV"), ("exit", "exit status 7")):
        failed = refused(load, member(heic(word)), PREPROCESSING, decoders=decoders)
        assert failed == ("crashed", f"Decoding it crashed ({how}).")
        again = load(member(heic("good")), PREPROCESSING, decoders=decoders)
        assert np.array_equal(again, good)


def test_a_crash_that_the_picture_before_has_caused_is_no_error(
    hostile: Path, decoders: DecoderPool
) -> None:
    words = ("good", "poison", "good")
    arrays = [load(member(heic(word)), PREPROCESSING, decoders=decoders) for word in words]
    assert np.array_equal(arrays[0], arrays[2])


def test_a_process_that_the_system_has_ended_is_replaced(decoders: DecoderPool) -> None:
    before, data = children(), saved("TIFF")
    first = load(member(data), PREPROCESSING, decoders=decoders)
    (pid,) = children() - before
    os.kill(pid, signal.SIGKILL)
    assert np.array_equal(load(member(data), PREPROCESSING, decoders=decoders), first)
    assert pid not in children()


@pytest.mark.parametrize("word", ["hang", "hang at the head"])
def test_a_decoder_that_hangs_is_ended(
    word: str, hostile: Path, decoders: DecoderPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(isolated, "PATIENCE", 1.0)
    before, begin = children(), time.monotonic()
    failed = refused(load, member(heic(word)), PREPROCESSING, decoders=decoders)
    assert failed == ("timeout", "Decoding it took more than 1 seconds.")
    assert time.monotonic() - begin < 20
    assert children() == before


def test_a_decoder_that_wants_all_memory_gets_none(hostile: Path, decoders: DecoderPool) -> None:
    failed = refused(load, member(heic("all memory")), PREPROCESSING, decoders=decoders)
    assert failed == ("too_large", "There is not enough memory to decode it.")


def test_what_a_decoder_writes_reaches_nobody(
    hostile: Path, decoders: DecoderPool, capfd: pytest.CaptureFixture[str]
) -> None:
    load(member(heic("chatter")), PREPROCESSING, decoders=decoders)
    assert capfd.readouterr() == ("", "")


# Waiting, memory and time


def test_waiting_for_room_is_not_the_decoders_time(
    hostile: Path, decoders: DecoderPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(isolated, "PATIENCE", 2.0)
    budget, order = PixelBudget(60 * 40), list[str]()

    def decode() -> None:
        load(member(heic("good")), PREPROCESSING, budget=budget, decoders=decoders)
        order.append("decoded")

    thread = threading.Thread(target=decode)
    with budget.hold(1):
        thread.start()
        thread.join(4)
        order.append("room")
    thread.join(20)
    assert order == ["room", "decoded"]
    with budget.hold(60 * 40):  # all of it has come back
        pass


def test_the_time_of_other_processes_is_decoding_time(decoders: DecoderPool) -> None:
    data = saved("JPEG2000", NOISE.resize((900, 600)))
    timings = Timings()
    timings.ready()
    for _ in range(3):
        load(member(data), PREPROCESSING, decoders=decoders, timings=timings)
    timings.finish()
    rows = dict(line.split()[:2] for line in timings.table(2) if "%" in line)
    assert float(rows["decode"]) > 3 * float(rows["infer"]) >= 0


def test_closing_ends_what_hangs_too(hostile: Path) -> None:
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
    time.sleep(1.5)
    assert len(children() - before) == 2
    decoders.close()
    for thread in threads:
        thread.join(20)
    assert len(caught) == 2 and children() == before
    with pytest.raises(RuntimeError):
        load(member(heic("good")), PREPROCESSING, decoders=decoders)
    assert children() == before


def test_a_machine_that_allows_no_other_process_is_told_apart_from_a_bad_picture(
    decoders: DecoderPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for executable, why in (("/bin/false", "exit status 1"), ("/no/python", "No such file")):
        monkeypatch.setattr(sys, "executable", executable)
        with pytest.raises(NasnetError, match=f"doesn't start .*{why}"):
            load(member(saved("TIFF")), PREPROCESSING, decoders=decoders)


# Whole runs


class Run:
    """nasnet as a user starts it, in a session of its own, and the processes that belong to it."""

    def __init__(self, folder: Path, hostile: Path, *arguments: str, patience: float) -> None:
        self.mark = f"NASNET_TEST_MARK={uuid.uuid4()}"
        name, _, value = self.mark.partition("=")
        code = (
            "from nasnet_cli.images import isolated\n"
            f"isolated.PATIENCE = {patience}\n"
            "from nasnet_cli.cli.main import run\n"
            "run()\n"
        )
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

    def ends(self) -> tuple[int, str, str]:
        out, err = self.process.communicate(timeout=60)
        return self.process.returncode, out, err

    def others(self) -> list[int]:
        """The processes that it has started and that are there."""
        found = []
        for environ in Path("/proc").glob("[0-9]*/environ"):
            try:
                is_marked = self.mark.encode() in environ.read_bytes().split(b"\0")
            except OSError:
                continue
            if is_marked and int(environ.parent.name) != self.process.pid:
                found.append(int(environ.parent.name))
        return found

    @staticmethod
    def waits_until(condition: Callable[[], bool]) -> None:
        end = time.monotonic() + 30
        while not condition():
            assert time.monotonic() < end
            time.sleep(0.02)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for i in range(8):
        NOISE.rotate(40 * i).save(folder / f"{i}.{('jpg', 'tif')[i % 2]}")
    return folder


def test_a_run_goes_on_past_pictures_that_crash_and_hang(
    photos: Path, hostile: Path, tiny_module: Path, tmp_path: Path
) -> None:
    def rows(*arguments: str) -> tuple[int, str, dict[str, str]]:
        run = Run(
            tmp_path, hostile, "classify", "photos", "-m", str(tiny_module), *arguments, patience=4
        )
        status, out, err = run.ends()
        assert run.others() == []
        return status, err, {json.loads(line)["path"]: line for line in out.splitlines()}

    status, _, expected = rows()
    assert status == 0 and len(expected) == 8
    for name, word in (("0a", "hang"), ("2a", "crash"), ("3a", "hang at the head")):
        (photos / f"{name}.heic").write_bytes(heic(word))
    status, err, found = rows("--workers", "2")
    assert status == 3
    failed = {path: json.loads(found.pop(path)) for path in list(found) if "heic" in path}
    assert found == expected
    assert {path: row["error"]["kind"] for path, row in failed.items()} == {
        "photos/0a.heic": "timeout",
        "photos/2a.heic": "crashed",
        "photos/3a.heic": "timeout",
    }
    assert "Traceback" not in err and "nonsense" not in err


def test_results_have_the_same_bytes_for_any_number_of_workers(
    photos: Path, hostile: Path, tiny_module: Path, tmp_path: Path
) -> None:
    (photos / "2a.heic").write_bytes(heic("crash"))
    made = []
    for workers in ("1", "8"):
        out = tmp_path / workers
        out.mkdir()
        run = Run(
            tmp_path, hostile, "embed", "photos", "-m", str(tiny_module), "--workers", workers,
            "-o", str(out / "v.npy"), patience=60,
        )  # fmt: skip
        assert run.ends()[0] == 3
        files = contents(out)
        made.append({name: files[name] for name in ("v.npy", "v.jsonl")})
    assert made[0] == made[1]


def test_no_process_outlives_a_run_that_is_killed(
    photos: Path, hostile: Path, tiny_module: Path, tmp_path: Path
) -> None:
    (photos / "0a.heic").write_bytes(heic("hang"))
    arguments = ("classify", "photos", "-m", str(tiny_module), "--workers", "2")
    run = Run(tmp_path, hostile, *arguments, patience=60)
    run.waits_until(lambda: len(run.others()) == 2)
    time.sleep(1)  # one hangs, the other is idle
    run.process.kill()
    run.ends()
    run.waits_until(lambda: not run.others())


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["Ctrl-C", "SIGTERM"]
)
def test_an_interrupted_run_ends_at_once_and_quietly(
    number: int, status: int,
    photos: Path, hostile: Path, tiny_module: Path, tmp_path: Path,
) -> None:  # fmt: skip
    (photos / "0a.heic").write_bytes(heic("hang"))
    arguments = ("embed", "photos", "-m", str(tiny_module), "-o", "v.npy", "-q", "--workers", "2")
    run = Run(tmp_path, hostile, *arguments, patience=60)
    run.waits_until(lambda: len(run.others()) == 2)
    time.sleep(1)
    begin = time.monotonic()
    os.killpg(run.process.pid, number)  # as a terminal sends it
    code, out, err = run.ends()
    assert code == status and time.monotonic() - begin < 40  # less than patience, on a busy machine
    assert out == "" and err.strip() in ("", "Interrupted.")
    assert run.others() == []
