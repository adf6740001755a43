"""Sharded jobs as a user runs them: real files, real kills."""

from __future__ import annotations

import json
import os
import shutil
import signal
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from nasnet_cli.errors import NasnetError
from nasnet_cli.jobs.engines.ray import ShardWorker
from nasnet_cli.jobs.shards.manifest import open_manifest
from nasnet_cli.jobs.shards.merge import finished_parts, merge
from nasnet_cli.jobs.shards.shard import finished_shards
from nasnet_cli.jobs.spec import JobSpec
from nasnet_cli.results.records import Summary
from support import disks
from support.killing import eager, run
from support.shards import content, make_photos, states_of, status


@pytest.fixture(scope="module")
def album(tmp_path_factory):
    """Ten images and one file that is not an image."""
    folder = tmp_path_factory.mktemp("album")
    make_photos(folder, 10)
    (folder / "0004b.png").write_text("no image")
    return folder


@pytest.fixture(scope="module")
def finished(nasnet, album, tiny_module, tmp_path_factory):
    """The folder of a finished job over the album."""
    out = tmp_path_factory.mktemp("finished") / "job"
    nasnet("classify", album, "-m", tiny_module, "--shard-size", 4, "--out", out, expect=3)
    return out


@pytest.fixture
def job(finished, tmp_path):
    """A copy of it that a test may damage."""
    return shutil.copytree(finished, tmp_path / "job")


@pytest.fixture
def again(nasnet, album, tiny_module, job):
    """A function that runs it again."""

    def run(*options, expect=3):
        size = ("--shard-size", 4)
        return nasnet(
            "classify", album, "-m", tiny_module, *size, "--out", job, *options, expect=expect
        )

    return run


def test_run_options_reach_the_shards(nasnet, album, tiny_module, tmp_path):
    command = ("classify", album, "-m", tiny_module, "--shard-size", 4, "--out", tmp_path / "job")
    done = nasnet(*command, "-v", "--batch-size", 1, "--workers", 1, expect=3)
    said = done.stderr.splitlines()
    assert sum("0004b.png: " in line for line in said) == 1
    assert float(next(line for line in said if "decode" in line).split()[1]) >= 0
    assert said[-1].startswith("Steady rate: ")


def times(folder):
    return {path.name: path.stat().st_mtime_ns for path in folder.glob("shard-*")}


@pytest.mark.parametrize(
    ("command", "format_"),
    [
        ("classify", "jsonl"),
        ("classify", "csv"),
        ("classify", "parquet"),
        ("embed", "npy"),
        ("embed", "parquet"),
    ],
)
def test_merged_shards_have_the_bytes_of_an_unsharded_run(
    nasnet, album, tiny_module, label_file, tmp_path, command, format_
):
    labelled = ("--labels", label_file, "--sure", 0.3) if command == "classify" else ()
    one, merged = tmp_path / "one", tmp_path / "merged"
    for folder in (one, merged):
        folder.mkdir()
    name, job = f"all.{format_}", tmp_path / "job"
    nasnet(command, album, "-m", tiny_module, *labelled, "--out", one / name, expect=3)
    sharded = ("--shards", 3, "--format", format_, "--out", job)
    nasnet(command, album, "-m", tiny_module, *labelled, *sharded, expect=3)
    nasnet("merge", job, "--out", merged / name, expect=3)
    (one / f"{name}.inputs").unlink()  # a merged file is brought up to date with its job
    assert content(merged) == content(one)
    assert len(content(one)) == {"npy": 3, "parquet": 1}.get(format_, 2)


def test_marker_describes_the_shard(finished):
    marker = json.loads((finished / "shard-00001.json").read_text())
    assert (marker["first"], marker["pictures"]) == (4, 4)
    assert marker["counts"] == {"inputs": 4, "ok": 3, "failed": 1}
    assert marker["errors"] == {"not_an_image": 1}
    (name,) = marker["outputs"]
    assert name == "shard-00001.jsonl"
    assert marker["outputs"][name]["bytes"] == (finished / name).stat().st_size
    assert len(marker["model"]["digest"]) == len(marker["preprocessing"]["digest"]) == 64
    assert marker["runtime"]["instruction_set"]
    assert sorted(path.name for path in finished.iterdir()) == [
        "manifest",
        *(f"shard-0000{i}.{ending}" for i in range(3) for ending in ("json", "jsonl")),
    ]


