"""Other systems, as far as Linux can show: what they lack is hidden, and commands do the same."""

from __future__ import annotations

import ast
import contextlib
import errno
import json
import ntpath
import os
import re
import subprocess
import sys
import tempfile
import threading
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from hidden.sitecustomize import CALLS, MODULES
from nasnet_cli import systems
from nasnet_cli.atomic import hidden_folder
from support.documents import ROOT

SOURCE = ROOT / "src" / "nasnet_cli"

HIDDEN = Path(__file__).parent / "hidden"
# Runs commands, one after the other, in one process.
CODE = """
import json, sys
from nasnet_cli.cli.main import run
for arguments in json.loads(sys.argv[1]):
    try:
        run(arguments)
    except SystemExit as end:
        print(end.code, *arguments, file=sys.stderr)
"""


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """A folder with common and uncommon formats, two of them copies, and an archive."""
    folder = tmp_path_factory.mktemp("library") / "images"
    folder.mkdir()
    for number, name in enumerate(("a.png", "b.jpg", "c.tif", "d.jp2", "e.bmp")):
        colors = Image.effect_noise((48, 40), 90 + 10 * number).convert("RGB")
        colors.save(folder / name)
    (folder / "copy.png").write_bytes((folder / "a.png").read_bytes())
    (folder / "broken.tif").write_bytes((folder / "c.tif").read_bytes()[:60])
    with zipfile.ZipFile(folder.parent / "more.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(folder / "c.tif", "inside/c.tif")
    return folder


@pytest.mark.parametrize("system", ["windows", pytest.param("macos", marks=pytest.mark.slow)])
def test_commands_do_the_same_without_what_others_lack(
    system, images, tiny_module, label_file, nasnet, tmp_path
):
    model = ["-m", str(tiny_module), "--labels", str(label_file), "-q"]
    inputs = [str(images), str(images.parent / "more.zip")]
    album, moved = str(tmp_path / "album"), str(tmp_path / "moved")
    classify = ["classify", *inputs, *model, "--sure", "0.1"]
    commands = [
        [*classify, "-o", "labels.jsonl"],
        [*classify, "-o", "labels.jsonl", "--resume"],
        [*classify, "-o", "labels.jsonl", "--overwrite"],
        ["find", "entity", "labels.jsonl"],
        ["sort", "labels.jsonl", "--into", album, "-q"],
        ["sort", "--undo", album, "-q"],
        ["duplicates", str(images), "-m", str(tiny_module), "-q", "--move-to", moved],
        ["duplicates", "--undo", moved, "-q"],
        ["cache", "ls"],
    ]
    there = tmp_path / "there"
    there.mkdir()
    before = {path.name for path in images.iterdir()}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", CODE, json.dumps(commands)],
        cwd=there,
        env={
            **os.environ,
            "NASNET_TESTS_AS": system,
            "PYTHONPATH": os.pathsep.join((str(HIDDEN), str(SOURCE.parent))),
        },
        capture_output=True,
        text=True,
        check=True,
    )
    statuses = dict(reversed(line.split(" ", 1)) for line in done.stderr.splitlines())
    failed = {" ".join(command): statuses.get(" ".join(command)) for command in commands}
    assert set(failed.values()) <= {"0", "3"}, done.stderr
    here = tmp_path / "here"
    here.mkdir()
    nasnet(*classify, "-o", "labels.jsonl", cwd=here, expect=3)
    assert (there / "labels.jsonl").read_bytes() == (here / "labels.jsonl").read_bytes()
    assert {path.name for path in images.iterdir()} == before
    assert not Path(album).exists() and not Path(moved).exists()


def uses(path):
    """Yield the names in a module that other systems lack, and that it does not ask for first."""
    text = path.read_text(encoding="utf-8")
    for node in ast.walk(ast.parse(text)):
        match node:
            case ast.Import(names=names):
                yield from (each.name for each in names if each.name in MODULES)
            case ast.ImportFrom(module=str(module)) if module in MODULES:
                yield module
            case ast.Attribute(value=ast.Name(id=module), attr=name):
                if name in CALLS.get(module, ()) and f'hasattr({module}, "{name}")' not in text:
                    yield f"{module}.{name}"


def test_only_systems_names_what_other_systems_lack():
    allowed = {
        # Only where a process can pass open files.
        "images/isolated.py": {"socket.send_fds"},
        "images/isolated_worker.py": {"socket.recv_fds"},
    }
    for path in SOURCE.rglob("*.py"):
        name = path.relative_to(SOURCE).as_posix()
        if name != "systems.py":
            assert set(uses(path)) <= allowed.get(name, set()), name


