"""The manifest: images with fixed numbers in fixed slices, which grows only at its end."""

from __future__ import annotations

import json
import os
import zipfile
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nasnet_cli.errors import NasnetError
from nasnet_cli.images.listing import list_sources
from nasnet_cli.images.source import SkipCounter, Source
from nasnet_cli.jobs.shards.manifest import DESCRIBED, make_manifest, open_manifest
from nasnet_cli.jobs.shards.slices import Cut
from nasnet_cli.jobs.shards.update import Changes, extend
from support.memory import with_peak

WORK: dict[str, dict[str, object]] = {name: {} for name in (*DESCRIBED, "work")}
WORK["formats"] = {"labels": "jsonl"}


@pytest.fixture
def photos(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in "bdfhj":
        (folder / f"{name}.jpg").write_bytes(name.encode())
    return folder


def listed(*paths):
    skips = SkipCounter()
    return list_sources(map(str, paths), skips=skips), skips


def made(tmp_path, *paths, **cut):
    return make_manifest(tmp_path / "job", *listed(*paths), work=WORK, cut=Cut(**cut))


def extended(manifest, *paths):
    return extend(open_manifest(manifest.out), *listed(*paths))


def names(manifest):
    """Return the contents of each shard's images: the letters of their names."""
    shards = (manifest.sources(shard) for shard in range(manifest.shards))
    return ["".join(_letter(source) for source in shard) for shard in shards]


def _letter(source):
    return "!" if source.failure else source.read().decode()


def test_images_are_cut_in_order(photos, tmp_path):
    manifest = made(tmp_path, photos, shards=2)
    assert names(manifest) == ["bdf", "hj"]
    assert open_manifest(tmp_path / "job") == manifest
    assert (manifest.images, manifest.shards) == (5, 2)
    assert [s.first for s in manifest.slices()] == [0, 3]
    assert [manifest.slice(i) for i in range(2)] == list(manifest.slices())


def test_shards_of_a_fixed_size(photos, tmp_path):
    assert names(made(tmp_path, photos, shard_size=2)) == ["bd", "fh", "j"]


@given(st.integers(0, 200), st.integers(1, 40))
def test_shard_sizes_are_even(images, shards):
    sizes = list(Cut(shards=shards).sizes(images))
    assert sum(sizes) == images and len(sizes) == min(shards, images)
    assert all(0 <= before - after <= 1 for before, after in pairwise(sizes))
    sizes = list(Cut(shard_size=shards).sizes(images))
    assert sum(sizes) == images and set(sizes[:-1]) <= {shards}


def test_same_list_gives_the_same_bytes(photos, tmp_path):
    first = made(tmp_path, photos, shards=2)
    before = {p.name: p.read_bytes() for p in first.folder.iterdir()}
    manifest, changes = extended(first, photos)
    assert changes == Changes() and manifest == first
    made(tmp_path, photos, shards=2)
    assert {p.name: p.read_bytes() for p in first.folder.iterdir()} == before


def test_new_images_are_added_at_the_end(photos, tmp_path):
    first = made(tmp_path, photos, shards=2)
    for name in "acz":
        (photos / f"{name}.jpg").write_bytes(name.encode())
    manifest, changes = extended(first, photos)
    assert changes == Changes(added=3)
    assert names(manifest) == ["bdf", "hj", "acz"]
    assert [s.sha256 for s in manifest.slices()][:2] == [s.sha256 for s in first.slices()]
    assert [s.first for s in manifest.slices()] == [0, 3, 5]
    # Once more, with nothing new, and again with one.
    again, changes = extended(manifest, photos)
    assert changes == Changes() and again == manifest
    (photos / "e.jpg").write_bytes(b"e")
    manifest, changes = extended(manifest, photos)
    assert names(manifest) == ["bdf", "hj", "acz", "e"] and changes == Changes(added=1)


def test_changed_image_changes_only_its_own_slice(photos, tmp_path):
    first = made(tmp_path, photos, shard_size=2)
    old = [s.sha256 for s in first.slices()]
    (photos / "f.jpg").write_bytes(b"now longer")
    os.utime(photos / "j.jpg", ns=(1, 1))
    (photos / "a.jpg").write_bytes(b"a")
    manifest, changes = extended(first, photos)
    assert changes == Changes(added=1, changed=2)
    new = [s.sha256 for s in manifest.slices()]
    assert [a == b for a, b in zip(old, new, strict=False)] == [True, False, False]
    assert names(manifest) == ["bd", "now longerh", "j", "a"]
    assert sorted(p.name for p in manifest.folder.glob("pictures-*")) == [
        "pictures-0.r2.jsonl",
        "pictures-1.r2.jsonl",
    ]
    assert extended(manifest, photos)[1] == Changes()


def test_missing_image_stays_in_the_manifest(photos, tmp_path):
    first = made(tmp_path, photos, shard_size=2)
    for name in "bj":
        (photos / f"{name}.jpg").unlink()
    manifest, changes = extended(first, photos)
    assert changes == Changes(gone=2) and manifest == first
    (source, _) = manifest.sources(0)
    with pytest.raises(Exception, match="no such file"):
        source.read()


def test_failures_names_and_archives_are_restored(photos, tmp_path):
    odd = os.fsdecode(b"photos/\xff\xe9.jpg")
    Path(odd).write_bytes(b"o")
    with zipfile.ZipFile("a.zip", "w") as archive:
        for name in ("x.jpg", "y/y.jpg"):
            archive.writestr(name, name[0])
    paths = ("photos", "a.zip", "missing.jpg", "a.zip", "a.zip", "photos/b.jpg", "photos/b.jpg")
    manifest = made(tmp_path, *paths, shard_size=3)
    assert "".join(names(manifest)) == "bdfhjoxy!xyxybb"
    sources = [s for shard in range(manifest.shards) for s in manifest.sources(shard)]
    expected = list(listed(*paths)[0])
    assert [s.path for s in sources] == [s.path for s in expected]
    assert (sources[8].failure.kind, sources[8].failure.message) == (
        expected[8].failure.kind,
        expected[8].failure.message,
    )
    assert extended(manifest, *paths)[1] == Changes()


def test_relative_paths_start_in_the_folder_of_the_job(photos, tmp_path, monkeypatch):
    manifest = made(tmp_path, "photos", shards=1)
    monkeypatch.chdir("/")
    assert names(manifest) == ["bdfhj"]
    assert next(manifest.sources(0)).path == "photos/b.jpg"


def test_changed_archive_is_an_input_error(photos, tmp_path):
    with zipfile.ZipFile("a.zip", "w") as archive:
        archive.writestr("x.jpg", "x")
    manifest = made(tmp_path, "a.zip", shards=1)
    with zipfile.ZipFile("a.zip", "w") as archive:
        archive.writestr("other.jpg", "x")
    (source,) = manifest.sources(0)
    assert source.failure.kind == "archive" and "changed" in source.failure.message


def test_empty_list_is_an_error(tmp_path):
    with pytest.raises(NasnetError, match="no images"):
        made(tmp_path, tmp_path, shards=2)


@pytest.mark.parametrize("name", ["manifest.json", "pictures-0.r1.jsonl", "slices-0.r1.txt"])
def test_truncated_manifest_is_an_error(photos, tmp_path, name):
    manifest = made(tmp_path, photos, shards=2)
    path = manifest.folder / name
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(NasnetError, match="damaged"):
        found = open_manifest(tmp_path / "job")
        list(found.slices())
        names(found)


def test_manifest_of_another_version_is_refused(photos, tmp_path):
    path = made(tmp_path, photos, shards=2).folder / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "version": 2}))
    with pytest.raises(NasnetError, match="version 2"):
        open_manifest(tmp_path / "job")
    path.write_text("[]")
    with pytest.raises(NasnetError, match="not a manifest"):
        open_manifest(tmp_path / "job")
    with pytest.raises(NasnetError, match="no sharded job"):
        open_manifest(tmp_path / "elsewhere")


def test_memory_is_flat(tmp_path):
    def many(count):
        return (Source(f"a/long/name/of/a/image/{i}.jpg", file=__file__) for i in range(count))

    def peak(count):
        def make():
            out, cut = tmp_path / str(count), Cut(shard_size=100)
            manifest = make_manifest(out, many(count), SkipCounter(), work=WORK, cut=cut)
            extend(manifest, many(count), SkipCounter())

        return with_peak(make)[1]

    peak(100)
    assert peak(4000) < peak(400) + 100_000
