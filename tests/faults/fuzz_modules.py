"""Damages models of every form at random, and sees that nasnet says so in a sentence each time.

    make fuzz            or: python tests/faults/fuzz_modules.py [--seconds N] [--seed S] [--form F]

Each damaged model is given to `nasnet inspect` and `nasnet classify`, in a process of its own that
is used again until it dies: either command must do its work, or end with exit status 1 and one
sentence. A traceback, a crash of the interpreter, other words on standard error, or taking too
long is a failure; the model is kept, and the seed and number that make it again are printed.
"""

from __future__ import annotations

import argparse
import functools
import gzip
import io
import itertools
import json
import os
import random
import re
import resource
import select
import shutil
import struct
import subprocess
import sys
import tempfile
import time
import zipfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TESTS = Path(__file__).parents[1]
sys.path.insert(0, str(TESTS))

from faults import constants  # noqa: E402

PHOTO = TESTS.parent / "examples" / "photos"
SLOWEST = 60.0
"""Seconds that a command may take; most take a tenth of one."""
_MEMORY = 16 * 2**30
_NOTE = re.compile(
    r".*: converting it to a TF1 Hub module, which the cache keeps\.|.*OpenVINO cannot read.*"
)
_EDGES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**64 - 1)


@dataclass(frozen=True)
class Form:
    """A whole model: files by relative name, and which of the names is given to nasnet."""

    files: dict[str, bytes]
    given: str

    def write(self, folder: Path) -> Path:
        for name, content in self.files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        return folder / self.given


FORMS = ("h5", "keras", "onnx", "openvino", "saved-model", "slim", "tar.gz", "tf1-hub", "tflite")


def make_forms(module: Path, work: Path, names: Sequence[str] = FORMS) -> dict[str, Form]:
    """A small TF1 Hub module in other forms, by the forms' names."""
    from nasnet_cli.models.export import export
    from nasnet_cli.models.formats.table import FORMATS
    from support.models import load_network
    from test_slim import save_checkpoint

    @functools.cache
    def network() -> Any:
        return load_network(module)

    forms = {}
    for name in names:
        folder = work / name
        folder.mkdir(parents=True)
        given = "m" if name == "slim" else f"m.{name}"
        if name == "slim":
            save_checkpoint(folder / "m", network().weights)
        elif name == "tf1-hub":
            given = shutil.copytree(module, folder / "m").name
        elif name == "tar.gz":
            subprocess.run(["tar", "-czf", folder / given, "-C", module, "."], check=True)
        elif name == "h5":
            export(network(), work / "for-h5.keras", FORMATS["keras"])
            with zipfile.ZipFile(work / "for-h5.keras") as archive:
                (folder / given).write_bytes(archive.read("model.weights.h5"))
        else:
            given = f"m{FORMATS[name].suffix}"
            export(network(), folder / given, FORMATS[name])
        forms[name] = _form(folder, given)
    return forms


def _form(folder: Path, given: str) -> Form:
    found = sorted(path for path in folder.rglob("*") if path.is_file())
    return Form({str(path.relative_to(folder)): path.read_bytes() for path in found}, given)


def damage(forms: dict[str, Form], name: str, chance: random.Random) -> Form:
    """A form with something wrong in one of its files."""
    form = forms[name]
    files = dict(form.files)
    chosen = chance.choice(sorted(files))
    kind = chance.random()
    if kind > 0.7 and name in constants.FILES:
        chosen = chance.choice(constants.FILES[name])
        files[chosen] = constants.mutate_constant(name, files[chosen], chance)
    elif kind < 0.05 and len(files) > 1:
        del files[chosen]
    elif kind < 0.1:
        other = forms[chance.choice(sorted(forms))].files
        files[chosen] = other[chance.choice(sorted(other))]
    else:
        files[chosen] = _inside(files[chosen], chance)
    return Form(files, form.given)


def _inside(data: bytes, chance: random.Random) -> bytes:
    """Damaged bytes; of what is packed mostly the content, with sums that are right."""
    if data.startswith(b"\x1f\x8b") and chance.random() < 0.8:
        return gzip.compress(_mutated(gzip.decompress(data), chance), 1, mtime=0)
    if data.startswith(b"PK\3\4") and chance.random() < 0.8:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
        chosen = chance.choice(sorted(members))
        members[chosen] = _mutated(members[chosen], chance)
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as archive:
            for name, content in members.items():
                archive.writestr(zipfile.ZipInfo(name), content)
        return packed.getvalue()
    return _mutated(data, chance)


def _mutated(data: bytes, chance: random.Random) -> bytes:
    result = bytearray(data)
    for _ in range(chance.choice((1, 1, 1, 2, 4, 16))):
        chance.choice(_MUTATIONS)(result, chance)
    return bytes(result)


def _place(data: bytearray, chance: random.Random) -> int:
    """Choose a position; heads and ends, which say what the rest is, more often than their share."""
    size = len(data)
    where = chance.random()
    near = min(size, 4096)
    if where < 0.3:
        return chance.randrange(near + 1)
    return size - chance.randrange(near + 1) if where < 0.5 else chance.randrange(size + 1)


def _flip(data: bytearray, chance: random.Random) -> None:
    at = _place(data, chance)
    if at < len(data):
        data[at] ^= 1 << chance.randrange(8)


def _overwrite(data: bytearray, chance: random.Random) -> None:
    at = _place(data, chance)
    size = min(chance.choice((1, 2, 8, 64, 4096)), len(data) - at)
    data[at : at + size] = chance.choice((b"\0" * size, b"\xff" * size, chance.randbytes(size)))


