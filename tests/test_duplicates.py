"""nasnet duplicates on folders: which images stay, and which are too many."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import zipfile
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from nasnet_cli.albums.duplicates import Duplicates, Rules
from nasnet_cli.albums.paths import Base
from nasnet_cli.errors import InputError
from nasnet_cli.images.decode import read_size
from nasnet_cli.similarity.index import open_index
from support.vectors import near_groups

# The tiny module's weights are random, so that all images are much alike to it.
NEAR = ("--threshold", 0.999)


def image(seed: int) -> Image.Image:
    """Make a smooth image, unlike that of any other seed."""
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), np.uint8)
    return Image.fromarray(coarse).resize((120, 90), Image.Resampling.BICUBIC)


@pytest.fixture
def photos(tmp_path):
    """Two folders. b/small.bmp is a/one.png made smaller, though with more bytes; two is alone."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    image(0).save(tmp_path / "a/one.png", optimize=True)
    image(1).save(tmp_path / "a/two.png")
    image(0).resize((90, 68)).save(tmp_path / "b/small.bmp")
    assert (tmp_path / "b/small.bmp").stat().st_size > (tmp_path / "a/one.png").stat().st_size
    return tmp_path


@pytest.fixture
def roles(nasnet, photos, tiny_module):
    """Run nasnet duplicates among the photos; return the role of each image in a group."""

    def run(*arguments, expect=0):
        done = nasnet("duplicates", *arguments, *NEAR, "-m", tiny_module, cwd=photos, expect=expect)
        members = [member for group in done.rows for member in group["members"]]
        return {member["path"]: member["role"] for member in members}

    return run


def test_the_image_of_most_pixels_stays(roles):
    assert roles("b", "a") == {"b/small.bmp": "duplicate", "a/one.png": "keep"}


def test_the_image_of_most_bytes_stays_among_equal_pixels(roles, photos):
    image(0).save(photos / "b/stored.png", compress_level=0)
    expected = {"a/one.png": "duplicate", "b/small.bmp": "duplicate", "b/stored.png": "keep"}
    assert roles("a", "b") == expected


def test_the_oldest_image_stays(roles, photos):
    os.utime(photos / "b/small.bmp", (1e9, 1e9))
    assert roles("a", "b", "--keep", "oldest") == {"a/one.png": "duplicate", "b/small.bmp": "keep"}


def test_the_first_image_stays(roles):
    assert roles("b", "a", "--keep", "first") == {"b/small.bmp": "keep", "a/one.png": "duplicate"}


def test_the_current_folder_is_searched_without_a_path(roles):
    assert roles() == {"./a/one.png": "keep", "./b/small.bmp": "duplicate"}


def test_images_of_a_reference_always_stay(roles, photos):
    shutil.copy(photos / "b/small.bmp", photos / "b/again.bmp")
    assert roles("a", "--reference", "b") == {
        "a/one.png": "duplicate",
        "b/again.bmp": "reference",
        "b/small.bmp": "reference",
    }


def test_a_reference_within_the_folder_is_one_by_any_name(roles, photos):
    (photos / "name").symlink_to("b")
    found = roles("a", "b", "--reference", "name")
    assert found == {"a/one.png": "duplicate", "b/small.bmp": "reference"}


def test_a_reference_that_does_not_exist_is_a_usage_error(roles):
    roles("a", "--reference", "nowhere", expect=2)


def test_images_of_one_folder_are_no_duplicates_across_folders(roles, photos):
    shutil.copy(photos / "a/one.png", photos / "a/one_again.png")
    found = roles("a", "b", "--across-folders")
    assert found == {"a/one.png": "keep", "a/one_again.png": "keep", "b/small.bmp": "duplicate"}
    assert roles("a", "--across-folders") == {}


def test_names_of_one_file_are_links_not_copies(roles, photos):
    os.link(photos / "a/two.png", photos / "a/hard.png")
    (photos / "outside").mkdir()
    shutil.copy(photos / "a/two.png", photos / "outside/two.png")
    (photos / "b/soft.png").symlink_to("../outside/two.png")
    found = roles("a", "b", "a/two.png")
    assert found["a/hard.png"] == "keep"
    assert [found["a/two.png"], found["b/soft.png"]] == ["link", "link"]