def test_finished_shards_are_not_run_again(job, again):
    before = times(job)
    done = again()
    assert times(job) == before
    assert "; 1 error: 1 not_an_image (leave them out); 11 in earlier runs; " in done.stderr
    assert "images/s" not in done.stderr


def test_shard_without_marker_is_run_again_with_the_same_bytes(job, again):
    before, whole = times(job), content(job)
    (job / "shard-00001.json").unlink()
    again()
    assert content(job) == whole
    assert [name for name in before if times(job)[name] != before[name]] == [
        name for name in before if name.startswith("shard-00001")
    ]


@pytest.mark.parametrize("spoil", ["marker", "shorter", "gone", "empty marker"])
def test_shard_whose_marker_does_not_match_is_run_again(job, again, spoil):
    whole = content(job)
    marker, output = job / "shard-00001.json", job / "shard-00001.jsonl"
    if spoil == "marker":
        said = json.loads(marker.read_text())
        marker.write_text(json.dumps({**said, "slice": "0" * 64}))
    elif spoil == "shorter":
        output.write_bytes(output.read_bytes()[:-5])
    elif spoil == "gone":
        output.unlink()
    else:
        marker.write_bytes(b"")
    answer = status(job, expect=3)
    assert states_of(answer) == ["done", "missing", "done"] and answer["shards"][1]["why"]
    again()
    assert content(job) == whole
    assert states_of(status(job, "--verify")) == ["done"] * 3


def test_status_verify_and_merge_find_a_changed_byte(nasnet, job, tmp_path):
    output = job / "shard-00002.jsonl"
    output.write_bytes(output.read_bytes().replace(b"ok", b"OK", 1))
    assert states_of(status(job)) == ["done"] * 3
    assert states_of(status(job, "--verify", expect=3)) == ["done", "done", "missing"]
    done = nasnet("merge", job, "--out", tmp_path / "all.jsonl", expect=1)
    assert "sha256" in done.stderr
    assert not list(tmp_path.glob("*all*"))


def test_new_images_get_shards_of_their_own(nasnet, album, tiny_module, tmp_path):
    photos, one = tmp_path / "photos", tmp_path / "one.jsonl"
    job = photos / "job"  # whose files are neither inputs nor skipped
    make_photos(photos, 5)
    command = ("classify", photos, "-m", tiny_module, "--shard-size", 2, "--out", job)
    nasnet(*command, expect=0)
    before = times(job)
    make_photos(photos, 3, first=100)
    Image.new("RGB", (30, 30)).save(photos / "0002.png")
    done = nasnet(*command, expect=0)
    assert "3 new images, 1 changed image" in done.stderr and "skipped" not in done.stderr
    now = times(job)
    assert {name for name in before if now[name] != before[name]} == {
        "shard-00001.json",
        "shard-00001.jsonl",
    }
    assert len(now) == 2 * 5
    nasnet("classify", photos, "-m", tiny_module, "--out", one, expect=0)
    nasnet("merge", job, "--out", tmp_path / "merged.jsonl", expect=0)
    assert (tmp_path / "merged.jsonl").read_bytes() == one.read_bytes()


def test_relative_paths_start_from_the_folder_of_the_last_run(nasnet, tiny_module, tmp_path):
    for place, first in (("old", 0), ("new", 100)):
        make_photos(tmp_path / place, 1, first=first)
        (tmp_path / place / f"{first:04d}.png").rename(tmp_path / place / "a.png")
    command = ("classify", "a.png", "-m", tiny_module)
    shards = ("--shards", 1, "--out", tmp_path / "job")
    nasnet(*command, *shards, cwd=tmp_path / "old", expect=0)
    done = nasnet(*command, *shards, cwd=tmp_path / "new", expect=0)
    assert "1 changed image" in done.stderr
    nasnet(*command, "--out", tmp_path / "one.jsonl", cwd=tmp_path / "new", expect=0)
    nasnet("merge", tmp_path / "job", "--out", tmp_path / "merged.jsonl", expect=0)
    assert (tmp_path / "merged.jsonl").read_bytes() == (tmp_path / "one.jsonl").read_bytes()


