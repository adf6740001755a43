"""nasnet cache: list, verify and remove what is in the cache."""

from __future__ import annotations

import json
import os
import stat

import pytest
from PIL import Image

from nasnet_cli import cache
from nasnet_cli.models.hub import store
from support import crafted
from support.cli import run_in_process
from support.hub_server import tar_of
from support.models import resolve_path

pytestmark = pytest.mark.usefixtures("cache_folder")


def nasnet(*arguments):
    """Run the command and return its exit code, standard output and standard error."""
    result = run_in_process("cache", *arguments)
    return result.exit_code, result.stdout, result.stderr


@pytest.fixture
def module(tmp_path):
    """Return the folder of a model in the cache that comes from nice.tgz."""
    made = crafted.write(tmp_path / "made", crafted.meta_graph())
    (made / "noise").write_bytes(os.urandom(20_000))
    (tmp_path / "nice.tgz").write_bytes(tar_of(made))
    return resolve_path(str(tmp_path / "nice.tgz"))


def compiled(name, data=b"blob"):
    path = cache.subfolder("compiled") / f"{name}.blob"
    cache.store(path, data)
    return path


def test_ls_of_an_empty_cache_prints_only_the_total(cache_folder):
    code, out, err = nasnet("ls")
    assert (code, err) == (0, "")
    assert out.split()[:3] == ["total", "0", "B"]
    assert not cache_folder.exists()


def test_ls_prints_models_compiled_models_and_unfinished_downloads(module, tmp_path):
    compiled("a"), compiled("b")
    cache.subfolder("partial").mkdir()
    (cache.subfolder("partial") / "x-1.part").write_bytes(bytes(5_000_000))
    code, out, _ = nasnet("ls")
    lines = [line.split() for line in out.splitlines()]
    assert code == 0
    assert [line[0] for line in lines] == [module.name, "compiled", "unfinished", "total"]
    assert lines[0][2:] == ["kB", "unpacked", str(tmp_path / "nice.tgz")]
    assert lines[2][1:3] == ["5.0", "MB"]


def test_ls_json_has_sizes_and_paths(module, tmp_path, cache_folder):
    compiled("a")
    code, out, _ = nasnet("ls", "--json")
    listing = json.loads(out)
    assert (code, listing["cache"]) == (0, str(cache_folder))
    first, second = listing["items"]
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


def test_path_prints_the_path_of_the_cache_or_of_a_model(module, cache_folder):
    assert nasnet("path") == (0, f"{cache_folder}\n", "")
    for name in (module.name, "nice.tgz"):
        assert nasnet("path", name) == (0, f"{module}\n", "")


@pytest.mark.parametrize("command", ["path", "verify", "rm"])
def test_unknown_name_fails_and_lists_the_known_ones(module, command):
    code, out, err = nasnet(command, "nothing")
    assert (code, out) == (1, "")
    assert f"There is no 'nothing' in the cache. It has {module.name}." in err


def test_verify_prints_ok_for_what_is_complete(module):
    compiled("a")
    assert nasnet("verify") == (0, f"{module.name}: ok\ncompiled: ok\n", "")


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda m: (m / "noise").write_bytes(bytes(20_000)), "its content has changed"),
        (lambda m: (m / "noise").write_bytes(b"1"), "noise has 1 bytes, expected 20,000"),
        (lambda m: (m / "noise").unlink(), "noise is missing"),
        (lambda m: (m / "more").touch(), "more does not belong to it"),
        (lambda m: (m / "more").symlink_to("/etc"), "leads out of the model"),
        (lambda m: m.rename(m.parent.parent / "away"), "its folder is missing"),
        (lambda m: store.record_file(m.name).unlink(), "record is missing"),
        (lambda m: store.record_file(m.name).write_text("{"), "record is missing or damaged"),
    ],
)
def test_verify_prints_the_fault_and_exits_with_1(module, harm, message):
    harm(module)
    code, out, _ = nasnet("verify")
    assert code == 1
    assert out.startswith(f"{module.name}: ")
    assert message in out
    code, out, _ = nasnet("verify", "--json")
    assert code == 1
    assert message in json.loads(out)["items"][0]["fault"]


def test_verify_finds_a_damaged_compiled_model():
    compiled("a").write_bytes(b"broken")
    code, out, _ = nasnet("verify")
    assert (code, out) == (1, "compiled: 1 damaged, rebuilt when needed: a.blob\n")


def test_rm_removes_only_the_named_items(module, cache_folder):
    blob = compiled("a")
    assert nasnet("rm", "nice.tgz", "--dry-run")[1].startswith(f"{module.name}: would be removed")
    assert module.is_dir()
    code, out, _ = nasnet("rm", "nice.tgz")
    assert (code, out.split(",")[0]) == (0, f"{module.name}: removed")
    assert list((cache_folder / "modules").iterdir()) == []
    assert blob.exists()
    assert nasnet("rm", "compiled")[0] == 0
    assert not blob.exists()


def test_rm_all_keeps_the_locks(module, cache_folder):
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
def test_rm_needs_either_names_or_all(arguments):
    code, _, err = nasnet("rm", *arguments)
    assert code == 2
    assert "Give the names of items to remove, or --all." in err


def test_control_characters_in_a_source_are_escaped(module, tmp_path):
    evil = tmp_path / "\x1b[31m\n.tgz"
    made = crafted.write(tmp_path / "made2", crafted.meta_graph(tags=["serve"]))
    evil.write_bytes(tar_of(made))
    resolve_path(str(evil))
    out = nasnet("ls")[1]
    assert "\x1b" not in out and "\\x1b[31m" in out


@pytest.mark.linux
def test_a_cache_that_others_can_write_to_is_not_used(cache_folder, tiny_module, tmp_path, nasnet):
    photo = tmp_path / "a.png"
    Image.new("RGB", (9, 9)).save(photo)
    nasnet("classify", photo, "-m", tiny_module, expect=0)
    folders = [cache_folder, cache_folder / "compiled", cache_folder / "scanned"]
    assert [stat.S_IMODE(folder.stat().st_mode) for folder in folders] == [0o700] * 3
    record = next((cache_folder / "scanned").iterdir())
    assert cache.load(record) is not None
    record.chmod(0o666)
    assert cache.load(record) is None  # whoever wrote it
    record.unlink()
    record.symlink_to("/dev/null")
    assert cache.load(record) is None
    for folder in folders:
        folder.chmod(0o777)
        done = nasnet("classify", photo, "-m", tiny_module, expect=0)
        assert f"others can write to {folder}" in done.stderr
        with pytest.raises(cache.CacheError, match="not used"), cache.lock("a"):
            pass
        folder.chmod(0o700)
    if os.geteuid() == 0:  # another's folder
        os.chown(cache_folder, 12345, -1)
        assert cache.distrust() is not None