def test_a_file_whose_other_name_is_in_a_reference_is_a_link(roles, photos):
    os.link(photos / "a/one.png", photos / "b/hard.png")
    assert roles("a", "--reference", "b", "--keep", "first") == {
        "a/one.png": "link",
        "b/hard.png": "reference",
        "b/small.bmp": "reference",
    }


def test_members_of_archives_are_never_losers(roles, photos, nasnet, tiny_module):
    with zipfile.ZipFile(photos / "p.zip", "w") as archive:
        archive.write(photos / "a/two.png", "two.png")
    assert roles("p.zip", "a") == {"p.zip!/two.png": "archived", "a/two.png": "keep"}
    arguments = ("duplicates", "a", "p.zip", "-m", tiny_module, *NEAR, "--keep", "first", "-0")
    assert nasnet(*arguments, cwd=photos).stdout_bytes == b""


def test_losers_are_printed_for_xargs(nasnet, photos, tiny_module):
    shutil.copy(photos / "a/one.png", photos / "-dash.png")
    shutil.copy(photos / "a/one.png", os.fsencode(photos) + b"/b/new\nline\xff.png")
    done = nasnet(
        *("duplicates", "a", "b", "--from", "-", "-0", "--keep", "first"),
        *(*NEAR, "-m", tiny_module),
        cwd=photos,
        stdin=b"-dash.png\0",
        expect=0,
    )
    assert done.stdout_bytes == b"b/new\nline\xff.png\0b/small.bmp\0./-dash.png\0"
    assert nasnet("duplicates", "a", "-0", "-o", "o.csv", cwd=photos).exit_code == 2
    assert nasnet("duplicates", "a", "-0", "--format", "csv", cwd=photos).exit_code == 2


def test_images_with_errors_are_counted(nasnet, photos, tiny_module):
    (photos / "a/bad.png").write_bytes(b"bad")
    arguments = ("duplicates", "a", "b", *NEAR, "-m", tiny_module)
    done = nasnet(*arguments, cwd=photos, expect=3)
    assert "4 images: 3 embedded; 1 error: 1 not_an_image " in done.stderr
    assert "3 vectors: 1 group with 2 images, 1 duplicate; " in done.stderr


def test_no_image_is_an_error(nasnet, tmp_path):
    done = nasnet("duplicates", tmp_path, expect=1)
    assert "There are no images in" in done.stderr


def test_results_name_the_model(nasnet, photos, tiny_module):
    done = nasnet(
        *("duplicates", "a", "b", *NEAR, "-m", tiny_module, "-o", "o.json", "--keep", "oldest"),
        *("--reference", "b"),
        cwd=photos,
        expect=0,
    )
    document = json.loads((photos / "o.json").read_text())
    meta = json.loads((photos / "o.json.meta.json").read_text())
    assert document["model"]["digest"] == meta["model"]["digest"]
    assert document["options"] == meta["options"]
    assert meta["options"]["references"] == ["b"] and meta["options"]["keep"] == "oldest"
    assert meta["summary"]["duplicates"] == 1
    assert done.stdout == ""


@pytest.fixture
def vectors(nasnet, photos, tiny_module):
    nasnet("embed", "a", "b", "-m", tiny_module, "-o", "v.npy", cwd=photos, expect=0)
    return photos / "v.npy"


