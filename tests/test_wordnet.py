"""The hierarchy over ImageNet's classes, and the names that it gives them."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nasnet_cli import labels
from nasnet_cli.errors import NasnetError
from nasnet_cli.labels import Label, builtin_labels
from nasnet_cli.wordnet import Hierarchy, Synset, is_wnid, load_hierarchy

LABELS = Path(__file__).parents[1] / "labels"
DOG, CANINE, CAT, BIRD, PIANO = "n02084071", "n02083346", "n02121808", "n01503061", "n03928116"
BIRD_CRANE, MACHINE_CRANE = "n02012849", "n03126707"


@pytest.fixture(scope="module")
def hierarchy() -> Hierarchy:
    return load_hierarchy()


def synset(wnid: str, parents: str = "", name: str = "", qualifier: str = "") -> Synset:
    return Synset(wnid, parents, name or wnid, name or wnid, "", qualifier)


def test_table_has_every_imagenet_class_and_everything_above(hierarchy: Hierarchy) -> None:
    labels = builtin_labels("imagenet_1001")[1:]
    assert all(label.wnid in hierarchy for label in labels)
    wanted = {label.wnid for label in labels}.union(
        *(hierarchy.ancestors(label.wnid) for label in labels)
    )
    assert wanted == set(hierarchy)
    assert all(hierarchy[label.wnid].name == label.name for label in labels)
    assert all(hierarchy[label.wnid].is_useful for label in labels)
    assert hierarchy.unknown_ids(builtin_labels("tiny_imagenet_200")) == []


def test_table_is_plain_tsv(hierarchy: Hierarchy) -> None:
    with (LABELS / "wordnet.tsv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    assert [row["wnid"] for row in rows] == list(hierarchy)
    for row in rows:
        assert is_wnid(row["wnid"])
        assert row["synonyms"].split(", ")[0] == row["name"]
        assert row["mark"] in ("", "broad", "technical", "odd")


def test_licence_lies_beside_the_table() -> None:
    licence = (LABELS / "LICENSE-WordNet").read_text(encoding="utf-8")
    assert "WordNet 3.0 Copyright 2006 by Princeton University." in licence
    assert licence.endswith("agrees to preserve same.\n")


def test_classes_come_after_those_above(hierarchy: Hierarchy) -> None:
    seen: set[str] = set()
    for wnid in hierarchy:
        assert seen.issuperset(hierarchy[wnid].parent_ids)
        assert all(
            hierarchy.depth(wnid) > hierarchy.depth(id_) for id_ in hierarchy.ancestors(wnid)
        )
        seen.add(wnid)
    assert list(reversed(hierarchy)) == list(hierarchy)[::-1]
    assert len(hierarchy) == len(seen)


def test_several_parents(hierarchy: Hierarchy) -> None:
    names = {hierarchy[wnid].name for wnid in hierarchy[PIANO].parent_ids}
    assert names == {"keyboard instrument", "percussion instrument", "stringed instrument"}
    assert {CANINE, "n01317541"} <= hierarchy.ancestors(DOG)  # canine, domestic animal


def test_below_is_the_inverse_of_ancestors(hierarchy: Hierarchy) -> None:
    for wnid in (DOG, CAT, BIRD, PIANO, BIRD_CRANE, "n00001740"):
        below = {id_ for id_ in hierarchy if wnid in hierarchy.ancestors(id_)}
        assert hierarchy.below(wnid) == below | {wnid}
    assert hierarchy.below("n99999999") == {"n99999999"}
    assert hierarchy.ancestors("n99999999") == frozenset()
    assert hierarchy.depth("n99999999") == 0


def test_useful_ancestors_are_words_that_people_say(hierarchy: Hierarchy) -> None:
    def names(wnid: str) -> list[str]:
        return [hierarchy[id_].name for id_ in hierarchy.useful_ancestors(wnid)]

    assert names("n02099601") == [  # golden retriever
        "retriever",
        "sporting dog",
        "hunting dog",
        "dog",
        "canine",
        "carnivore",
        "mammal",
        "domestic animal",
        "animal",
    ]
    assert names("n01440764") == ["fish", "animal"]  # tench
    assert names("n03100240") == ["car", "motor vehicle", "wheeled vehicle", "vehicle"]
    assert names("n07892512")[:2] == ["wine", "alcohol"]
    assert "drug of abuse" not in names("n07892512")


def test_classes_of_one_name_are_told_apart(hierarchy: Hierarchy) -> None:
    assert hierarchy.display_name(BIRD_CRANE, "crane") == "crane (bird)"
    assert hierarchy.display_name(MACHINE_CRANE, "crane") == "crane (machine)"
    assert hierarchy.display_name("n02113186", "Cardigan") == "Cardigan (dog)"
    assert hierarchy.display_name("n02963159", "cardigan") == "cardigan (sweater)"
    assert hierarchy.display_name(DOG, "dog") == "dog"
    # Labels of other lists: none of these is a name of two classes.
    assert hierarchy.display_name(BIRD_CRANE, "Kranich") == "Kranich"
    assert hierarchy.display_name("", "crane") == "crane"
    assert hierarchy.display_name("n99999999", "crane") == "crane (n99999999)"
    assert hierarchy.display_name("n99999999", "thing") == "thing"


def test_no_two_useful_classes_are_displayed_alike(hierarchy: Hierarchy) -> None:
    useful = [hierarchy[wnid] for wnid in hierarchy if hierarchy[wnid].is_useful]
    names = [hierarchy.display_name(synset.wnid, synset.name).casefold() for synset in useful]
    assert len(set(names)) == len(names)
    assert sum("(" in name for name in names) < 60


def test_labels_of_a_model_are_told_apart(hierarchy: Hierarchy) -> None:
    labels = [
        Label("", "background"),
        Label(BIRD_CRANE, "crane"),
        Label(MACHINE_CRANE, "crane"),
        Label("n02113186", "Kran"),
        Label("n02963159", "kran"),
        Label("", "other"),
        Label("", "other"),
    ]
    assert hierarchy.display_names(labels) == [
        "background",
        "crane (bird)",
        "crane (machine)",
        "Kran (n02113186)",
        "kran (n02963159)",
        "other",
        "other",
    ]
    for name in ("imagenet_1001", "tiny_imagenet_200"):
        names = hierarchy.display_names(builtin_labels(name))
        assert len({name.casefold() for name in names}) == len(names)


def test_unknown_ids_are_named(hierarchy: Hierarchy) -> None:
    labels = [
        Label(DOG, "dog"),
        Label("", "background"),
        Label("n99999999", "thing"),
        Label("/m/0bt9lr", "dog"),
    ]
    assert hierarchy.unknown_ids(labels) == ["n99999999"]


@given(st.text(max_size=12))
def test_any_label_has_a_display_name(label: str) -> None:
    for wnid in ("", DOG, BIRD_CRANE, label):
        assert load_hierarchy().display_name(wnid, label).startswith(label)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "wnid\tname\n",
        "wnid\tparents\tname\tsynonyms\tmark\tqualifier\nn00001740\t\tentity\n",
        "wnid\tparents\tname\tsynonyms\tmark\tqualifier\nn1\tn2\ta\ta\t\t\nn2\t\tb\tb\t\t\n",
        b"\xff",
        None,
    ],
)
def test_damaged_table_is_an_error_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str | bytes | None
) -> None:
    package = tmp_path / "nasnet_cli"
    (package / "labels_data").mkdir(parents=True)
    if content is not None:
        raw = content.encode() if isinstance(content, str) else content
        (package / "labels_data" / "wordnet.tsv").write_bytes(raw)
    monkeypatch.setattr(labels, "__file__", str(package / "labels.py"))
    with pytest.raises(NasnetError, match=r"Cannot read .*wordnet\.tsv"):
        load_hierarchy.__wrapped__()
