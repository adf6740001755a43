"""Signals end a run whatever it waits for; nothing here depends on how soon.

tests/faults/signals.py measures that.
"""

from __future__ import annotations

import errno
import itertools
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from faults.signals import run_once
from support.cli import NASNET, WATCHDOG
from support.loopback import serving
from support.others import lite
from support.waiting import wait_until
from test_safety import write_module

STATUS = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}
pytestmark = pytest.mark.linux

ALL = pytest.mark.parametrize("sent", list(STATUS), ids=lambda sent: sent.name)

# A decoder in C that never returns, after it has left a file that says so.
HANGING_DECODER = """
import ctypes, os, sys
from pathlib import Path
from nasnet_cli.images import load
usual = load.decode_and_preprocess
def decode(stream, *arguments, **more):
    if len(stream.getbuffer()) == 7:
        Path(os.environ["MARK"]).touch()
        while True:
            ctypes.CDLL(None).sleep(1000)
    return usual(stream, *arguments, **more)
load.decode_and_preprocess = decode
from nasnet_cli.cli.main import run
run()
"""

# A runtime that opens its model again and again, and has left a file when it begins once more: the
# thread is in native code nearly all of the time.
OPENING = """
import importlib, os, sys
from pathlib import Path
module, name, method = sys.argv.pop(1).split(":")
runtime = getattr(importlib.import_module(f"nasnet_cli.runtime.{module}"), name)
usual = getattr(runtime, method)
def again(self, *arguments):
    usual(self, *arguments)
    Path(os.environ["MARK"]).touch()
    while True:
        usual(self, *arguments)
setattr(runtime, method, again)
from nasnet_cli.cli.main import run
run()
"""


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photos" / "a.jpg"
    path.parent.mkdir()
    Image.linear_gradient("L").save(path)
    return path