def test_a_folder_is_locked_without_fcntl_too(tmp_path, monkeypatch):
    monkeypatch.setattr(systems, "fcntl", None)
    locks = tmp_path / "cache" / "locks"
    with systems.locked_folder(str(tmp_path), locks):
        code = (
            "import sys; from pathlib import Path; from nasnet_cli import systems\n"
            "systems.fcntl = None\n"
            "with systems.locked_folder(sys.argv[1], Path(sys.argv[1], 'cache', 'locks')): pass"
        )
        command = [sys.executable, "-W", "ignore", "-c", code, str(tmp_path)]
        environment = {**os.environ, "PYTHONPATH": str(SOURCE.parent)}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 1 and "BlockingIOError" in done.stderr
    subprocess.run(command, env=environment, check=True)
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(NotADirectoryError), systems.locked_folder(str(file), locks):
        pass


HOLDS = """
import sys
from pathlib import Path
from nasnet_cli.atomic import hidden_folder
from nasnet_cli.systems import temporary_folder
with hidden_folder(Path(sys.argv[1])) if sys.argv[1:] else temporary_folder() as folder:
    (folder / "file").touch()
    print(folder, flush=True)
    sys.stdin.read()
"""


def holder(place, *target):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDS, *map(str, target)],
        env={**os.environ, "PYTHONPATH": str(SOURCE.parent), "TMPDIR": str(place)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    return process, Path(process.stdout.readline().strip())


@pytest.mark.linux
def test_a_temporary_folder_of_a_killed_process_is_removed_by_the_next(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    (tmp_path / "nasnet-held-file").touch()
    (tmp_path / "nasnet-held-link").symlink_to(tmp_path)
    (killed, left), (running, used) = holder(tmp_path), holder(tmp_path)
    with running, killed:
        killed.kill()
        killed.wait()
        assert left.is_dir()
        with systems.temporary_folder() as first, systems.temporary_folder() as second:
            assert not left.exists()
            assert (used / "file").exists() and first != second and first.is_dir()
        running.communicate()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "nasnet-held-file",
        "nasnet-held-link",
    ]


@pytest.mark.linux
def test_a_hidden_folder_of_a_killed_process_is_removed_by_the_next(tmp_path):
    target = tmp_path / "module"
    (killed, left), (running, used) = holder(tmp_path, target), holder(tmp_path, target)
    with running, killed:
        killed.kill()
        killed.wait()
        with hidden_folder(target) as folder:
            assert sorted(tmp_path.iterdir()) == sorted((used, folder)) and left != folder
            assert (used / "file").exists()
        running.communicate()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("has_fcntl", [False, pytest.param(True, marks=pytest.mark.linux)])
def test_without_locks_no_temporary_folder_is_taken_for_left(has_fcntl, tmp_path, monkeypatch):
    def flock(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    if has_fcntl:
        monkeypatch.setattr("fcntl.flock", flock)
    else:
        monkeypatch.setattr(systems, "fcntl", None)
    with systems.temporary_folder() as first, systems.temporary_folder():
        assert first.is_dir()
    assert list(tmp_path.iterdir()) == []


def test_threads_read_one_file_without_pread(tmp_path, monkeypatch):
    monkeypatch.delattr(os, "pread")
    content = bytes(range(256)) * 64
    (tmp_path / "file").write_bytes(content)
    parts = {}
    with (tmp_path / "file").open("rb") as file:

        def read(offset):
            parts[offset] = systems.read_at(file.fileno(), 64, offset)

        threads = [
            threading.Thread(target=read, args=(offset,)) for offset in range(0, len(content), 64)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert os.lseek(file.fileno(), 0, os.SEEK_CUR) == 0
    assert b"".join(parts[offset] for offset in sorted(parts)) == content


def test_an_open_file_is_opened_again_without_proc(monkeypatch):
    with systems.memory_file() as file:
        file.write(b"0123456789")
        file.flush()
        monkeypatch.setattr(Path, "exists", lambda self: False)
        first, second = systems.opened_again(file), systems.opened_again(file)
        assert first.read(4) == b"0123" and second.read() == b"0123456789"
        assert file.tell() == 10


def test_a_worker_ends_with_its_parent_without_prctl(tmp_path):
    """Start a process that starts another and dies; the other, which computes, ends too."""
    code = (
        "import ctypes, os, sys\n"
        "from nasnet_cli import systems\n"
        "reading, writing = os.pipe()\n"
        "if os.fork() == 0:\n"
        "    ctypes.CDLL = lambda name: object()\n"
        "    systems.end_with_parent()\n"
        "    os.write(writing, b'.')\n"
        "    while True: pass\n"
        "os.read(reading, 1)\n"
    )
    # Both hold standard output: it ends when both have.
    command = [sys.executable, "-W", "ignore", "-c", code]
    environment = {**os.environ, "PYTHONPATH": str(SOURCE.parent)}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True)
    assert done.stdout == b""


WINDOWS_PATHS = [
    r"C:\photos\cat.jpg",
    "C:/photos/cat.jpg",
    r"\\server\share\cat.jpg",
    r"..\cat.jpg",
]


@pytest.mark.parametrize("path", WINDOWS_PATHS)
def test_a_path_of_windows_is_no_address(path):
    from nasnet_cli.images.source import is_remote

    assert not is_remote(path)


@pytest.mark.parametrize("path", WINDOWS_PATHS)
def test_a_path_of_windows_is_shown_as_it_is(path):
    from nasnet_cli.results.text import json_text, printable

    assert printable(path) == path
    assert json.loads(json_text({"path": path})) == {"path": path}


def test_the_format_of_an_output_is_that_of_its_suffix_on_windows():
    from nasnet_cli.results.formats import format_by_ending

    formats = ("table", "csv", "jsonl")
    assert format_by_ending(r"C:\out.jsonl\labels.csv", formats) == "csv"
    assert format_by_ending("C:/out/labels.jsonl", formats) == "jsonl"


def test_the_name_of_a_cached_model_is_one_that_windows_takes():
    from nasnet_cli.models.hub.store import entry_name

    for label in (r"C:\models\con.h5", "https://example.org/a:b?c=*", 'a"b|c<d>'):
        assert not re.search(r'[<>:"/\\|?*]|[. ]$', entry_name(label, label))


@pytest.mark.parametrize("label", ["con", "Nul", "aux.light", "COM1", "lpt9.x.y", "con ", "prn ."])
def test_a_label_that_windows_has_for_a_device_names_a_folder(label):
    from nasnet_cli.albums.sorting import folder_name

    assert folder_name(label).partition(".")[0].endswith("_")
    assert folder_name(f"a {label}") == f"a {label}".strip(" .")


@pytest.fixture
def windows_paths(monkeypatch):
    """Paths are those of Windows while the block runs."""

    @contextlib.contextmanager
    def paths():
        with monkeypatch.context() as patch:
            patch.setattr(os, "path", ntpath)
            patch.setattr(os, "sep", "\\")
            yield

    return paths


@pytest.mark.parametrize("path", [r"C:\photos\a\cat.jpg", "C:/photos/a/cat.jpg", r"a\cat.jpg"])
def test_names_in_paths_of_windows(path, windows_paths):
    from nasnet_cli.albums import duplicates, sorting
    from nasnet_cli.evaluation import sources

    with windows_paths():
        place = duplicates.destination(path)
        name = sorting._name(path)
        folder = sources.folder_name(path)
        inner = sources.ClassFolders(r"C:\classes", (), 0).name_of(r"C:\classes\dog\x\1.jpg")
    assert place in (r"photos\a\cat.jpg", r"a\cat.jpg")
    assert (name, folder, inner) == ("cat.jpg", "a", "dog")


def test_a_link_to_another_drive_is_absolute(windows_paths):
    from nasnet_cli.albums import transfers

    with windows_paths():
        assert transfers._relative(r"D:\cat.jpg", r"C:\dog\cat.jpg") == r"D:\cat.jpg"


def test_what_cannot_be_linked_is_copied(tmp_path, monkeypatch):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").write_bytes(b"1")

    def refuse(*_: object, **__: object) -> None:
        raise OSError(1314, "a required privilege is not held")

    monkeypatch.setattr(os, "symlink", refuse)
    systems.link_or_copy(tmp_path / "folder", tmp_path / "copy")
    systems.link_or_copy(tmp_path / "folder" / "file", tmp_path / "other")
    assert (tmp_path / "copy" / "file").read_bytes() == (tmp_path / "other").read_bytes() == b"1"
    assert not (tmp_path / "copy").is_symlink()
