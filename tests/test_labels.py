"""Label files in their common forms; labels are never shifted."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import nasnet_cli
from nasnet_cli.errors import NasnetError
from nasnet_cli.labels import Label, builtin_labels, check_count, labels_for, read_labels

FISH = (Label("n01440764", "tench"), Label("n01443537", "goldfish"))
PLAIN = (Label("", "tench"), Label("", "goldfish"))


def read(tmp_path: Path, content: str | bytes, name: str = "labels.txt") -> tuple[Label, ...]:
    file = tmp_path / name
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_labels(file)


@pytest.mark.parametrize(
    "text",
    [
        "tench\ngoldfish",
        "tench\ngoldfish\n",
        "tench\r\ngoldfish\r\n\r\n",
        "\ufefftench\ngoldfish\n",
        "  tench\ngoldfish  \n",
        "0 tench\n1 goldfish\n",
        "1: goldfish\n0: tench\n",
        "0\ttench\n1\tgoldfish",
    ],
)
def test_one_label_per_line(tmp_path: Path, text: str) -> None:
    assert read(tmp_path, text) == PLAIN


@pytest.mark.parametrize(
    "text",
    [
        "n01440764 tench\nn01443537 goldfish\n",
        "n01440764\ttench\r\nn01443537\tgoldfish\r\n",
        "n01440764, tench\nn01443537, goldfish",
    ],
)
def test_wnid_before_each_label(tmp_path: Path, text: str) -> None:
    assert read(tmp_path, text) == FISH


def test_commas_belong_to_the_label(tmp_path: Path) -> None:
    text = "n01440764 tench, Tinca tinca\nn01443537 goldfish, Carassius auratus"
    assert read(tmp_path, text)[0] == Label("n01440764", "tench, Tinca tinca")
    assert read(tmp_path, "tench, Tinca tinca\ngoldfish")[0] == Label("", "tench, Tinca tinca")


def test_background_without_wnid_may_come_first(tmp_path: Path) -> None:
    text = "background\nn01440764 tench\nn01443537 goldfish\n"
    assert read(tmp_path, text) == (Label("", "background"), *FISH)


def test_numbers_that_are_not_indices_belong_to_the_labels(tmp_path: Path) -> None:
    assert read(tmp_path, "3 door car\n5 door car") == (
        Label("", "3 door car"),
        Label("", "5 door car"),
    )


@pytest.mark.parametrize(
    ("value", "labels"),
    [
        (["tench", "goldfish"], PLAIN),
        ({"1": "goldfish", "0": "tench"}, PLAIN),
        ({"0": ["n01440764", "tench"], "1": ["n01443537", "goldfish"]}, FISH),
        ([["n01440764", "tench"], ["n01443537", "goldfish"]], FISH),
    ],
)
@pytest.mark.parametrize("name", ["imagenet_class_index.json", "labels.txt"])
def test_json(tmp_path: Path, value: object, labels: tuple[Label, ...], name: str) -> None:
    assert read(tmp_path, json.dumps(value), name) == labels


@pytest.mark.parametrize("name", ["labels.csv", "labels.tsv", "labels.txt"])
@pytest.mark.parametrize("delimiter", [",", "\t", ";"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_csv_and_tsv_with_a_header(tmp_path: Path, name: str, delimiter: str, end: str) -> None:
    rows = [
        ["Index", "wnid", "name", "synonyms"],
        ["1", "n01443537", "goldfish", ""],
        ["0", "n01440764", "tench", "Tinca tinca"],
    ]
    text = "\ufeff" + "".join(delimiter.join(row) + end for row in rows)
    assert read(tmp_path, text, name) == FISH


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("label\ntench\ngoldfish\n", PLAIN),
        ("index,label\n0,tench\n1,goldfish\n", PLAIN),
        ("wnid,label\nn01440764,tench\nn01443537,goldfish\n\n", FISH),
        ('"index","name"\n"0","tench"\n"1","goldfish"\n', PLAIN),
    ],
)
def test_csv_with_fewer_columns(tmp_path: Path, text: str, labels: tuple[Label, ...]) -> None:
    assert read(tmp_path, text, "labels.csv") == labels


def test_quoted_labels_in_csv_keep_their_commas(tmp_path: Path) -> None:
    text = 'index,name\n0,"tench, ""Tinca"""\n'
    assert read(tmp_path, text, "a.csv") == (Label("", 'tench, "Tinca"'),)


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.txt", "", "has no labels"),
        ("a.txt", "\n\n", "has no labels"),
        ("a.json", "[]", "has no labels"),
        ("a.csv", "index,name\n", "has no labels"),
        ("a.txt", b"\x89PNG\r\n\x1a\n\0\0", "not text"),
        ("a.txt", "tench".encode("utf-16"), "not text, or not UTF-8"),
        ("a.txt", b"tench\ncaf\xe9\n", "not UTF-8 text .see line 2"),
        ("a.txt", "tench\n\ngoldfish\n", "empty line between labels, line 2"),
        ("a.json", '["tench"', "not valid JSON"),
        ("a.json", "[" * 200_000, "not valid JSON"),
        ("a.json", '"tench"', "neither a list nor an object"),
        ("a.json", '["tench", 7]', "at entry 1"),
        ("a.json", '["tench", " "]', "no name at entry 1"),
        ("a.json", '{"0": "tench", "0": "goldfish"}', "index 0 twice"),
        ("a.json", '{"0": "tench", "00": "goldfish"}', "index 0 twice"),
        ("a.json", '{"0": "tench", "2": "goldfish"}', "no index 1, but 2 labels"),
        ("a.json", '{"1": "tench", "2": "goldfish"}', "no index 0"),
        ("a.json", '{"tench": "0"}', "in place of an index"),
        ("a.json", '{"٣": "tench"}', "in place of an index"),
        ("a.csv", "0,tench\n1,goldfish\n", "no header"),
        ("a.csv", "index,name,name\n0,a,b\n", "two columns 'name'"),
        ("a.csv", "index,name\n0,tench,Tinca\n", "3 columns in line 2, not 2"),
        ("a.csv", "index,name\n0,tench\n0,goldfish\n", "index 0 twice"),
        ("a.csv", "index,name\n0,tench\n2,goldfish\n", "no index 1"),
        ("a.csv", "index,name\n0,tench\n1,\n", "no name at line 3"),
        ("a.csv", "index,name\n0,tench\n-1,goldfish\n", "in place of an index"),
        ("a.csv", 'index,name\n0,"' + "x" * 200_000 + '"\n', "not a table"),
        ("a.txt", b"x" * 10_000_001, "over 10 MB"),
    ],
)
def test_ambiguous_file_is_refused(
    tmp_path: Path, name: str, content: str | bytes, reason: str
) -> None:
    with pytest.raises(NasnetError, match=reason) as caught:
        read(tmp_path, content, name)
    assert str(tmp_path / name) in caught.value.problem
    assert caught.value.problem.endswith(".")
    assert caught.value.remedy