@pytest.mark.parametrize(
    ("options", "difference"),
    [
        (("--top", "2"), "--top 5; this run has --top 2"),
        (("--resize", "pad"), "--resize stretch; this run has --resize pad"),
        (("--format", "csv"), "--format jsonl; this run has --format csv"),
    ],
)
def test_other_options_in_the_same_folder_are_refused(job, again, options, difference):
    before = content(job)
    assert difference in again(*options, expect=1).stderr
    assert content(job) == before


def test_other_model_in_the_same_folder_is_refused(nasnet, album, job, tiny_module):
    done = nasnet("classify", album, "--shard-size", 4, "--out", job, expect=1)
    assert f"was started with --model {tiny_module}" in done.stderr
    assert "has --model builtin" in done.stderr


def test_overwrite_starts_over(job, again):
    (job / "notes.txt").write_text("the user's own")
    again("--overwrite", "--top", "2")
    assert (job / "notes.txt").exists()
    assert b'"rank": 2' in (job / "shard-00000.jsonl").read_bytes()
    assert b'"rank": 3' not in (job / "shard-00000.jsonl").read_bytes()


def test_overwrite_keeps_the_job_where_the_model_cannot_be_opened(job, nasnet, album):
    before = content(job)
    shards = ("--shard-size", 4, "--out", job, "--overwrite")
    nasnet("classify", album, "-m", "imagenet-moblie", *shards, expect=1)
    assert content(job) == before


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_next_run_finishes_a_killed_one(nasnet, tiny_module, tmp_path, how):
    """The signal comes in the middle of the third shard."""
    photos, job, one = tmp_path / "photos", tmp_path / "job", tmp_path / "one.npy"
    make_photos(photos, 80)
    command = ("embed", photos, "-m", tiny_module, "--shards", 8, "--out", job)
    stopped = run(eager(25, f"os.kill(os.getpid(), {int(how)})"), *command)
    assert stopped.returncode == (130 if how == signal.SIGINT else -signal.SIGKILL), stopped
    done = set(times(job))
    assert states_of(status(job, expect=3)) == ["done"] * 2 + ["missing"] * 6
    kept = {name: time for name, time in times(job).items() if name.endswith(".json")}
    nasnet(*command, expect=0)
    assert done <= set(times(job))
    assert all(times(job)[name] == time for name, time in kept.items())
    nasnet("embed", photos, "-m", tiny_module, "--out", one, expect=0)
    nasnet("merge", job, "--out", tmp_path / "merged.npy", expect=0)
    for ending in ("npy", "jsonl", "npy.meta.json"):
        assert (tmp_path / f"merged.{ending}").read_bytes() == one.with_suffix(
            f".{ending}"
        ).read_bytes()
    left = [path.name for path in job.iterdir() if path.name.startswith(".")]
    assert all(name.endswith(".partial") for name in left)


def test_removed_job_folder_is_an_error(nasnet, tiny_module, tmp_path):
    photos, job = tmp_path / "photos", tmp_path / "job"
    make_photos(photos, 40)
    command = ("classify", photos, "-m", tiny_module, "--shards", 4, "--out", job)
    rename = f"os.rename({str(job)!r}, {str(tmp_path / 'elsewhere')!r})"
    done = run(eager(25, rename), *command)
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1
    assert "job" in done.stderr and not job.exists()
    nasnet(*command, expect=0)
    assert states_of(status(job)) == ["done"] * 4


