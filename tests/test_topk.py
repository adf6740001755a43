"""The top-k classes: exact, independent of the rest of the request, ties by index."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nasnet_cli.labels import Label
from nasnet_cli.results.topk import predictions, with_best


def by_sorting(row: np.ndarray, top: int) -> list[int]:
    """The result of a stable sort of all classes, in Python's own numbers."""
    return sorted(range(len(row)), key=lambda i: -float(row[i]))[:top]


def best_classes(outputs: np.ndarray, top: int, *, is_logits: bool = True) -> np.ndarray:
    return with_best({"logits": outputs}, top=top, is_logits=is_logits)["best"]


@given(st.data())
def test_the_top_k_are_those_of_a_stable_sort(data: st.DataObject) -> None:
    # Few different values, so that many classes are equal.
    values = st.lists(st.integers(-3, 3), min_size=1, max_size=40)
    row = np.array(data.draw(values), np.float32)
    top = data.draw(st.integers(1, 45))
    (best,) = best_classes(row[None], top)
    assert best["index"].tolist() == by_sorting(row, top)
    assert best["output"].tolist() == row[best["index"]].tolist()


@pytest.mark.parametrize("classes", [1, 7, 10, 200, 1000, 1001])
def test_a_row_does_not_depend_on_the_others(classes: int) -> None:
    outputs = np.random.default_rng(classes).normal(0, 4, (64, classes)).astype(np.float32)
    alone = b"".join(best_classes(row[None], 5).tobytes() for row in outputs)
    for together in (2, 3, 4, 7, 16, 64):
        parts = [best_classes(outputs[i : i + together], 5) for i in range(0, 64, together)]
        assert b"".join(part.tobytes() for part in parts) == alone


def test_probabilities_are_the_softmax_of_logits_or_the_outputs() -> None:
    outputs = np.array([[2.0, 1000.0, 1001.0], [0.0, 0.0, 0.0]], np.float32)
    best = best_classes(outputs, 2)
    e = np.exp(-1.0)
    np.testing.assert_allclose(best["probability"], [[1 / (1 + e), e / (1 + e)], [1 / 3, 1 / 3]])
    given_ones = best_classes(np.array([[0.25, 0.75]], np.float32), 5, is_logits=False)
    assert given_ones[0].tolist() == [(1, 0.75, 0.75), (0, 0.25, 0.25)]


def test_no_images_have_no_classes() -> None:
    assert best_classes(np.empty((0, 9), np.float32), 5).shape == (0, 5)


def test_nan_comes_last_and_has_no_probability() -> None:
    (best,) = best_classes(np.array([[np.nan, 1.0, np.nan, 3.0]], np.float32), 3)
    assert best["index"].tolist() == [3, 1, 0]
    assert predictions(best, [Label("", str(i)) for i in range(4)]) == ()


def test_predictions_are_ranked_named_and_cut_off() -> None:
    labels = [Label("n1", "one"), Label("n2", "two"), Label("", "three")]
    (best,) = best_classes(np.array([[0.1, 0.3, 0.6]]), 3, is_logits=False)
    found = predictions(best, labels, threshold=0.2, with_logits=True)
    assert [(p.rank, p.index, p.wnid, p.label) for p in found] == [
        (1, 2, "", "three"), (2, 1, "n2", "two"),
    ]  # fmt: skip
    assert [p.logit for p in found] == [p.probability for p in found] == [0.6, 0.3]
    assert predictions(best, labels)[0].logit is None
