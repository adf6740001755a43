"""nasnet cache: lists, checks and removes what is kept."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from nasnet_cli import cache
from nasnet_cli.cli.main import run
from nasnet_cli.models.hub import store
from nasnet_cli.models.resolve import resolve
from support import crafted
from support.hub_server import tar_of

pytestmark = pytest.mark.usefixtures("cache_folder")


@pytest.fixture
def nasnet(capsys):
    """Runs the command: its status, standard output and standard error."""

    def call(*arguments):
        with pytest.raises(SystemExit) as done:
            run(["cache", *arguments])
        return done.value.code, *capsys.readouterr()

    return call


@pytest.fixture
def module(tmp_path):
    """A module in the cache, of an archive called nice.tgz."""
    made = crafted.write(tmp_path / "made", crafted.meta_graph())
    (made / "noise").write_bytes(os.urandom(20_000))
    (tmp_path / "nice.tgz").write_bytes(tar_of(made))
    return resolve(str(tmp_path / "nice.tgz"))


def compiled(name, data=b"blob"):
    path = cache.compiled_folder() / f"{name}.blob"
    cache.store(path, data)
    return path


def test_an_empty_cache_is_listed_as_such(nasnet, cache_folder):
    code, out, err = nasnet("ls")
    assert (code, err) == (0, "")
    assert out.split()[:3] == ["total", "0", "B"]
    assert not cache_folder.exists()


def test_ls_shows_modules_compiled_ones_and_unfinished_downloads(nasnet, module, tmp_path):
    compiled("a"), compiled("b")
    cache.partial_folder().mkdir()
    (cache.partial_folder() / "x-1.part").write_bytes(bytes(5_000_000))
    code, out, _ = nasnet("ls")
    lines = [line.split() for line in out.splitlines()]
    assert code == 0
    assert [line[0] for line in lines] == [module.name, "compiled", "unfinished", "total"]
    assert lines[0][2:] == ["kB", "unpacked", str(tmp_path / "nice.tgz")]
    assert lines[2][1:3] == ["5.0", "MB"]


def test_ls_as_json_has_sizes_and_places(nasnet, module, tmp_path, cache_folder):
    compiled("a")
    code, out, _ = nasnet("ls", "--json")
    found = json.loads(out)
    assert (code, found["cache"]) == (0, str(cache_folder))
    first, second = found["items"]
    assert first["name"] == module.name
    assert first["label"] == "nice.tgz"
    assert first["source"] == str(tmp_path / "nice.tgz")
    assert first["path"] == str(module)
    assert first["bytes"] == sum(
        path.stat().st_size
        for path in [*module.rglob("*"), store.record_file(module.name)]
        if path.is_file()
    )
    assert (second["name"], second["files"], second["bytes"]) == ("compiled", 1, 36)


def test_path_is_that_of_the_cache_or_of_a_module(nasnet, module, cache_folder):
    assert nasnet("path") == (0, f"{cache_folder}\n", "")
    for name in (module.name, "nice.tgz"):
        assert nasnet("path", name) == (0, f"{module}\n", "")


@pytest.mark.parametrize("command", ["path", "verify", "rm"])
def test_a_name_that_is_not_there_is_told_with_those_that_are(nasnet, module, command):
    code, out, err = nasnet(command, "nothing")
    assert (code, out) == (1, "")
    assert f"There is no 'nothing' in the cache. It has {module.name}." in err


def test_verify_is_content_with_what_is_whole(nasnet, module):
    compiled("a")
    assert nasnet("verify") == (0, f"{module.name}: good\ncompiled: good\n", "")


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (lambda m: (m / "noise").write_bytes(bytes(20_000)), "its content has changed"),
        (lambda m: (m / "noise").write_bytes(b"1"), "noise has 1 bytes, expected 20,000"),
        (lambda m: (m / "noise").unlink(), "noise is missing"),
        (lambda m: (m / "more").touch(), "more does not belong to it"),
        (lambda m: (m / "more").symlink_to("/etc"), "leads out of the module"),
        (lambda m: m.rename(m.parent.parent / "away"), "its folder is missing"),
        (lambda m: store.record_file(m.name).unlink(), "record is missing"),
        (lambda m: store.record_file(m.name).write_text("{"), "record is missing or damaged"),
    ],
)
def test_verify_says_what_is_wrong_and_exits_with_1(nasnet, module, harm, words):
    harm(module)
    code, out, _ = nasnet("verify")
    assert code == 1
    assert out.startswith(f"{module.name}: ")
    assert words in out
    code, out, _ = nasnet("verify", "--json")
    assert code == 1
    assert words in json.loads(out)["items"][0]["fault"]


def test_verify_sees_a_broken_compiled_module(nasnet):
    compiled("a").write_bytes(b"broken")
    code, out, _ = nasnet("verify")
    assert (code, out) == (1, "compiled: 1 broken, made anew when needed: a.blob\n")


def test_rm_removes_what_is_named_and_nothing_else(nasnet, module, cache_folder):
    blob = compiled("a")
    assert nasnet("rm", "nice.tgz", "--dry-run")[1].startswith(f"{module.name}: would be removed")
    assert module.is_dir()
    code, out, _ = nasnet("rm", "nice.tgz")
    assert (code, out.split(",")[0]) == (0, f"{module.name}: removed")
    assert list((cache_folder / "modules").iterdir()) == []
    assert blob.exists()
    assert nasnet("rm", "compiled")[0] == 0
    assert not blob.exists()


def test_rm_all_leaves_locks_alone(nasnet, module, cache_folder):
    compiled("a")
    (cache_folder / "partial").mkdir(exist_ok=True)
    for name in ("x-1.part", "x-1.part.state"):
        (cache_folder / "partial" / name).touch()
    (cache_folder / "modules" / ".y-2.abcdef.partial" / "deep").mkdir(parents=True)
    code, out, _ = nasnet("rm", "--all", "--json")
    assert code == 0
    assert [item["name"] for item in json.loads(out)["items"]] == [
        module.name,
        "compiled",
        "unfinished",
    ]
    files = [path for path in cache_folder.rglob("*") if path.is_file()]
    assert {path.parent.name for path in files} == {"locks"}
    assert nasnet("ls", "--json")[1].count('"name"') == 0


@pytest.mark.parametrize("arguments", [(), ("x", "--all")])
def test_rm_wants_names_or_all_and_not_both(nasnet, arguments):
    code, _, err = nasnet("rm", *arguments)
    assert code == 2
    assert "Name what to remove, or give --all." in err


def test_control_characters_in_a_source_are_shown_not_obeyed(nasnet, module, tmp_path):
    evil = tmp_path / "\x1b[31m\n.tgz"
    made = crafted.write(tmp_path / "made2", crafted.meta_graph(tags=["serve"]))
    evil.write_bytes(tar_of(made))
    resolve(str(evil))
    out = nasnet("ls")[1]
    assert "\x1b" not in out and "\\x1b[31m" in out


def test_the_command_imports_nothing_heavy(module, cache_folder):
    code = (
        "import sys\nfrom nasnet_cli.cli.main import run\n"
        "try: run(['cache', 'ls'])\nexcept SystemExit: pass\n"
        "print([m for m in ('tensorflow', 'numpy', 'openvino', 'keras') if m in sys.modules])"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.endswith("[]\n")