def test_full_disk_is_an_error_and_space_lets_the_next_run_finish(
    nasnet, album, tiny_module, tmp_path
):
    with disks.small_disk(tmp_path / "disk", "256k") as disk:
        command = ("embed", album, "-m", tiny_module, "--shard-size", 4, "--out", disk / "job")
        filler = disk / "filler"
        nasnet(
            "embed",
            album,
            "-m",
            tiny_module,
            "--shard-size",
            4,
            "--out",
            tmp_path / "room",
            expect=3,
        )
        filler.write_bytes(bytes(200_000))
        errors = nasnet(*command, expect=1).stderr
        assert "no space left" in errors
        if (disk / "job" / "manifest" / "manifest.json").exists():
            assert "done" not in states_of(status(disk / "job", expect=3))[-1:]
        filler.unlink()
        nasnet(*command, expect=3)
        assert states_of(status(disk / "job", "--verify")) == ["done"] * 3


def test_status_counts_finished_and_missing_shards(nasnet, job):
    assert "3 of 3 shards done" in nasnet("status", job, expect=0).stdout
    (job / "shard-00001.json").unlink()
    (job / "shard-00002.json").write_text('{"version": 9}')
    done = nasnet("status", job, expect=3)
    assert "1 of 3 shards done, 0 failed, 2 missing; 4 of 11 images" in done.stdout
    assert "shard 2" in done.stdout
    assert status(job, expect=3)["totals"]["shards"] == {
        "all": 3,
        "done": 1,
        "failed": 0,
        "missing": 2,
    }
    assert not nasnet("status", job, "--quiet", expect=3).stdout


def test_status_shows_why_a_shard_failed(nasnet, job, again):
    (job / "shard-00001.json").unlink()
    (job / "shard-00001.jsonl").unlink()
    (job / "shard-00001.jsonl").mkdir()
    assert "shard-00001.jsonl is a folder" in again(expect=1).stderr
    assert states_of(status(job, expect=3)) == ["done", "failed", "done"]
    assert "is a folder" in nasnet("status", job, expect=3).stdout
    (job / "shard-00001.jsonl").rmdir()
    again()
    assert states_of(status(job)) == ["done"] * 3
    assert not list(job.glob("*.failed.json"))


def test_merge_refuses_an_unfinished_job_without_partial(nasnet, job, tmp_path):
    (job / "shard-00000.json").unlink()
    merged = tmp_path / "merged.jsonl"
    done = nasnet("merge", job, "--out", merged, expect=1)
    assert "shard 0" in done.stderr and "--partial" in done.stderr and not merged.exists()
    nasnet("merge", job, "--out", merged, "--partial", expect=3)
    assert len(merged.read_text().splitlines()) == 7
    assert json.loads(Path(f"{merged}.meta.json").read_text())["summary"]["inputs"] == 7
    assert "already exists" in nasnet("merge", job, "--out", merged, "--partial", expect=1).stderr


def test_merge_refuses_another_format(nasnet, finished, tmp_path):
    done = nasnet("merge", finished, "--out", tmp_path / "x.csv", expect=1)
    assert "jsonl" in done.stderr and not list(tmp_path.iterdir())


def test_damaged_manifest_is_an_error_and_a_new_one_keeps_finished_shards(nasnet, job, again):
    before, manifest = times(job), job / "manifest" / "manifest.json"
    manifest.write_bytes(manifest.read_bytes()[:-9])
    for done in (again(expect=1), nasnet("status", job, expect=1)):
        assert "damaged" in done.stderr and "run again" in done.stderr
    shutil.rmtree(job / "manifest")
    again()
    assert times(job) == before


def test_manifest_of_another_version_is_refused(job, again):
    manifest = job / "manifest" / "manifest.json"
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "version": 2}))
    assert "version 2" in again(expect=1).stderr


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--shards", 2), "need --out"),
        (("--shards", 2, "--shard-size", 2, "--out", "x"), "either"),
        (("--shards", 2, "--format", "json", "--out", "x"), "jsonl or csv or parquet"),
        (("--engine", "ray", "--out", "x.jsonl"), "--shards"),
    ],
)
def test_contradicting_options_are_a_usage_error(nasnet, album, options, words):
    assert words in nasnet("classify", album, *options, expect=2).stderr