def test_vectors_have_roles_by_the_files_as_they_are(nasnet, photos, vectors, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    arguments = ("duplicates", vectors, *NEAR, "--format", "csv")

    def found(*more, cwd=photos):
        done = nasnet(*arguments, *more, cwd=cwd, expect=0)
        rows = csv.DictReader(io.StringIO(done.stdout))
        return [row["role"] for row in rows], done.stderr

    assert found()[0] == ["keep", "duplicate"]
    assert found("--base", photos, cwd=elsewhere)[0] == ["keep", "duplicate"]
    roles, notes = found(cwd=elsewhere)
    assert roles == ["missing", "missing"] and "2 images in groups not found" in notes
    later = vectors.stat().st_mtime + 10
    os.utime(photos / "a/one.png", (later, later))
    roles, notes = found()
    assert roles == ["changed", "keep"] and "1 image in groups modified after" in notes
    (photos / "a/one.png").unlink()
    assert found()[0] == ["missing", "keep"]


def test_losers_that_do_not_exist_are_an_error(nasnet, photos, vectors, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    done = nasnet("duplicates", vectors, *NEAR, "-0", cwd=elsewhere, expect=1)
    assert "None of the images exists" in done.stderr and "--base" in done.stderr
    done = nasnet("duplicates", vectors, *NEAR, "-0", "--base", photos, cwd=elsewhere, expect=0)
    assert done.stdout_bytes == os.fsencode(photos / "b/small.bmp") + b"\0"


@pytest.mark.parametrize(
    "more",
    [("a",), ("-m", "builtin"), ("--exclude", "x"), ("--resize", "pad"), ("--workers", 2)],
)
def test_options_for_images_are_refused_with_vectors(nasnet, photos, vectors, more):
    done = nasnet("duplicates", "v.npy", *more, cwd=photos, expect=2)
    assert "v.npy holds vectors" in done.stderr


def test_the_base_is_for_vectors(nasnet, photos):
    assert "--base" in nasnet("duplicates", "a", "--base", "b", cwd=photos, expect=2).stderr


def write_vectors(folder, array):
    """Write vectors as embed does, and a file for each."""
    np.save(folder / "v.npy", np.asarray(array, np.float32))
    with (folder / "v.jsonl").open("w") as lines:
        for row in range(len(array)):
            (folder / f"{row % 3}").mkdir(exist_ok=True)
            (folder / f"{row % 3}/{row}.jpg").write_bytes(b"x" * (row * 7 % 5))
            line = {"path": f"{row % 3}/{row}.jpg", "status": "ok", "row": row}
            lines.write(json.dumps(line) + "\n")
    return open_index(folder / "v.npy")


def decided(index, threshold, keep="first", **rules):
    rules = {"references": (), "across_folders": False, "made": 1 << 62, **rules}
    found = Duplicates(index, Base(os.fspath(index.path.parent)), Rules(keep, **rules), threshold)
    return list(found.groups(near_groups(index, threshold)))


def test_ends_of_a_chain_are_no_copies(tmp_path):
    angles = np.radians([0, 10, 20, 30])
    index = write_vectors(tmp_path, np.stack([np.cos(angles), np.sin(angles)], axis=1))
    (group,) = decided(index, float(np.cos(np.radians(10.5))))
    assert [member.role for member in group.members] == ["keep", "duplicate", "keep", "duplicate"]
    assert [member.of for member in group.members] == [None, 0, None, 2]
    similarity = [member.similarity for member in group.members]
    np.testing.assert_allclose(similarity, np.cos(np.radians([0, 10, 20, 10])), atol=1e-6)


def tree(folder):
    """Return the content of each file below a folder by its path."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture
def movable(photos):
    """Several copies, one of which has a name that is not UTF-8, and a vectorless file."""
    shutil.copy(photos / "a/one.png", os.fsencode(photos) + b"/b/odd\xff.png")
    shutil.copy(photos / "a/two.png", photos / "b/two.png")
    (photos / "b/notes.txt").write_text("not an image")
    return photos


LOSERS = {"b/odd\udcff.png", "b/small.bmp", "b/two.png"}


@pytest.mark.parametrize("target", ["dups", "b/dups"])
def test_duplicates_are_moved_and_taken_back(nasnet, movable, tiny_module, target):
    before = tree(movable)
    move = ("duplicates", "a", "b", *NEAR, "-m", tiny_module, "--move-to", target)
    done = nasnet(*move, cwd=movable, expect=0)
    assert f"3 duplicates moved to {target}." in done.stderr
    assert [len(group["members"]) for group in done.rows] == [3, 2]
    after = tree(movable)
    assert set(before) - set(after) == LOSERS
    for name in LOSERS:
        assert after[f"{target}/{name}"] == before[name]
    # What has been moved is not searched again.
    done = nasnet(*move, cwd=movable, expect=0)
    assert "0 groups" in done.stderr and "0 duplicates moved" in done.stderr
    assert tree(movable) == after
    done = nasnet("duplicates", "--undo", target, cwd=movable, expect=0)
    assert "3 files taken back." in done.stderr
    assert tree(movable) == before and not (movable / target).exists()


def test_a_dry_run_prints_moves_and_changes_nothing(nasnet, movable, tiny_module):
    before = tree(movable)
    dry_run = ("duplicates", "a", "b", *NEAR, "-m", tiny_module, "--move-to", "dups", "--dry-run")
    done = nasnet(*dry_run, cwd=movable, expect=0)
    printed = [
        f"move {movable}/b/{name} -> dups/b/{name}"
        for name in ("odd\\xff.png", "small.bmp", "two.png")
    ]
    assert sorted(done.stdout.splitlines()) == printed
    assert "3 duplicates to be moved to dups." in done.stderr and "--undo" not in done.stderr
    assert tree(movable) == before and not (movable / "dups").exists()
    again = nasnet(*dry_run, "--out", "groups.csv", cwd=movable, expect=0)
    assert again.stdout == done.stdout
    assert (movable / "groups.csv").read_text().count(",duplicate,") == 3


def test_sidecars_go_with_their_images(nasnet, photos, tiny_module):
    for name in ("a/one.png.xmp", "b/small.bmp.xmp"):
        (photos / name).write_text("<x/>")
    before = tree(photos)
    move = ("duplicates", "a", "b", *NEAR, "-m", tiny_module, "--move-to", "dups")
    assert "1 duplicate moved to dups." in nasnet(*move, cwd=photos, expect=0).stderr
    assert set(before) - set(tree(photos)) == {"b/small.bmp", "b/small.bmp.xmp"}
    nasnet("duplicates", "--undo", "dups", cwd=photos, expect=0)
    assert tree(photos) == before


def test_duplicates_of_vectors_are_moved(nasnet, photos, vectors, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    arguments = ("duplicates", vectors, *NEAR, "--base", photos, "--move-to", "dups")
    nasnet(*arguments, cwd=elsewhere, expect=0)
    place = elsewhere / "dups" / str(photos / "b/small.bmp").lstrip("/")
    assert place.exists() and not (photos / "b/small.bmp").exists()
    again = nasnet(*arguments, cwd=elsewhere, expect=0)
    assert [member["role"] for member in again.rows[0]["members"]] == ["keep", "missing"]
    nasnet("duplicates", "--undo", "dups", cwd=elsewhere, expect=0)
    assert (photos / "b/small.bmp").exists()


def test_vectors_of_moved_images_are_left_out(nasnet, photos, tiny_module):
    nasnet("embed", "a", "b", "-m", tiny_module, "-o", "v.npy", cwd=photos, expect=0)
    done = nasnet("duplicates", "v.npy", *NEAR, "--move-to", "a", cwd=photos, expect=0)
    assert "1 image in a left out." in done.stderr and done.rows == []
    assert (photos / "b/small.bmp").exists()


def test_nothing_is_moved_where_no_image_is_found(nasnet, photos, vectors, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    done = nasnet("duplicates", vectors, *NEAR, "--move-to", "dups", cwd=elsewhere, expect=1)
    assert "None of the images exists" in done.stderr
    assert list(elsewhere.iterdir()) == []


@pytest.mark.parametrize(
    "arguments",
    [
        ("a", "--move-to", "."),
        ("a", "--move-to", "a"),
        ("a", "--reference", "b", "--move-to", "b"),
        ("a", "--move-to", "dups", "-0"),
        ("a", "--undo", "dups"),
        ("--undo", "dups", "--move-to", "dups"),
        ("--undo", "dups", "--dry-run"),
        ("a", "--dry-run"),
        ("a", "--move-to", "dups", "--dry-run", "--format", "csv"),
    ],
)
def test_contradictions_are_usage_errors(nasnet, photos, arguments):
    before = tree(photos)
    nasnet("duplicates", *arguments, cwd=photos, expect=2)
    assert tree(photos) == before


def test_a_folder_without_an_undo_list_has_nothing_to_take_back(nasnet, photos):
    assert "no undo list" in nasnet("duplicates", "--undo", "a", cwd=photos, expect=1).stderr


# Dies right before a file of that name is removed from its old place, or while it searches.
KILLED = """
import os, signal, sys
def die(event, arguments):
    name = arguments[0] if event == "os.remove" else event
    if os.fsencode(name).endswith(os.fsencode(sys.argv[1])):
        os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(die)
from nasnet_cli.cli.main import run
run(sys.argv[2:])
"""


@pytest.fixture
def kill(movable, tmp_path_factory):
    """Run nasnet among the photos and kill it at an event; it leaves no temporary files."""
    elsewhere = tmp_path_factory.mktemp("elsewhere")

    def run(at, *arguments):
        command = [sys.executable, "-c", KILLED, at, *map(str, arguments)]
        environment = {**os.environ, "TMPDIR": str(elsewhere)}
        killed = subprocess.run(command, cwd=movable, env=environment, capture_output=True)
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        # Where folders have no locks, a file that is locked instead may stay.
        assert not [left for left in elsewhere.iterdir() if left.suffix != ".lock"]

    return run


@pytest.mark.parametrize("at", ["small.bmp", "two.png"])
def test_a_killed_move_goes_on_or_back(nasnet, movable, tiny_module, at, kill):
    before = tree(movable)
    move = ("duplicates", "a", "b", *NEAR, "-m", tiny_module, "--move-to", "dups")
    kill(at, *move)
    assert (movable / "b" / at).exists() and (movable / "dups/b" / at).exists()
    nasnet(*move, cwd=movable, expect=0)
    assert set(before) - set(tree(movable)) == LOSERS
    kill(at, "duplicates", "--undo", "dups")
    nasnet("duplicates", "--undo", "dups", cwd=movable, expect=0)
    assert tree(movable) == before and not (movable / "dups").exists()


@pytest.mark.parametrize("goes_on", [True, False])
def test_the_folder_of_a_killed_search_goes_with_undo(nasnet, movable, tiny_module, kill, goes_on):
    before = tree(movable)
    move = ("duplicates", "a", "b", *NEAR, "-m", tiny_module, "--move-to", "dups")
    kill("mmap.__new__", *move)
    assert set(tree(movable)) - set(before) == {"dups/.nasnet-undo.jsonl"}
    if goes_on:
        assert "3 duplicates moved" in nasnet(*move, cwd=movable, expect=0).stderr
    nasnet("duplicates", "--undo", "dups", cwd=movable, expect=0)
    assert tree(movable) == before and not (movable / "dups").exists()


@settings(max_examples=40)
@given(
    seed=st.integers(0, 2**32 - 1),
    count=st.integers(0, 30),
    threshold=st.floats(0.3, 1),
    keep=st.sampled_from(["largest", "oldest", "first"]),
    across=st.booleans(),
    reference=st.booleans(),
)
def test_each_duplicate_is_like_one_that_stays(
    tmp_path_factory, seed, count, threshold, keep, across, reference
):
    folder = tmp_path_factory.mktemp("vectors")
    index = write_vectors(folder, np.random.default_rng(seed).integers(-2, 3, (count, 4)))
    references = (os.fspath(folder / "1"),) if reference and count > 1 else ()
    groups = decided(index, threshold, keep, across_folders=across, references=references)
    seen = [member.row for group in groups for member in group.members]
    assert len(seen) == len(set(seen))
    for group in groups:
        assert [one.row < other.row for one, other in pairwise(group.members)].count(False) == 0
        kept = {m.row: m for m in group.members if m.role in ("keep", "reference")}
        assert kept
        for member in group.members:
            is_reference = bool(references) and member.row % 3 == 1
            assert is_reference == (member.role == "reference")
            rows = np.array([row for row in kept if row != member.row], np.intp)
            near = rows[index.cosines(rows, member.row) >= threshold]
            if across:
                near = near[near % 3 != member.row % 3]
            if member.role == "duplicate":
                assert member.of in near
                (similarity,) = index.cosines(np.array([member.row]), member.of)
                assert member.similarity == similarity >= threshold
            elif member.role == "keep":
                assert not near.size  # two that stay are no copies


@pytest.mark.parametrize("ending", ["jpg", "png", "webp", "gif", "bmp", "tif", "avif", "jp2"])
def test_sizes_are_read_from_headers(tmp_path, ending):
    image(0).save(tmp_path / f"x.{ending}")
    with (tmp_path / f"x.{ending}").open("rb") as stream:
        assert read_size(stream) == (120, 90)


@pytest.mark.parametrize("content", [b"", b"GIF89a", b"\xff\xd8\xff", b"II*\0", b"no image"])
def test_a_header_that_cannot_be_read_is_an_input_error(content):
    with pytest.raises(InputError):
        read_size(io.BytesIO(content))
