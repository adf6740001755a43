"""Files copied, linked and moved into a folder, killed at each step, and taken back."""

from __future__ import annotations

import errno
import itertools
import json
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from nasnet_cli.albums import moves
from nasnet_cli.albums.moves import open_album
from nasnet_cli.albums.planning import NOT_FOUND, SYMBOLIC_LINK
from nasnet_cli.albums.undo_list import NAME
from nasnet_cli.errors import NasnetError
from support.disks import small_disk

KILLED = [sys.executable, str(Path(__file__).parent / "support" / "killed_moves.py")]
ODD = os.fsdecode(b"odd-\xff.jpg")


@pytest.fixture
def sources(tmp_path):
    """Two files of one name in two folders, and one whose name is not UTF-8."""
    paths = [tmp_path / "a" / "1.jpg", tmp_path / "b" / "1.jpg", tmp_path / "b" / ODD]
    for number, path in enumerate(paths):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"%d" % number * 100_000)
        os.utime(path, ns=(1, 10**18 + number))
    return paths


def run(action, folder, pairs):
    """Carry out a plan of pairs of a source and a destination, and return its problems."""
    with open_album(folder, create=True) as album:
        plan = album.plan(action, [(str(source), name) for source, name in pairs])
        outcomes = list(album.run(plan))
    return {outcome.transfer.source: outcome.problem for outcome in outcomes if outcome.problem}


def undo(folder):
    """Take all back and return the problems by destination."""
    with open_album(folder) as album:
        outcomes = list(album.undo())
    return {
        outcome.transfer.destination: outcome.problem for outcome in outcomes if outcome.problem
    }


def tree(folder):
    """Return the content of each file below a folder by its path, links as what they hold."""
    return {
        str(path.relative_to(folder)): str(path.readlink())
        if path.is_symlink()
        else path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_symlink() or path.is_file()
    }


def tree_without_list(folder):
    """Return the tree without a list whose writing was killed: nothing has been done yet."""
    return {name: data for name, data in tree(folder).items() if NAME not in name}


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


def into_x(sources):
    return [(source, f"x/{source.name}") for source in sources]


@pytest.mark.parametrize("action", ["copy", "link", "move"])
def test_each_action_and_back(action, sources, tmp_path):
    before = tree(tmp_path)
    assert run(action, tmp_path / "out", into_x(sources)) == {}
    names = ["x/1.jpg", "x/1 (2).jpg", f"x/{ODD}"]
    for source, name in zip(sources, names, strict=True):
        target = tmp_path / "out" / name
        assert target.read_bytes() == before[str(source.relative_to(tmp_path))]
        assert target.is_symlink() == (action == "link")
        assert source.exists() == (action != "move")
        assert target.stat().st_mtime_ns == 10**18 + sources.index(source)
    if action == "link":
        assert str((tmp_path / "out" / "x" / "1.jpg").readlink()) == "../../a/1.jpg"
    assert len((tmp_path / "out" / NAME).read_text().splitlines()) == 4
    assert undo(tmp_path / "out") == {}
    assert tree(tmp_path) == before
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("action", ["copy", "link", "move"])
def test_the_same_plan_again_changes_nothing(action, sources, tmp_path):
    run(action, tmp_path / "out", into_x(sources))
    before = tree(tmp_path)
    with open_album(tmp_path / "out", create=True) as album:
        plan = album.plan(action, [(str(source), name) for source, name in into_x(sources)])
        assert (plan.transfers, plan.present, plan.skipped) == ([], 3, {})
        assert list(album.run(plan)) == []
    assert tree(tmp_path) == before