@contextmanager
def started(*arguments: object, **variables: str) -> Iterator[subprocess.Popen[str]]:
    """Run a command until the end of the block."""
    first, *others = arguments
    command = [*first] if isinstance(first, list) else [*NASNET, first]
    with subprocess.Popen(
        [*map(str, command), *map(str, others)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **variables},
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def ends(process: subprocess.Popen[str], sent: signal.Signals) -> str:
    """Wait for the end of a process that got a signal, and return its standard error."""
    _, stderr = process.communicate(timeout=WATCHDOG)
    assert process.returncode == STATUS[sent], stderr
    assert "Traceback" not in stderr and "Exception ignored" not in stderr
    return stderr


@ALL
def test_a_decoder_that_never_returns(
    sent: signal.Signals, photo: Path, tiny_module: Path, tmp_path: Path
) -> None:
    (photo.parent / "b.jpg").write_bytes(b"damaged")
    (photo.parent / "c.jpg").write_bytes(b"\xff\xd8\xff1234")
    mark, out = tmp_path / "mark", tmp_path / "out.jsonl"
    state = tmp_path / ".out.jsonl.resume"
    arguments = ("classify", photo.parent, "-m", tiny_module, "-o", out, "-v")
    with started([sys.executable, "-c", HANGING_DECODER], *arguments, MARK=str(mark)) as process:
        assert process.stderr is not None
        assert "b.jpg" in process.stderr.readline()  # what is before it is finished
        wait_until(mark.exists, process)
        process.send_signal(sent)
        process.send_signal(sent)  # impatient
        assert "Continue with --resume" in ends(process, sent)
    assert sorted(path.name for path in tmp_path.iterdir()) == [state.name, "mark", "photos"]
    with started(*arguments, "--resume") as process:
        assert process.communicate(timeout=WATCHDOG)[0] == ""
        assert process.returncode == 3
    assert out.read_text().count("\n") == 3


@ALL
def test_a_model_that_never_ends(sent: signal.Signals, photo: Path, tmp_path: Path) -> None:
    model = write_endless_model(tmp_path / "endless.xml")
    compiled = tmp_path / "cache" / "compiled"
    with started(
        "classify", photo, "-m", model, NASNET_CACHE_DIR=str(tmp_path / "cache")
    ) as process:
        wait_until(lambda: compiled.exists() and list(compiled.glob("*.blob")), process)
        process.send_signal(sent)
        ends(process, sent)


@pytest.mark.parametrize(
    ("runtime", "method", "sent"),
    [
        ("openvino", "openvino:OpenVINORuntime:_compile", signal.SIGTERM),
        ("openvino", "openvino:OpenVINORuntime:_compile", signal.SIGINT),
        ("tensorflow", "tensorflow:TensorFlowRuntime:_trace", signal.SIGTERM),
        ("tflite", "tflite:TFLiteRuntime:_open", signal.SIGHUP),
    ],
    ids=["openvino", "openvino, interrupted", "tensorflow", "tflite"],
)
def test_a_runtime_that_opens_a_model(
    runtime: str,
    method: str,
    sent: signal.Signals,
    photo: Path,
    tiny_module: Path,
    whole_numbers: Path,
    one_layer: Path,
    tmp_path: Path,
) -> None:
    pytest.importorskip("tensorflow")
    model = {"tflite": whole_numbers, "tensorflow": one_layer}.get(runtime, tiny_module)
    mark = tmp_path / "mark"
    with started(
        [sys.executable, "-c", OPENING, method], "classify", photo, "-m", model,
        *(["--runtime", runtime] if runtime != "tflite" else []),
        MARK=str(mark), NASNET_CACHE_DIR=str(tmp_path / "cache"),
    ) as process:  # fmt: skip
        wait_until(mark.exists, process)
        process.send_signal(sent)
        ends(process, sent)


@pytest.fixture(scope="module")
def whole_numbers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A TFLite model that computes in integers."""
    pytest.importorskip("tensorflow")
    path = tmp_path_factory.mktemp("lite") / "model.tflite"
    path.write_bytes(lite(quantized="uint8"))
    return path


@pytest.fixture(scope="module")
def one_layer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SavedModel that TensorFlow loads at once; it takes seconds for a network's functions."""
    pytest.importorskip("tensorflow")
    return write_module(tmp_path_factory.mktemp("modules") / "one-layer", None)


def write_endless_model(path: Path) -> Path:
    """Write a classifier of three classes for OpenVINO whose loop has no end."""
    import numpy as np
    import openvino
    from openvino import opset13 as ops

    images = ops.parameter([-1, 32, 32, 3], np.float32, name="images")
    means = ops.reduce_mean(images, ops.constant([1, 2]), False)
    before = ops.parameter([-1, 3], np.float32)
    after = ops.relu(before)
    goes_on = ops.constant(np.array(True))
    loop = ops.loop(ops.constant(np.int64(-1)), ops.constant(np.array(True)))
    loop.set_function(openvino.Model([goes_on.output(0), after.output(0)], [before]))
    loop.set_special_body_ports([-1, 0])
    loop.set_merged_input(before, means.output(0), after.output(0))
    result = ops.result(ops.softmax(loop.get_iter_value(after.output(0), -1), 1))
    openvino.save_model(openvino.Model([result], [images]), path)
    return path


class _Silent(BaseHTTPRequestHandler):
    """A server that sends some bytes, and then nothing more until the client has gone."""

    asked: threading.Event

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "1000000")
        self.end_headers()
        self.wfile.write(b"\x1f\x8b" + bytes(70000))
        self.asked.set()
        self.rfile.read()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def silent_server() -> Iterator[tuple[str, threading.Event]]:
    handler = type("Handler", (_Silent,), {"asked": threading.Event()})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    with serving(server):
        yield f"http://127.0.0.1:{server.server_address[1]}", handler.asked


@ALL
def test_a_server_that_falls_silent(
    sent: signal.Signals, silent_server: tuple[str, threading.Event], tiny_module: Path
) -> None:
    pytest.importorskip("aiohttp")
    url, asked = silent_server
    with started("classify", f"{url}/a.jpg", "-m", tiny_module) as process:
        wait_until(asked.is_set, process)
        process.send_signal(sent)
        ends(process, sent)


@ALL
def test_a_model_whose_download_falls_silent(
    sent: signal.Signals, silent_server: tuple[str, threading.Event], photo: Path, tmp_path: Path
) -> None:
    url, asked = silent_server
    cache = str(tmp_path / "cache")
    with started("classify", photo, "-m", f"{url}/m/1", NASNET_CACHE_DIR=cache) as process:
        wait_until(asked.is_set, process)
        process.send_signal(sent)
        ends(process, sent)