def test_unreadable_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(NasnetError, match="no such file"):
        read_labels(tmp_path / "none.txt")
    with pytest.raises(NasnetError, match="is a directory"):
        read_labels(tmp_path)
    with pytest.raises(NasnetError, match="it is not a file"):
        read_labels("/dev/zero")


def test_built_in_list_is_imagenets() -> None:
    labels = builtin_labels("imagenet_1001")
    assert len(labels) == 1001
    assert labels[0] == Label("", "background")
    assert labels[1] == Label("n01440764", "tench")
    assert len({label.wnid for label in labels}) == 1001


def test_labels_for_depends_on_the_count_of_classes() -> None:
    with_background, without = labels_for(1001), labels_for(1000)
    assert with_background is not None
    assert without is not None
    assert with_background[1:] == without
    assert without[0] == Label("n01440764", "tench")
    assert labels_for(200) is labels_for(0) is None


def test_wrong_count_is_an_error_with_both_numbers() -> None:
    check_count(PLAIN, 2, "labels.txt")
    with pytest.raises(NasnetError, match=r"labels\.txt has 2 labels, .* 3 classes"):
        check_count(PLAIN, 3, "labels.txt")
    thousand = PLAIN * 500
    with pytest.raises(NasnetError, match="insert a line 'background'"):
        check_count(thousand, 1001, "labels.txt")
    with pytest.raises(NasnetError, match="remove the first line"):
        check_count((Label("", "background"), *thousand), 1000, "labels.txt")


@given(st.binary(max_size=200) | st.text(max_size=100).map(str.encode))
def test_any_content_gives_labels_or_an_error(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    file = tmp_path_factory.getbasetemp() / "any.txt"
    file.write_bytes(content)
    try:
        labels = read_labels(file)
    except NasnetError:
        return
    assert labels
    assert all(label.name.strip() for label in labels)


line = st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=20).filter(
    lambda text: text.strip() and text[0].isalpha() and text.lower() not in ("name", "label")
)


@given(st.lists(line, min_size=1, max_size=10))
def test_plain_lists_and_json_lists_agree(
    tmp_path_factory: pytest.TempPathFactory, names: list[str]
) -> None:
    folder = tmp_path_factory.getbasetemp()
    (folder / "any.json").write_text(json.dumps(names), encoding="utf-8")
    (folder / "list.txt").write_text("\n".join(names), encoding="utf-8")
    expected = tuple(Label("", name.strip()) for name in names)
    assert read_labels(folder / "any.json") == expected
    assert read_labels(folder / "list.txt") == expected


def test_installed_package_contains_the_lists(tmp_path: Path) -> None:
    source = Path(nasnet_cli.__file__).parent
    package = tmp_path / "site-packages" / "nasnet_cli"
    shutil.copytree(source, package, ignore=shutil.ignore_patterns("__pycache__"))
    code = (
        "import nasnet_cli.labels as l; print(l.__file__, len(l.builtin_labels('imagenet_1001')))"
    )
    command = [sys.executable, "-c", code]
    environment = {**os.environ, "PYTHONPATH": str(package.parent)}
    broken = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert "Install nasnet-cli again." in broken.stderr
    # As pyproject.toml has the wheel.
    shutil.copytree(source.parents[1] / "labels", package / "labels_data")
    whole = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert whole.stdout == f"{package / 'labels.py'} 1001\n"
