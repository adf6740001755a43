"""A model that others could change is copied, checked and opened from the copy; others stay."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nasnet_cli.errors import ModelError
from nasnet_cli.models import own_copy
from nasnet_cli.models.reach import is_out_of_reach
from nasnet_cli.models.resolve import resolve
from support.cli import Result
from support.rights import public_folder

pytestmark = [
    pytest.mark.linux,
    pytest.mark.skipif(not hasattr(os, "geteuid"), reason="files have no owners"),
]


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """A folder that others may enter: pytest's are private, which protects all that is in them."""
    with public_folder() as folder:
        if any(not above.stat().st_mode & 0o011 for above in folder.parents):
            pytest.skip("the folder for temporary files is private")
        yield folder


@pytest.fixture
def shared(tmp_path: Path, labelled_module: Path) -> Path:
    """A module in a folder that everybody may write to."""
    place = tmp_path / "shared" / "module"
    shutil.copytree(labelled_module, place)
    place.parent.chmod(0o777)
    return place


def test_a_module_of_one_s_own_is_opened_in_place(
    labelled_module: Path, cache_folder: Path
) -> None:
    assert resolve(labelled_module).path == labelled_module
    assert not cache_folder.exists()


def test_what_others_can_replace_is_opened_from_a_copy(
    nasnet: Callable[..., Result], shared: Path, labelled_module: Path, cache_folder: Path
) -> None:
    copy = resolve(shared).path
    assert copy.is_relative_to(cache_folder) and copy.name == "module"
    assert copy.parents[1].stat().st_mode & 0o777 == 0o700
    wanted = nasnet("inspect", labelled_module, "--json", expect=0)
    found = nasnet("inspect", shared, "--json", expect=0)
    digests = [json.loads(done.stdout)["digest"] for done in (wanted, found)]
    assert digests[0] == digests[1]
    shutil.rmtree(shared)  # whoever replaces it now comes too late
    assert (copy / "saved_model.pb").is_file()


def test_a_copy_is_made_once_listed_and_removed(
    nasnet: Callable[..., Result], shared: Path, cache_folder: Path
) -> None:
    copies = {resolve(shared).path for _ in range(2)}
    assert len(copies) == 1
    (item,) = json.loads(nasnet("cache", "ls", "--json", expect=0).stdout)["items"]
    assert (item["kind"], item["source"]) == ("copied", str(shared))
    assert "ok" in nasnet("cache", "verify", expect=0).stdout
    nasnet("cache", "rm", "module", expect=0)
    assert not copies.pop().exists()


def test_a_changed_model_is_another_copy(shared: Path, cache_folder: Path) -> None:
    before = resolve(shared).path
    labels = next(shared.glob("assets.extra/*labels*"))
    labels.write_bytes(labels.read_bytes() + b"\n")
    assert resolve(shared).path != before


def test_labels_beside_a_model_come_with_its_copy(shared: Path, cache_folder: Path) -> None:
    (shared.parent / "labels.txt").write_text("cat\ndog\n")
    assert (resolve(shared).path.parent / "labels.txt").read_text() == "cat\ndog\n"


def test_no_copy_where_others_could_change_it_too(
    nasnet: Callable[..., Result], shared: Path, cache_folder: Path
) -> None:
    cache_folder.mkdir(parents=True)
    cache_folder.chmod(0o777)
    done = nasnet("inspect", shared, expect=1)
    assert "others can write" in done.stderr and "NASNET_CACHE_DIR" in done.stderr


def lengthen(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b" ")


def replace_by_a_link(path: Path) -> None:
    path.unlink()
    path.symlink_to(__file__)


def replace_by_a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lengthen, "changed while it was copied"),
        (replace_by_a_link, "changed while it was copied"),
        (replace_by_a_pipe, "is not a file"),
    ],
)
def test_a_model_that_changes_while_it_is_copied_is_refused(
    change: Callable[[Path], None],
    sentence: str,
    shared: Path,
    cache_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its digest is known by then, and each file changes right before it is copied."""
    copy = own_copy._copy

    def copy_changed(original: Path, place: Path) -> None:
        change(original)
        copy(original, place)

    monkeypatch.setattr(own_copy, "_copy", copy_changed)
    with pytest.raises(ModelError, match=sentence):
        resolve(shared)
    assert list((cache_folder / "modules").iterdir()) == []


@pytest.mark.parametrize("mode", [0o777, 0o775, 0o1777])
def test_who_may_write_above_may_replace(tmp_path: Path, mode: int) -> None:
    """Only a folder like /tmp keeps what is of one's own in place."""
    file = tmp_path / "above" / "own" / "model.onnx"
    file.parent.mkdir(parents=True)
    file.touch(0o644)
    assert is_out_of_reach(file)
    (tmp_path / "above").chmod(mode)
    assert is_out_of_reach(file) == (mode == 0o1777)
    file.chmod(0o666)
    (tmp_path / "above").chmod(0o755)
    assert not is_out_of_reach(file)
    (tmp_path / "above").chmod(0o700)  # nobody else gets there
    assert is_out_of_reach(file)


def test_links_count_as_the_folders_that_they_are_in(tmp_path: Path) -> None:
    file, open_folder = tmp_path / "own" / "model.onnx", tmp_path / "open"
    file.parent.mkdir()
    open_folder.mkdir()
    file.touch(0o644)
    (tmp_path / "direct").symlink_to("own/../own/model.onnx")
    (open_folder / "link").symlink_to(file)
    (tmp_path / "indirect").symlink_to("open/link")
    (tmp_path / "round").symlink_to("round")
    assert is_out_of_reach(tmp_path / "direct") and is_out_of_reach(tmp_path / "indirect")
    open_folder.chmod(0o777)
    assert is_out_of_reach(tmp_path / "direct") and not is_out_of_reach(tmp_path / "indirect")
    with pytest.raises(OSError, match="links"):
        is_out_of_reach(tmp_path / "round")


@pytest.mark.parametrize("place", ["", "variables"])
def test_everything_in_a_module_counts(labelled_module: Path, tmp_path: Path, place: str) -> None:
    module = tmp_path / "module"
    shutil.copytree(labelled_module, module)
    assert is_out_of_reach(module)
    (module / place).chmod(0o777)
    assert not is_out_of_reach(module)
