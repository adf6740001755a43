"""nasnet tag: keywords in sidecars, read back by exiftool, beside what others have written."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import zipfile

import pytest

from nasnet_cli.albums.keywords import keywords_of
from nasnet_cli.results.records import Classified, Everyday
from support.cli import NASNET
from support.disks import MISSING_PROGRAM, small_disk
from support.labels import ALL_FORMATS, BANANA, BIRD_CRANE, DOG, failed, labelled, write_results
from support.sidecars import DARKTABLE, DIGIKAM, LIGHTROOM

NAMES = ["dog", "canine", "carnivore", "mammal", "domestic animal", "animal"]
PATHS = [
    ["animal", "mammal", "carnivore", "canine", "dog"],
    ["animal", "domestic animal", "dog"],
]
ROWS = [labelled("dog.jpg", DOG), labelled("unsure.jpg", None), failed("broken.jpg")]
LISTS = ("Subject", "HierarchicalSubject", "TagsList")


@pytest.fixture
def photos(tmp_path):
    """Images with labels; they are no real ones, for no image is ever opened."""
    for row in ROWS:
        (tmp_path / row.path).write_text(row.path)
    write_results(tmp_path / "labels.jsonl", ROWS)
    return tmp_path


def exiftool(*arguments):
    if shutil.which("exiftool") is None:
        pytest.skip(f"exiftool {MISSING_PROGRAM}")
    return subprocess.run(
        ["exiftool", *map(str, arguments)], capture_output=True, check=True
    ).stdout.decode()


def keywords(sidecar):
    """Return the three lists of keywords, as exiftool reads them."""
    (tags,) = json.loads(exiftool("-j", "-struct", *(f"-{name}" for name in LISTS), sidecar))
    lists = [tags.get(name, []) for name in LISTS]
    return tuple([found] if isinstance(found, str) else found for found in lists)


def foreign(sidecar):
    """Return what exiftool says of a sidecar but for the file itself, the keywords and our own."""
    (tags,) = json.loads(exiftool("-j", "-a", "-G1", "-struct", sidecar))
    return {
        name: value
        for name, value in tags.items()
        if not name.startswith(("System:", "SourceFile", "ExifTool:", "XMP-nasnet:"))
        and name.partition(":")[2] not in LISTS
    }


def everything(sidecar):
    """Return all lines of exiftool -a -G1 -struct -X but for those about the file itself."""
    lines = exiftool("-a", "-G1", "-struct", "-X", sidecar).splitlines()
    return [line for line in lines if "<System:" not in line]


def write_sidecar(path, kind):
    if kind == "digikam":
        exiftool("-q", *DIGIKAM, path)
    else:
        path.write_text({"darktable": DARKTABLE, "lightroom": LIGHTROOM}[kind])


def test_keywords_are_written_and_taken_away(photos, nasnet):
    before = {path: path.stat() for path in photos.glob("*.jpg")}
    done = nasnet("tag", "labels.jsonl", cwd=photos, expect=0)
    assert (
        done.stderr
        == "3 images: 1 sidecar created, 1 not sure; 1 error: 1 truncated (copy them again).\n"
    )
    sidecar = photos / "dog.jpg.xmp"
    assert list(photos.glob("*.xmp")) == [sidecar]
    assert keywords(sidecar) == (
        NAMES,
        ["|".join(path) for path in PATHS],
        ["/".join(path) for path in PATHS],
    )
    data, status = sidecar.read_bytes(), sidecar.stat()
    again = nasnet("tag", "labels.jsonl", cwd=photos, expect=0)
    assert again.stderr.startswith("3 images: no sidecar changed, 1 unchanged")
    assert (sidecar.read_bytes(), sidecar.stat()) == (data, status)
    removed = nasnet("tag", "labels.jsonl", "--remove", cwd=photos, expect=0)
    assert "1 sidecar removed" in removed.stderr
    assert not list(photos.glob("*.xmp")) and not list(photos.glob(".*"))
    for path, old in before.items():
        assert path.stat()[:10] == old[:10]


@pytest.mark.parametrize("kind", ["digikam", "darktable", "lightroom"])
def test_what_others_have_written_stays(kind, photos, nasnet):
    sidecar = photos / "dog.jpg.xmp"
    write_sidecar(sidecar, kind)
    sidecar.chmod(0o640)
    old, old_lists, old_lines = foreign(sidecar), keywords(sidecar), everything(sidecar)
    assert len(old) > 3
    done = nasnet("tag", "labels.jsonl", cwd=photos, expect=0)
    assert "1 sidecar changed" in done.stderr
    assert foreign(sidecar) == old
    wanted = (NAMES, ["|".join(path) for path in PATHS], ["/".join(path) for path in PATHS])
    for new, before, ours in zip(keywords(sidecar), old_lists, wanted, strict=True):
        assert new == before + [value for value in ours if value not in before]
    assert sidecar.stat().st_mode & 0o777 == 0o640
    data = sidecar.read_bytes()
    nasnet("tag", "labels.jsonl", cwd=photos, expect=0)
    assert sidecar.read_bytes() == data
    assert data.count(b"<!-- kept -->") == (kind == "lightroom")
    nasnet("tag", "labels.jsonl", "--remove", cwd=photos, expect=0)
    assert everything(sidecar) == old_lines
    assert b"nasnet" not in sidecar.read_bytes()


def test_keywords_are_taken_away_after_another_program_has_written(photos, nasnet):
    sidecar = photos / "dog.jpg.xmp"
    nasnet("tag", "labels.jsonl", cwd=photos, expect=0)
    exiftool("-q", "-overwrite_original", "-XMP-dc:Subject+=mine", "-XMP-xmp:Rating=5", sidecar)
    nasnet("tag", "labels.jsonl", "--remove", cwd=photos, expect=0)
    assert keywords(sidecar) == (["mine"], [], [])
    assert foreign(sidecar)["XMP-xmp:Rating"] == 5
    assert b"nasnet:" not in sidecar.read_bytes()


def test_keywords_follow_the_label(photos, nasnet):
    sidecar = photos / "dog.jpg.xmp"
    write_sidecar(sidecar, "darktable")
    nasnet("tag", "labels.jsonl", cwd=photos, expect=0)
    write_results(photos / "labels.jsonl", [labelled("dog.jpg", BANANA)])
    nasnet("tag", "labels.jsonl", cwd=photos, expect=0)
    names, _, tags = keywords(sidecar)
    assert names[:3] == ["Urlaub", "animal", "banana"] and "dog" not in names
    assert all(tag.endswith("/banana") for tag in tags)
    write_results(photos / "labels.jsonl", [labelled("dog.jpg", None)])
    nasnet("tag", "labels.jsonl", cwd=photos, expect=0)
    assert keywords(sidecar) == (["Urlaub", "animal"], ["Urlaub|See"], [])


def test_two_classes_of_one_name_are_told_apart():
    found = keywords_of(Everyday(BIRD_CRANE, "crane", 0.9))
    assert found.names[0] == "crane (bird)" and found.paths[0][-1] == "crane (bird)"
    unknown = keywords_of(Everyday("n99999999", "a/b|c", 0.9))
    assert unknown == (("a/b|c",), (("a/b|c",),))


def test_a_label_cannot_break_the_tree_or_the_file(photos, nasnet):
    row = Classified("dog.jpg", (), sure=Everyday("n99999999", "a/b|c <&> \u00e9", 0.9))
    write_results(photos / "odd.jsonl", [row])
    nasnet("tag", "odd.jsonl", cwd=photos, expect=0)
    assert keywords(photos / "dog.jpg.xmp") == (
        ["a/b|c <&> \u00e9"],
        ["a-b-c <&> \u00e9"],
        ["a-b-c <&> \u00e9"],
    )


@pytest.mark.parametrize("format_", ALL_FORMATS)
def test_all_formats_are_tagged(format_, photos, nasnet):
    file = write_results(photos / f"labels.{format_}", ROWS)
    nasnet("tag", file, "--base", photos, expect=0)
    assert [path.name for path in photos.glob("*.xmp")] == ["dog.jpg.xmp"]


def test_a_stem_of_two_images_is_skipped_and_named(photos, nasnet):
    (photos / "dog.NEF").touch()
    (photos / "cat.jpg").touch()
    rows = [labelled("dog.jpg", DOG), labelled("cat.jpg", DOG)]
    write_results(photos / "two.csv", rows)
    done = nasnet("tag", "two.csv", "--naming", "stem", cwd=photos, expect=0)
    assert "dog.jpg: shares its stem" in done.stderr
    assert "1 sidecar created, 1 skipped (shares its stem)" in done.stderr
    assert [path.name for path in photos.glob("*.xmp")] == ["cat.xmp"]


def test_a_dry_run_changes_nothing(photos, nasnet):
    done = nasnet("tag", "labels.jsonl", "--dry-run", cwd=photos, expect=0)
    assert done.stdout == f"dog.jpg.xmp: {', '.join(NAMES)}\n"
    assert "1 sidecar to be created" in done.stderr
    assert not list(photos.glob("*.xmp"))


BOMB = (
    '<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]>'
    '<x:xmpmeta xmlns:x="adobe:ns:meta/">&b;</x:xmpmeta>'
)
RDF = (
    '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#" '
    'xmlns:dc="http://purl.org/dc/elements/1.1/">{}</rdf:RDF>'
)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (BOMB.encode(), "has a DTD"),
        (BOMB.replace("1.0", '1.0" encoding="UTF-16', 1).encode("utf-16"), "has a DTD"),
        (b"", "is not XML"),
        (b"<a>", "is not XML"),
        (b"\x00\xff", "is not XML"),
        (b"<html/>", "has no rdf:RDF"),
        (RDF.format('<rdf:Description dc:subject="x"/>').encode(), "subject in a form"),
        (
            RDF.format("<rdf:Description><dc:subject>x</dc:subject></rdf:Description>").encode(),
            "form",
        ),
    ],
)
@pytest.mark.parametrize("remove", [False, True])
def test_sidecars_that_cannot_be_changed_are_named(data, reason, remove, photos, nasnet):
    (photos / "dog.jpg.xmp").write_bytes(data)
    arguments = ["--remove"] if remove else []
    done = nasnet("tag", "labels.jsonl", *arguments, cwd=photos, expect=3)
    assert "dog.jpg.xmp " in done.stderr and reason in done.stderr
    assert "1 failed" in done.stderr
    assert (photos / "dog.jpg.xmp").read_bytes() == data


def test_other_encodings_are_read(photos, nasnet):
    text = DARKTABLE.replace("UTF-8", "UTF-16").replace("Urlaub", "\u00dcber")
    (photos / "dog.jpg.xmp").write_bytes(text.encode("utf-16"))
    nasnet("tag", "labels.jsonl", cwd=photos, expect=0)
    assert keywords(photos / "dog.jpg.xmp")[0][:2] == ["\u00dcber", "animal"]


def test_members_and_missing_images_are_skipped(photos, nasnet):
    with zipfile.ZipFile(photos / "p.zip", "w") as archive:
        archive.writestr("1.jpg", "1")
    rows = [labelled(path, DOG) for path in ("dog.jpg", "p.zip!/1.jpg", "https://h/a.jpg")]
    write_results(photos / "some.csv", rows)
    done = nasnet("tag", "some.csv", cwd=photos, expect=0)
    assert "1 skipped (in an archive), 1 skipped (remote)" in done.stderr
    write_results(photos / "some.csv", [*rows, labelled("none.jpg", DOG)])
    assert nasnet("tag", "some.csv", cwd=photos, expect=3).stderr.endswith("(not found).\n")
    write_results(photos / "none.csv", [labelled("none.jpg", DOG)])
    assert "None of the images exists" in nasnet("tag", "none.csv", cwd=photos, expect=1).stderr


def test_results_without_everyday_labels(photos, nasnet):
    lines = (photos / "labels.jsonl").read_text().splitlines()
    old = [{k: v for k, v in json.loads(line).items() if k != "sure"} for line in lines]
    (photos / "old.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in old))
    assert "has no everyday labels" in nasnet("tag", "old.jsonl", cwd=photos, expect=1).stderr


def test_a_full_disk_ends_the_run(tmp_path, nasnet):
    with small_disk(tmp_path / "disk", "8k") as disk:
        rows = [labelled(f"{n}.jpg", DOG) for n in range(9)]
        for row in rows:
            (disk / row.path).touch()
        file = write_results(tmp_path / "labels.csv", rows)
        done = nasnet("tag", file, "--base", disk, expect=1)
        assert "no space left" in done.stderr and "beside their images" in done.stderr
        assert all(path.read_bytes() for path in disk.glob("*.xmp"))


def test_a_name_that_leaves_no_room_for_a_sidecar_s_name(tmp_path, nasnet):
    row = labelled("a" * 250 + ".jpg", DOG)
    (tmp_path / row.path).touch()
    file = write_results(tmp_path / "labels.csv", [row])
    assert "Use --naming stem." in nasnet("tag", file, cwd=tmp_path, expect=3).stderr
    nasnet("tag", file, "--naming", "stem", cwd=tmp_path, expect=0)


def test_a_kill_before_the_sidecar_has_its_name(photos):
    code = (
        "import os, signal, sys\n"
        "def die(event, arguments):\n"
        "    if event == 'os.rename': os.kill(os.getpid(), signal.SIGKILL)\n"
        "sys.addaudithook(die)\n"
        "from nasnet_cli.cli.main import run\n"
        "run(['tag', 'labels.jsonl'])\n"
    )
    write_sidecar(photos / "dog.jpg.xmp", "darktable")
    killed = subprocess.run([sys.executable, "-c", code], cwd=photos)
    assert killed.returncode == -signal.SIGKILL
    assert (photos / "dog.jpg.xmp").read_text() == DARKTABLE
    assert len(list(photos.glob(".*.partial"))) == 1
    subprocess.run([*NASNET, "tag", "labels.jsonl"], cwd=photos, check=True)
    assert "dog" in keywords(photos / "dog.jpg.xmp")[0]
    assert not list(photos.glob(".*.partial"))


def test_only_tag_imports_lxml(photos):
    code = (
        "import sys\nfrom nasnet_cli.cli.main import run\n"
        "try: run(sys.argv[1:])\n"
        "finally: print('lxml' in sys.modules)"
    )
    for arguments, expected in ((["find", "dog"], b"False"), (["tag"], b"True")):
        command = [sys.executable, "-c", code, *arguments, "labels.jsonl", "-q"]
        done = subprocess.run(command, cwd=photos, capture_output=True)
        assert done.stdout.splitlines()[-1] == expected, done.stderr
