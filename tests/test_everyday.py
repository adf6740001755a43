"""Everyday labels: the most specific class that is probable enough."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as stn

from nasnet_cli.labels import Label, builtin_labels
from nasnet_cli.results.everyday import EverydayLabels
from nasnet_cli.results.records import Everyday
from nasnet_cli.wordnet import Hierarchy, Synset, load_hierarchy

DOG, ANIMAL, CRANE = "n02084071", "n00015388", "n02012849"


def hierarchy(*rows: str) -> Hierarchy:
    """Classes from rows "id parent parent", those that end in ! marked; numbers stand for ids."""
    synsets = []
    for row in rows:
        wnid, *parents = [f"n{int(part.strip('!')):08}" for part in row.split()]
        mark = "broad" if "!" in row else ""
        synsets.append(Synset(wnid, "|".join(parents), f"class {wnid[-1]}", wnid, mark, ""))
    return Hierarchy(synsets)


def labels(*numbers: int) -> list[Label]:
    return [Label(f"n{number:08}", f"leaf {number}") for number in numbers]


def everyday(
    labels: list[Label] | tuple[Label, ...],
    probabilities: list[float],
    sure: float = 0.5,
    hierarchy: Hierarchy | None = None,
) -> tuple[str, float] | None:
    chooser = EverydayLabels(labels, hierarchy)
    record = chooser.record(chooser.choose(np.array([probabilities]), sure)[0])
    return record and (record.label, round(record.probability, 6))


#      1!
#     /  \
#    2    3
#   / \  / \
#  4   5    6
TREE = hierarchy("1!", "2 1", "3 1", "4 2", "5 2 3", "6 3")
LEAVES = labels(4, 5, 6)


@pytest.mark.parametrize(
    ("probabilities", "expected"),
    [
        ([0.6, 0.3, 0.1], ("leaf 4", 0.6)),
        ([0.4, 0.3, 0.3], ("class 2", 0.7)),
        ([0.3, 0.3, 0.4], ("class 3", 0.7)),
        # Equally specific and equally probable: the lower id.
        ([0.4, 0.2, 0.4], ("class 2", 0.6)),
        ([0.35, 0.2, 0.45], ("class 3", 0.65)),
        # Class 1 is all of it, but says too little.
        ([0.45, 0.04, 0.45], None),
        ([0.5, 0.5, 0.0], ("leaf 4", 0.5)),
        # As it is written, 0.500000.
        ([0.4999996, 0.3, 0.2], ("leaf 4", 0.5)),
        ([0.4999994, 0.3, 0.2], ("class 2", 0.799999)),
        ([np.nan, 0.6, 0.4], ("leaf 5", 0.6)),
        ([np.nan, np.nan, np.nan], None),
    ],
)
def test_most_specific_class_that_is_probable_enough(
    probabilities: list[float], expected: tuple[str, float] | None
) -> None:
    assert everyday(LEAVES, probabilities, hierarchy=TREE) == expected


def test_each_class_counts_once_below_several_parents() -> None:
    # 1 has two ways down to 4.
    diamond = hierarchy("1", "2 1", "3 1", "4 2 3", "5 1")
    assert everyday(labels(4, 5), [0.4, 0.3], hierarchy=diamond) == ("class 1", 0.7)


def test_deeper_class_is_more_specific_than_one_with_the_same_classes() -> None:
    chain = hierarchy("1", "2 1", "3 2", "4 3", "5 3")
    assert everyday(labels(4, 5), [0.4, 0.3], hierarchy=chain) == ("class 3", 0.7)
    assert everyday(labels(4), [0.7], hierarchy=chain) == ("leaf 4", 0.7)


def test_a_models_own_class_counts_even_above_others_and_marked() -> None:
    tree = hierarchy("1!", "2 1", "3 1")
    assert everyday(labels(1, 2, 3), [0.2, 0.4, 0.1], hierarchy=tree) == ("leaf 1", 0.7)


def test_two_classes_of_one_id_count_together() -> None:
    tree = hierarchy("1!", "2 1")
    twice = [Label("n00000002", "first"), Label("n00000002", "second")]
    assert everyday(twice, [0.3, 0.3], hierarchy=tree) == ("first", 0.6)


def test_threshold_decides() -> None:
    assert everyday(LEAVES, [0.6, 0.3, 0.1], 0.9, TREE) == ("class 2", 0.9)
    assert everyday(LEAVES, [0.6, 0.3, 0.1], 0.95, TREE) is None
    assert everyday(LEAVES, [0.2, 0.5, 0.3], 0.0, TREE) == ("leaf 5", 0.5)
    assert everyday(LEAVES, [1.0, 0.0, 0.0], 1.0, TREE) == ("leaf 4", 1.0)


def test_labels_without_ids_have_none() -> None:
    for names in ([Label("", "cat"), Label("", "dog")], [Label("/m/0bt9lr", "dog")] * 2):
        chooser = EverydayLabels(names)
        assert not chooser.is_available
        assert chooser.record(chooser.choose(np.array([[0.9, 0.1]]), 0.5)[0]) is None
    assert EverydayLabels(builtin_labels("imagenet_1001")).is_available


def test_ids_outside_the_hierarchy_have_only_themselves() -> None:
    names = [Label("n99999999", "gizmo"), Label("n02099601", "golden retriever"), Label("", "?")]
    assert everyday(names, [0.6, 0.3, 0.1]) == ("gizmo", 0.6)
    assert everyday(names, [0.3, 0.6, 0.1]) == ("golden retriever", 0.6)
    assert everyday(names, [0.1, 0.3, 0.6]) is None


@pytest.mark.parametrize("name", ["imagenet_1001", "imagenet_1000", "tiny_imagenet_200"])
def test_models_of_several_counts_of_classes(name: str) -> None:
    names = builtin_labels(name.replace("1000", "1001"))[int(name == "imagenet_1000") :]
    hierarchy = load_hierarchy()
    dogs = [i for i, label in enumerate(names) if DOG in hierarchy.ancestors(label.wnid)]
    birds = [i for i, label in enumerate(names) if "n01503061" in hierarchy.ancestors(label.wnid)]
    probabilities = np.zeros(len(names))
    probabilities[dogs] = 0.8 / len(dogs)
    probabilities[birds] = 0.2 / len(birds)
    assert everyday(names, probabilities.tolist()) == ("dog", 0.8)
    probabilities[dogs] = 0.4 / len(dogs)
    probabilities[birds] = 0.4 / len(birds)
    assert everyday(names, probabilities.tolist()) == ("animal", 0.8)
    if len(names) == 1001:
        assert everyday(names, [0.9, *[0.1 / 1000] * 1000]) is None  # the background


def test_sums_are_those_of_all_classes_below() -> None:
    names = builtin_labels("imagenet_1001")
    hierarchy = load_hierarchy()
    chooser = EverydayLabels(names)
    rng = np.random.default_rng(7)
    outputs = np.exp(2.5 * rng.normal(size=(200, 1001)))
    probabilities = outputs / outputs.sum(axis=1, keepdims=True)
    records = [chooser.record(row) for row in chooser.choose(probabilities, 0.4)]
    assert 20 < sum(record is not None for record in records) < 180
    above = [{label.wnid, *hierarchy.ancestors(label.wnid)} - {""} for label in names]
    for values, record in zip(probabilities, records, strict=True):
        totals = {
            wnid: sum(
                probability
                for probability, wnids in zip(values, above, strict=True)
                if wnid in wnids
            )
            for wnid in ([record.wnid, *hierarchy.below(record.wnid)] if record else [ANIMAL])
            if hierarchy[wnid].is_useful
        }
        if record is None:
            assert totals[ANIMAL] < 0.4
        else:
            assert totals.pop(record.wnid) == pytest.approx(record.probability)
            # Below the chosen class, nothing is probable enough.
            assert all(total < 0.4 for total in totals.values())


@settings(max_examples=50)
@given(
    stn.arrays(np.float32, (5, 200), elements=st.floats(-20, 20, width=32)),
    st.floats(0, 1),
)
def test_row_is_the_same_bytes_in_any_batch(logits: np.ndarray, sure: float) -> None:
    chooser = EverydayLabels(builtin_labels("tiny_imagenet_200"))
    powers = np.exp(logits.astype(np.float64))
    probabilities = powers / powers.sum(axis=1, keepdims=True)
    together = chooser.choose(probabilities, sure)
    alone = [chooser.choose(probabilities[row : row + 1], sure) for row in range(5)]
    assert np.concatenate(alone).tobytes() == together.tobytes()
    assert chooser.choose(np.asfortranarray(probabilities), sure).tobytes() == together.tobytes()
    assert chooser.choose(probabilities[::-1], sure)[::-1].tobytes() == together.tobytes()


def test_record_has_id_label_and_probability() -> None:
    names = builtin_labels("imagenet_1001")
    chooser = EverydayLabels(names)
    values = np.zeros(1001)
    values[[label.wnid for label in names].index(CRANE)] = 0.75
    record = chooser.record(chooser.choose(values[None], 0.5)[0])
    # As the label list has it: what tells two cranes apart is the id beside it.
    assert record == Everyday(CRANE, "crane", 0.75)


def test_examples_of_the_docs_are_true() -> None:
    text = (Path(__file__).parents[1] / "docs" / "labels.md").read_text(encoding="utf-8")
    names = builtin_labels("imagenet_1001")
    rows = re.findall(r"^\| (.+ \d+ %) \| (.+) \|$", text, re.MULTILINE)
    assert len(rows) == 5
    for predictions, expected in rows:
        values = [0.0] * len(names)
        for prediction in predictions.split(", "):
            name, percent, _ = prediction.rsplit(" ", 2)
            values[[label.name for label in names].index(name)] = int(percent) / 100
        found = everyday(names, [1 - sum(values), *values[1:]])
        assert expected == (
            f"{found[0]}, {found[1]:.0%}".replace("%", " %") if found else "not sure"
        )