@pytest.fixture(scope="module")
def killed_run():
    """Return a function that starts a run which is killed, and tells the signal, or 0."""
    with subprocess.Popen(KILLED, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:

        def start(*arguments):
            server.stdin.write(f"{json.dumps(arguments)}\n".encode())
            server.stdin.flush()
            return int(server.stdout.readline())

        yield start
        server.stdin.close()


def killed_runs(killed_run, action, folder, sources):
    """Yield after each run that was killed, one step later than the one before; then it ends."""
    for step in itertools.count(1):
        ended_by = killed_run(step, action, str(folder), [str(source) for source in sources])
        if not ended_by:
            assert step > 3
            return
        assert ended_by == signal.SIGKILL
        yield step


@pytest.fixture(params=["copy", "link", "move", "move to another disk"])
def killed(request, tmp_path, sources):
    """The action of a run that is killed, the place of its new folder, and its sources."""
    action, _, is_elsewhere = request.param.partition(" ")
    if not is_elsewhere:
        yield action, tmp_path / "out", sources[1:]
        return
    with small_disk(tmp_path / "disk", "4m") as disk:
        yield action, disk / "out", sources[1:]


@pytest.mark.parametrize("then", ["go on", "take back"])
def test_a_kill_at_any_step_loses_nothing(then, killed, killed_run, tmp_path):
    action, out, sources = killed
    before = tree(tmp_path)
    contents = sorted(path.read_bytes() for path in sources)
    for step in killed_runs(killed_run, action, out, sources):
        if then == "go on":
            assert run(action, out, into_x(sources)) == {}, step
            images = list((out / "x").iterdir())
            assert sorted(path.read_bytes() for path in images) == contents, step
            assert all(path.exists() == (action != "move") for path in sources), step
        if (out / NAME).exists():
            assert undo(out) == {}, step
            assert not out.exists() or list(out.iterdir()) == [], step
        assert tree_without_list(tmp_path) == before, step
    assert undo(out) == {}
    assert tree_without_list(tmp_path) == before


@pytest.mark.parametrize("then", ["go on", "take back"])
def test_an_undo_killed_at_any_step_loses_nothing(then, killed, killed_run, tmp_path):
    action, out, sources = killed
    before = tree(tmp_path)
    contents = sorted(path.read_bytes() for path in sources)
    run(action, out, into_x(sources))
    for step in killed_runs(killed_run, "undo", out, []):
        if then == "take back" and (out / NAME).exists():
            assert undo(out) == {}, step
            assert tree_without_list(tmp_path) == before, step
        assert run(action, out, into_x(sources)) == {}, step
        found = sorted(path.read_bytes() for path in (out / "x").iterdir())
        assert found == contents, step
        assert all(path.exists() == (action != "move") for path in sources), step
    assert tree(tmp_path) == before


def test_nothing_is_overwritten(sources, tmp_path):
    (tmp_path / "out" / "x").mkdir(parents=True)
    (tmp_path / "out" / "x" / "1.JPG").write_bytes(b"theirs")
    (tmp_path / "out" / "x" / "1 (2).jpg").symlink_to("nowhere")
    run("copy", tmp_path / "out", into_x(sources))
    assert set(names_in(tmp_path / "out" / "x")) >= {"1.jpg", "1 (2).jpg", "1 (3).jpg"}
    assert (tmp_path / "out" / "x" / "1.JPG").read_bytes() == b"theirs"
    assert undo(tmp_path / "out") == {}
    assert names_in(tmp_path / "out" / "x") == ["1 (2).jpg", "1.JPG"]


def test_names_that_differ_in_case_are_kept_apart(tmp_path):
    for name in ("a/p.jpg", "b/P.JPG"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text(name)
    pairs = [(tmp_path / "a/p.jpg", "p.jpg"), (tmp_path / "b/P.JPG", "P.JPG")]
    run("copy", tmp_path / "out", pairs)
    assert names_in(tmp_path / "out") == [NAME, "P (2).JPG", "p.jpg"]


@pytest.mark.parametrize("action", ["copy", "move"])
def test_a_file_that_appears_in_between_is_kept(action, sources, tmp_path):
    with open_album(tmp_path / "out", create=True) as album:
        plan = album.plan(action, [(str(sources[0]), "x/1.jpg")])
        (tmp_path / "out" / "x").mkdir()
        (tmp_path / "out" / "x" / "1.jpg").write_bytes(b"theirs")
        (outcome,) = album.run(plan)
    assert outcome.problem == "File exists"
    assert (tmp_path / "out" / "x" / "1.jpg").read_bytes() == b"theirs"
    assert sources[0].exists()
    assert run(action, tmp_path / "out", [(sources[0], "x/1.jpg")]) == {}
    assert (tmp_path / "out" / "x" / "1 (2).jpg").exists()


@pytest.mark.parametrize("action", ["copy", "move"])
def test_disks_without_hard_links(action, sources, tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(errno.EPERM, "Operation not permitted")

    before = tree(tmp_path)
    monkeypatch.setattr(os, "link", refuse)
    assert run(action, tmp_path / "out", into_x(sources)) == {}
    assert names_in(tmp_path / "out" / "x") == ["1 (2).jpg", "1.jpg", ODD]
    assert undo(tmp_path / "out") == {}
    assert tree(tmp_path) == before


def test_a_source_that_cannot_be_removed_is_not_moved(sources, tmp_path, monkeypatch):
    unlink = os.unlink

    def refuse(path, **more):
        if os.fspath(path) == os.fspath(sources[0]):
            raise PermissionError(errno.EACCES, "Permission denied")
        unlink(path, **more)

    monkeypatch.setattr(os, "unlink", refuse)
    problems = run("move", tmp_path / "out", into_x(sources[:1]))
    assert problems == {str(sources[0]): "Permission denied"}
    assert sources[0].exists() and not (tmp_path / "out").exists()


def test_a_full_disk_ends_the_run_and_it_goes_on(sources, tmp_path):
    with small_disk(tmp_path / "disk", "256k") as disk:
        with pytest.raises(NasnetError, match="no space left"):
            run("move", disk / "out", into_x(sources))
        assert [source.exists() for source in sources] == [False, False, True]
        subprocess.run(["mount", "-o", "remount,size=1m", disk], check=True)
        assert run("move", disk / "out", into_x(sources)) == {}
        assert undo(disk / "out") == {}
    assert all(source.exists() for source in sources)


def test_a_copy_stays_unless_its_original_is_there_and_equal(sources, tmp_path):
    out = tmp_path / "out"
    run("copy", out, into_x(sources))
    (out / "x" / "1.jpg").write_bytes(b"edited")
    sources[1].unlink()
    sources[2].unlink()
    sources[2].symlink_to(out / "x" / ODD)
    assert undo(out) == {
        "x/1.jpg": "it differs from its original, so it stays",
        "x/1 (2).jpg": "its original is gone, so the copy stays",
        f"x/{ODD}": "it differs from its original, so it stays",
    }
    assert len(names_in(out / "x")) == 3


def test_a_moved_file_stays_where_another_has_its_name(sources, tmp_path):
    out = tmp_path / "out"
    run("move", out, into_x(sources))
    sources[0].write_bytes(b"new")
    (out / "x" / ODD).unlink()
    assert undo(out) == {
        "x/1.jpg": f"there is another {sources[0]} now",
        f"x/{ODD}": "it is no longer there",
    }
    assert sources[0].read_bytes() == b"new" and sources[1].exists()
    sources[0].unlink()
    assert undo(out) == {}
    assert sources[0].read_bytes() == b"0" * 100_000


def test_a_link_back_to_a_moved_file_is_not_taken_for_it(sources, tmp_path):
    out = tmp_path / "out"
    run("move", out, into_x(sources[:1]))
    sources[0].symlink_to(out / "x" / "1.jpg")
    assert run("move", out, into_x(sources[1:])) == {}
    assert list(undo(out)) == ["x/1.jpg"]
    assert (out / "x" / "1.jpg").read_bytes() == b"0" * 100_000


def test_a_new_file_of_a_moved_one_s_name_is_moved_too(sources, tmp_path):
    run("move", tmp_path / "out", into_x(sources[:1]))
    sources[0].write_bytes(b"new")
    assert run("move", tmp_path / "out", into_x(sources[:1])) == {}
    assert (tmp_path / "out" / "x" / "1 (2).jpg").read_bytes() == b"new"


def test_what_is_not_moved_is_said(sources, tmp_path):
    link = tmp_path / "link.jpg"
    link.symlink_to(sources[0])
    wanted = [(str(path), path.name) for path in (link, tmp_path / "none.jpg", *sources[:1])]
    with open_album(tmp_path / "out", create=True) as album:
        plan = album.plan("move", wanted)
    assert plan.skipped == {wanted[0][0]: SYMBOLIC_LINK, wanted[1][0]: NOT_FOUND}
    assert [transfer.source for transfer in plan.transfers] == [str(sources[0])]
    assert not (tmp_path / "out").exists()


def test_another_unfinished_run_is_refused(sources, tmp_path):
    with open_album(tmp_path / "out", create=True) as album:
        plan = album.plan("move", [(str(source), name) for source, name in into_x(sources)])
        next(iter(album.run(plan)))
    with pytest.raises(NasnetError, match="unfinished run of another command, with 2 files left"):
        run("copy", tmp_path / "out", into_x(sources))
    assert undo(tmp_path / "out") == {}


def test_two_processes_do_not_share_a_folder(tmp_path):
    with (
        open_album(tmp_path),
        pytest.raises(NasnetError, match="Another nasnet"),
        open_album(tmp_path),
    ):
        pass


GOOD = '{"nasnet_undo": 1, "created": []}'


@pytest.mark.parametrize(
    ("lines", "number"),
    [
        (["{}"], 1),
        (['{"nasnet_undo": 2, "created": []}'], 1),
        (['{"nasnet_undo": 1, "created": [{"name": "../x"}]}'], 1),
        (['{"nasnet_undo": 1, "created": [null]}'], 1),
        ([GOOD, "[]"], 2),
        ([GOOD, '{"action": "delete", "source": "/a", "destination": "a"}'], 2),
        ([GOOD, '{"action": "move", "source": "a", "destination": "a"}'], 2),
        ([GOOD, '{"action": "move", "source": "s3://b/a", "destination": "a"}'], 2),
        ([GOOD, '{"action": "move", "source": "/a", "destination": "/etc/a"}'], 2),
        ([GOOD, '{"action": "move", "source": "/a", "destination": "x/../../a"}'], 2),
        ([GOOD, '{"action": "move", "source": "/a", "destination": 1}'], 2),
        ([GOOD, '{"action": "move", "source": "/a", "destination": "a\\u0000"}'], 2),
        ([GOOD, '{"action": "move", "source": "/a", "desti'], 2),
    ],
)
def test_odd_lines_of_the_list_are_refused(lines, number, tmp_path):
    (tmp_path / NAME).write_text("\n".join(lines))
    with pytest.raises(NasnetError, match=f"Line {number} of .* is not one of"):
        undo(tmp_path)


@pytest.mark.linux
def test_a_list_that_is_a_pipe_or_a_link_is_refused(tmp_path):
    """A pipe would be waited for, and a link could lead to a device without end."""
    os.mkfifo(tmp_path / NAME)
    with pytest.raises(NasnetError, match=r"Cannot read .*: it is not a file"):
        undo(tmp_path)
    (tmp_path / NAME).unlink()
    (tmp_path / NAME).symlink_to("/dev/zero")
    with pytest.raises(NasnetError, match="Cannot read"):
        undo(tmp_path)


def plant(folder, *transfers, mode=0o600):
    lines = [{"nasnet_undo": 1, "created": []}, *transfers]
    (folder / NAME).write_text("\n".join(map(json.dumps, lines)))
    (folder / NAME).chmod(mode)


@pytest.mark.linux
@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_a_list_that_others_can_write_to_is_refused(mode, sources, tmp_path):
    run("move", tmp_path / "out", into_x(sources))
    (tmp_path / "out" / NAME).chmod(mode)
    with pytest.raises(NasnetError, match="others can write to it"):
        undo(tmp_path / "out")
    (tmp_path / "out" / NAME).chmod(0o777)  # as a disk without permissions shows it
    assert undo(tmp_path / "out") == {}


@pytest.mark.linux
@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs another user")
def test_a_list_of_another_user_is_refused(sources, tmp_path):
    run("move", tmp_path / "out", into_x(sources))
    os.chown(tmp_path / "out" / NAME, 65534, 65534)
    with pytest.raises(NasnetError, match="is another user's"):
        undo(tmp_path / "out")


def test_a_list_is_for_its_user_alone(sources, tmp_path):
    before = os.umask(0o002)
    try:
        run("move", tmp_path / "out", into_x(sources))
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "out" / NAME).stat().st_mode) == 0o600
    assert undo(tmp_path / "out") == {}


@pytest.mark.parametrize(
    ("name", "source", "content", "mode"),
    [
        ("a.sh", "bin/a.sh", b"#!/bin/sh", 0o755),
        ("keys", ".ssh/authorized_keys", b"ssh-rsa AAAA", 0o600),
        ("keys", ".ssh/authorized_keys", b"\xff\xd8\xff\nssh-rsa AAAA", 0o600),
        ("ls", "bin/ls", b"BM=1;echo", 0o755),
        ("a.jpg", ".bashrc", b"\xff\xd8\xff\nrm", 0o644),
    ],
)
def test_a_planted_list_puts_nothing_where_it_counts(name, source, content, mode, tmp_path):
    folder, home = tmp_path / "out", tmp_path / "home"
    folder.mkdir()
    (folder / name).write_bytes(content)
    (folder / name).chmod(mode)
    plant(folder, {"action": "move", "source": str(home / source), "destination": name})
    assert undo(folder) == {name: "it is not an image, so it stays"}
    assert (folder / name).read_bytes() == content and not home.exists()


def test_a_planted_list_takes_nothing_from_elsewhere(tmp_path):
    folder, other = tmp_path / "out", tmp_path / "other"
    for place in (folder, other):
        place.mkdir()
    (other / "a.jpg").write_bytes(b"a")
    (folder / "x").symlink_to(other)
    plant(folder, {"action": "move", "source": str(tmp_path / "b.jpg"), "destination": "x/a.jpg"})
    assert undo(folder) == {"x/a.jpg": "its folder is a link that leads elsewhere, so it stays"}
    assert (other / "a.jpg").exists()


@pytest.mark.parametrize("name", ["IMG_1", "scan.dat", "A.JPG"])
def test_images_of_any_name_go_back(name, tmp_path):
    (tmp_path / "a").mkdir()
    Image.new("RGB", (9, 9)).save(tmp_path / "a" / name, "PNG")
    run("move", tmp_path / "out", [(tmp_path / "a" / name, f"x/{name}")])
    assert undo(tmp_path / "out") == {}
    assert (tmp_path / "a" / name).exists()


def test_a_folder_without_a_list_has_nothing_to_take_back(tmp_path):
    with pytest.raises(NasnetError, match="has no undo list"):
        undo(tmp_path)
    with pytest.raises(NasnetError, match="has no undo list"):
        undo(tmp_path / "none")
    (tmp_path / "file").touch()
    with pytest.raises(NasnetError, match="is not a folder"):
        undo(tmp_path / "file")


def test_the_list_is_on_disk_before_the_first_move(sources, tmp_path, monkeypatch):
    seen = []

    def look(transfer, target, contents):
        seen.append((tmp_path / "out" / NAME).read_text().splitlines())

    monkeypatch.setattr(moves, "carry_out", look)
    run("move", tmp_path / "out", into_x(sources))
    assert [json.loads(line)["action"] for line in seen[0][1:]] == ["move"] * 3
