"""Words as people search for them: which classes they stand for, how probable in a row."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nasnet_cli.labels import builtin_labels
from nasnet_cli.results.records import Everyday, Prediction
from nasnet_cli.search import Word
from nasnet_cli.wordnet import load_hierarchy

DOG, GOLDEN, LABRADOR, CAT = "n02084071", "n02099601", "n02099712", "n02123045"
BIRD_CRANE, MACHINE_CRANE = "n02012849", "n03126707"


def prediction(wnid: str, label: str, probability: float) -> Prediction:
    return Prediction(1, 0, wnid, label, probability)


def senses(word: str) -> list[str]:
    hierarchy = load_hierarchy()
    return [hierarchy[wnid].name for wnid in Word(word).senses]


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("dog", ["dog"]),
        ("Dogs", ["dog"]),
        ("Canis familiaris", ["dog"]),
        (DOG, ["dog"]),
        (f" {DOG} ", ["dog"]),
        ("German_Shepherds", ["German shepherd"]),
        ("german-shepherd", ["German shepherd"]),
        ("birds of prey", ["bird of prey"]),
        ("wolves", ["wolf"]),
        ("knives", ["knife"]),
        ("buses", ["bus"]),
        ("butterflies", ["butterfly"]),
        ("mice", ["mouse"]),
        ("fungi", ["fungus"]),
        ("people", ["person"]),
        ("binocular", ["binoculars"]),
        # An exact name counts before the singular of another.
        ("glasses", ["spectacles"]),
        ("glass", ["glass"]),
        ("sunglass", ["sunglass"]),
        ("sunglasses", ["sunglasses"]),
        ("crane", ["crane", "crane"]),
        ("Crane (Bird)", ["crane"]),
        ("food", ["food", "food"]),
        ("cat", ["cat", "big cat"]),
        ("vehicles", ["vehicle"]),
        ("gizmo", []),
        ("", []),
    ],
)
def test_words_have_senses(word: str, expected: list[str]) -> None:
    assert senses(word) == expected


def test_every_label_and_display_name_finds_its_class() -> None:
    hierarchy = load_hierarchy()
    for label in builtin_labels("imagenet_1001")[1::37]:
        assert Word(label.name).matches(label.wnid, label.name)
        assert Word(label.wnid).senses == (label.wnid,)
    for wnid, name in ((BIRD_CRANE, "crane"), (MACHINE_CRANE, "crane"), ("n03710637", "maillot")):
        assert Word(hierarchy.display_name(wnid, name)).senses == (wnid,)


def test_an_ancestor_matches_all_below() -> None:
    word = Word("vehicle")
    assert word.matches("n02930766", "cab")
    assert word.matches("n03100240", "convertible")
    assert not word.matches(GOLDEN, "golden retriever")
    assert {"n02930766", "n04524313"} <= word.wnids


def test_an_id_picks_one_sense() -> None:
    word = Word(BIRD_CRANE)
    assert word.matches(BIRD_CRANE, "crane")
    assert not word.matches(MACHINE_CRANE, "crane")
    assert not Word("crane (machine)").matches(BIRD_CRANE, "crane")
    assert Word("n99999999").matches("n99999999", "gizmo")
    assert not Word("n99999999").matches(DOG, "dog")


def test_labels_without_ids_are_compared_by_text() -> None:
    assert Word("Hunde").matches("", "hunde")
    assert Word("gizmos").matches("", "Gizmo")
    assert Word("gizmo").matches("", "gizmos")
    assert Word("Tinca tinca").matches("", "tench, Tinca tinca")
    assert Word("dog").matches("", "dog")
    assert not Word("dog").matches("", "dog house")
    assert Word("Kranich").matches(BIRD_CRANE, "Kranich")


@pytest.mark.parametrize(
    ("sure", "expected"),
    [
        (None, 0.5),
        (Everyday(DOG, "dog", 0.9), 0.9),
        # The recorded predictions already add up to more than the retriever alone.
        (Everyday(GOLDEN, "golden retriever", 0.4), 0.5),
        (Everyday("n00015388", "animal", 0.95), 0.5),
    ],
)
def test_probability_is_that_of_sure_or_of_the_recorded_predictions(
    sure: Everyday | None, expected: float
) -> None:
    rows = [
        prediction(GOLDEN, "golden retriever", 0.4),
        prediction(CAT, "tabby", 0.3),
        prediction(LABRADOR, "Labrador retriever", 0.1),
    ]
    assert Word("dog").probability(sure, rows) == expected


def test_probability_of_rows_with_little_in_them() -> None:
    assert Word("dog").probability(None, []) == 0
    assert Word("dog").probability(None, [prediction(GOLDEN, "golden retriever", math.nan)]) == 0
    tenths = [prediction(GOLDEN, "golden retriever", 0.1) for _ in range(3)]
    assert Word("dog").probability(None, tenths) == 0.3


def test_senses_are_described() -> None:
    assert list(Word("crane").describe_senses()) == [
        "n02012849  crane (bird): crane",
        "n03126707  crane (machine): crane",
    ]
    assert list(Word("n99999999").describe_senses()) == []


def test_unknown_words_get_the_nearest() -> None:
    assert Word("golden retreiver").nearest()[0] == "golden retriever"
    assert Word("Gizmoo").nearest(["gizmo"])[0] == "gizmo"
    assert Word("qqqqqqqq").nearest(["gizmo"]) == []


@given(st.text(max_size=15), st.text(max_size=15))
def test_any_word_is_searched_for(word: str, label: str) -> None:
    searched = Word(word)
    assert searched.matches("", word)
    assert 0 <= searched.probability(None, [prediction("", label, 0.5)]) <= 0.5