def test_out_must_be_a_local_folder(nasnet, album, tmp_path):
    (tmp_path / "file").write_text("")
    for out, words in ((tmp_path / "file", "not a folder"), ("s3://bucket/job", "not a folder")):
        assert words in nasnet("classify", album, "--shards", 2, "--out", out, expect=1).stderr


def edited(path, change):
    """Change a JSON file in place by a function."""
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_a_marker_names_only_its_shards_files(again, job):
    """Its outputs are other files, links, or longer than they say: the shard is run again."""
    marker, output = job / "shard-00001.json", job / "shard-00001.jsonl"
    whole = output.read_bytes()
    (job.parent / "secret.jsonl").write_bytes(whole)
    for name in ("../secret.jsonl", "shard-00000.jsonl", "/etc/passwd"):
        edited(marker, lambda content, name=name: content["outputs"].update({name: {}}))
        assert states_of(status(job, expect=3)) == ["done", "missing", "done"], name
        again()
    output.unlink()
    output.symlink_to(job.parent / "secret.jsonl")
    assert "is not a file" in status(job, expect=3)["shards"][1]["why"]
    again()
    assert output.read_bytes() == whole and not output.is_symlink()


@pytest.mark.linux
def test_a_marker_that_is_a_pipe_blocks_nobody(job):
    marker = job / "shard-00001.json"
    marker.unlink()
    os.mkfifo(marker)
    assert states_of(status(job, expect=3)) == ["done", "missing", "done"]


DAMAGES = [
    b"[" * 100_000,
    b'{"format": "nasnet-manifest", "version": 1}',
    b"\xff",
    b"[]",
    b"1" * 5000,
]


@pytest.mark.parametrize("damage", DAMAGES, ids=range(len(DAMAGES)))
def test_a_damaged_manifest_is_named(again, job, nasnet, damage):
    (job / "manifest" / "manifest.json").write_bytes(damage)
    for done in (again(expect=1), nasnet("status", job, expect=1)):
        assert "manifest" in done.stderr and "Unexpected" not in done.stderr


def test_workers_run_the_drivers_work_and_refuse_another(job, tiny_module, monkeypatch):
    monkeypatch.chdir(Path.cwd())  # which a worker changes
    manifest = job / "manifest" / "manifest.json"
    assert "allow_unsafe_ops" not in manifest.read_text()
    whole = (job / "shard-00001.jsonl").read_bytes()
    hostile = {"allow_unsafe_ops": True, "model": "/absent", "top": 3}
    edited(manifest, lambda content: content["work"]["work"].update(hostile))

    def outcome(**more):
        spec = JobSpec(("labels",), model=str(tiny_module), **more)
        return ShardWorker(str(job), str(Path.cwd()), spec, 1, None).run(1)

    assert outcome().counts == Summary(4, 3, 1)
    assert (job / "shard-00001.jsonl").read_bytes() == whole
    assert outcome(top=3).counts is None and "--top 3" in outcome(top=3).why


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)


@settings(max_examples=60, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_whatever_a_manifest_or_marker_holds_is_a_sentence(finished, tmp_path_factory, data):
    """One value anywhere in it becomes another one."""
    job = shutil.copytree(finished, tmp_path_factory.mktemp("fuzzed") / "job")
    path = job / data.draw(st.sampled_from(["manifest/manifest.json", "shard-00001.json"]))
    place, content = [], json.loads(path.read_text())
    part = content
    while isinstance(part, dict | list) and part and (not place or data.draw(st.booleans())):
        keys = list(part) if isinstance(part, dict) else range(len(part))
        place = [part, data.draw(st.sampled_from(list(keys)))]
        part = place[0][place[1]]
    place[0][place[1]] = data.draw(JSON)
    path.write_text(json.dumps(content))
    with suppress(NasnetError):
        manifest = open_manifest(job)
        finished_shards(manifest)
        merge(finished_parts(manifest, partial=True), job / "all.jsonl", overwrite=True)