class _Busy(_Silent):
    """A server that asks to wait for half a minute, and counts how often it is asked."""

    requests: list[str]

    def do_GET(self) -> None:
        self.requests.append(self.path)
        self.send_response(503)
        self.send_header("Retry-After", "30")
        self.send_header("Content-Length", "0")
        self.end_headers()
        self.wfile.flush()
        self.asked.set()


@ALL
def test_a_server_that_asks_to_wait(sent: signal.Signals, tiny_module: Path) -> None:
    pytest.importorskip("aiohttp")
    handler = type("Handler", (_Busy,), {"asked": threading.Event(), "requests": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    with serving(server):
        url = f"http://127.0.0.1:{server.server_address[1]}/a.jpg"
        with started("classify", url, "-m", tiny_module) as process:
            wait_until(handler.asked.is_set, process)
            process.send_signal(sent)
            ends(process, sent)
        assert handler.requests == ["/a.jpg"]  # it did not wait


@ALL
def test_a_list_that_comes_from_a_pipe(sent: signal.Signals, photo: Path, tmp_path: Path) -> None:
    pipe = tmp_path / "list"
    os.mkfifo(pipe)
    with started("classify", "--from", pipe) as process:
        writing = wait_until(lambda: open_pipe(pipe), process)
        process.send_signal(sent)
        ends(process, sent)
        os.close(writing)


def open_pipe(path: Path) -> int | None:
    """Open a pipe for writing once there is a reader."""
    try:
        return os.open(path, os.O_WRONLY | os.O_NONBLOCK)
    except OSError as error:
        assert error.errno == errno.ENXIO
        return None


def test_no_unfinished_file_is_left_by_a_thread_that_goes_on(tmp_path: Path) -> None:
    """The main thread is in C; a hidden file and a folder are open."""
    code = (
        "import ctypes, sys\n"
        "from pathlib import Path\n"
        "from nasnet_cli.cli import signals\n"
        "from nasnet_cli.atomic import hidden_file, hidden_folder\n"
        "signals.catch()\n"
        "def work():\n"
        "    with hidden_file(Path('a')) as file, hidden_folder(Path('b')) as folder:\n"
        "        file.touch()\n"
        "        (folder / 'c').touch()\n"
        "        Path('ready').touch()\n"
        "        while True:\n"
        "            try:\n"
        "                ctypes.CDLL(None).sleep(1000)\n"
        "            except signals.Interruption:\n"
        "                pass\n"
        "signals.run_to_end(work)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=tmp_path, stderr=subprocess.PIPE, text=True
    )
    wait_until((tmp_path / "ready").exists, process)
    process.send_signal(signal.SIGHUP)
    ends(process, signal.SIGHUP)
    assert [path.name for path in tmp_path.iterdir()] == ["ready"]


def test_an_ignored_signal_stays_ignored(tmp_path: Path) -> None:
    """As under nohup."""
    pipe = tmp_path / "list"
    os.mkfifo(pipe)
    ignoring = ["sh", "-c", 'trap "" HUP; exec "$0" "$@"', *NASNET]
    with started(ignoring, "classify", "--from", pipe) as process:
        writing = wait_until(lambda: open_pipe(pipe), process)
        process.send_signal(signal.SIGHUP)
        os.write(writing, f"{tmp_path / 'absent.jpg'}\n".encode())
        os.close(writing)
        out, _ = process.communicate(timeout=WATCHDOG)
    assert process.returncode == 3 and "not_found" in out


def test_signals_at_random_moments(tiny_module: Path, tmp_path: Path) -> None:
    moments = itertools.cycle(
        [0.05, 0.4, 1.0]
    )  # more than three where runs end before their signal
    found = run_once(tmp_path, tiny_module, images=60, signals=3, wait=lambda _: next(moments))
    assert found.signals == 3 and found.faults == []


@ALL
def test_the_console_script_that_imports_its_commands(sent: signal.Signals) -> None:
    code = (
        "import os, sys\n"
        "class Sender:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name == 'nasnet_cli.cli.main':\n"
        f"            os.kill(os.getpid(), {sent.value})\n"
        "sys.meta_path.insert(0, Sender())\n"
        "from nasnet_cli.__main__ import run\n"  # as in the script that pip writes
        "sys.exit(run())\n"
    )
    done = subprocess.run([sys.executable, "-c", code, "--version"], capture_output=True)
    assert (done.returncode, done.stderr) == (STATUS[sent], b"")