def _number(data: bytearray, chance: random.Random) -> None:
    """A length or a count at the edge of what its type holds."""
    at = _place(data, chance)
    value = chance.choice(_EDGES)
    how, size = chance.choice((("<Q", 8), ("<I", 4), (">I", 4), ("<H", 2), ("B", 1)))
    packed = struct.pack(how, value & (256**size - 1))
    data[at : at + size] = packed


def _digits(data: bytearray, chance: random.Random) -> None:
    """Another number in a text."""
    found = [match.span() for match in re.finditer(rb"(?<=[\"\s,:\[])\d+", bytes(data[: 2**20]))]
    if found:
        start, end = chance.choice(found)
        data[start:end] = chance.choice((b"-1", b"0", b"99999999999999999999", b"1e400", b"x"))


def _cut(data: bytearray, chance: random.Random) -> None:
    del data[_place(data, chance) :]


def _remove(data: bytearray, chance: random.Random) -> None:
    at = _place(data, chance)
    del data[at : at + chance.choice((1, 4, 100, 5000))]


def _splice(data: bytearray, chance: random.Random) -> None:
    """A piece from elsewhere in the file, put in between or in the place of another."""
    start, at = _place(data, chance), _place(data, chance)
    piece = data[start : start + chance.choice((1, 4, 16, 256, 4096))]
    data[at : at + chance.choice((0, len(piece)))] = piece


_MUTATIONS = (_flip, _overwrite, _number, _digits, _cut, _remove, _splice)


class Runner:
    """A process that runs commands of nasnet one after the other, begun anew when it dies."""

    def __init__(self, work: Path) -> None:
        self.work = work
        self.process: subprocess.Popen[str] | None = None

    def run(self, *command: str | Path) -> str | None:
        """Describe what is wrong with how a command ended; None when all is well."""
        if self.process is None:
            self.process = subprocess.Popen(
                [sys.executable, __file__, "--child"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                cwd=self.work,
                env={**os.environ, "NASNET_CACHE_DIR": str(self.work / "cache")},
            )
        process = self.process
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(json.dumps([str(part) for part in command]) + "\n")
        process.stdin.flush()
        ready, _, _ = select.select([process.stdout], [], [], SLOWEST)
        if not ready:
            self.close()
            return f"over {SLOWEST:g} s"
        answer = process.stdout.readline()
        if not answer:
            self.process = None
            return f"the process died ({process.wait()}): {self._said()[-500:]}"
        return _fault(json.loads(answer), self._said())

    def close(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.communicate()
            self.process = None

    def _said(self) -> str:
        return (self.work / "stderr").read_text(errors="replace")


def _fault(status: Any, said: str) -> str | None:
    errors = [line for line in said.splitlines() if not _NOTE.fullmatch(line)]
    if status == 0 and not errors:
        return None
    is_sentence = len(errors) == 1 and errors[0].startswith("Error: ")
    if status == 1 and is_sentence and "unforeseen" not in said:
        return None
    return f"status {status}, and: {said[:2000]}"


def _serve() -> None:
    """The child: commands come as lines of JSON, and their exit statuses go back."""
    from nasnet_cli.cli.main import run

    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    answers = os.fdopen(os.dup(1), "w")
    for line in sys.stdin:
        for name, descriptor in (("stdout", 1), ("stderr", 2)):
            with Path(name).open("wb") as file:  # C++ writes there too
                os.dup2(file.fileno(), descriptor)
        try:
            run(json.loads(line))
        except SystemExit as done:
            status = done.code
        sys.stdout.flush()
        sys.stderr.flush()
        print(json.dumps(status), file=answers, flush=True)


def trials(forms: dict[str, Form], seed: int) -> Iterator[tuple[str, Form]]:
    """Damaged models without end, the same for the same seed and forms, each with its name."""
    names = sorted(forms)
    for number in itertools.count():
        name = names[number % len(names)]
        yield f"{name}-{seed}-{number}", damage(forms, name, random.Random(f"{seed} {number}"))


def faults(form: Form, work: Path, runner: Runner) -> list[str]:
    """Describe what is wrong with how nasnet takes a model, which is written in the folder work."""
    shutil.rmtree(work / "cache", ignore_errors=True)
    shutil.rmtree(work / "model", ignore_errors=True)
    path = form.write(work / "model")
    (photo, *_) = sorted(PHOTO.glob("*.jpg"))
    found = []
    for command in (("inspect", path), ("classify", photo, "--quiet", "--model", path)):
        fault = runner.run(*command)
        if fault is not None:
            found.append(f"{command[0]}: {fault}")
    return found


def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument(
        "--form", action="append", choices=FORMS, help="only this one; may be given again"
    )
    parser.add_argument("--keep", type=Path, default=Path("fuzz-failures"))
    options = parser.parse_args()
    from support.modules import TINY, write_module

    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        names = options.form or FORMS
        forms = make_forms(write_module(work / "tiny", TINY), work / "forms", names)
        end = time.monotonic() + options.seconds
        tried: Counter[str] = Counter()
        failed = 0
        runner = Runner(work)
        for label, form in trials(forms, options.seed):
            if time.monotonic() > end:
                break
            tried[label.partition("-" + str(options.seed))[0]] += 1
            for fault in faults(form, work, runner):
                failed += 1
                form.write(options.keep / label)
                print(f"{label}: {fault}\n", flush=True)
        runner.close()
    counts = ", ".join(f"{count} {name}" for name, count in sorted(tried.items()))
    print(f"Seed {options.seed}: {failed} failures of {tried.total()} models ({counts}).")
    sys.exit(bool(failed))


if __name__ == "__main__":
    _serve() if sys.argv[1:] == ["--child"] else _main()
