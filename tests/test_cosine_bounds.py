"""Bounds of cosines: no pair that is near is ever ruled out, whatever the vectors are."""

from __future__ import annotations

from contextlib import contextmanager

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nasnet_cli.similarity import bounds, groups, index, nearest, numbers
from nasnet_cli.similarity.bounds import find_bounds
from nasnet_cli.similarity.groups import Comparison
from nasnet_cli.similarity.index import open_index
from nasnet_cli.similarity.numbers import pair_cosines
from support.vectors import write_index


@st.composite
def arrays(draw):
    """Draw vectors that are hard for bounds: in few directions or in all, equal, tiny, none."""
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    count, depth = draw(st.integers(2, 60)), draw(st.integers(2, 24))
    rank = draw(st.integers(1, depth))
    array = random.normal(size=(count, rank)) @ random.normal(size=(rank, depth))
    noise = draw(st.sampled_from([0, 1e-7, 1e-3, 0.3]))
    near = array[random.integers(0, count, count)]  # each like some other, or like itself
    array = np.where(random.random((count, 1)) < 0.5, near, array)
    array += noise * random.normal(size=array.shape)
    array *= 10.0 ** random.integers(-draw(st.integers(0, 30)), 1, (count, 1))
    if draw(st.booleans()):
        array = np.abs(array)
    for value in (0, np.nan, np.inf):
        array[random.random(count) < draw(st.sampled_from([0, 0.1]))] = value
    return array.astype(draw(st.sampled_from([np.float32, np.float16])))


def all_cosines(array):
    """Return the cosines of all pairs as the search decides them."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.stack([pair_cosines(array, row[None]) for row in array])


def components_of(near):
    """Return the groups that the pairs join, each sorted, by their first rows."""
    labels = list(range(len(near)))
    for left, right in zip(*np.nonzero(near), strict=True):
        old, new = max(labels[left], labels[right]), min(labels[left], labels[right])
        labels = [new if label == old else label for label in labels]
    found = [[row for row, label in enumerate(labels) if label == name] for name in set(labels)]
    return sorted(rows for rows in found if len(rows) > 1)


@contextmanager
def always_bounds(components, block=4096, most_left=1.0):
    """Use bounds for the smallest index, however many pairs they leave, in tiny blocks."""
    with pytest.MonkeyPatch.context() as patch, np.errstate(invalid="ignore", divide="ignore"):
        patch.setattr(index, "BLOCK", block)
        patch.setattr(groups, "_FEWEST_BLOCKS", 1)
        patch.setattr(groups, "_PAIRS", 5)
        patch.setattr(groups, "_PATIENCE", 1000)
        patch.setattr(bounds, "_PAIR_TERMS", 0)
        patch.setattr(numbers, "_TILE", 4)
        patch.setattr(bounds, "_COMPONENTS", (components,))
        patch.setattr(bounds, "MOST_LEFT", most_left)
        yield


@settings(max_examples=150)
@given(
    array=arrays(),
    count=st.integers(1, 8),
    block=st.integers(2, 70),
    threshold=st.floats(0.01, 1),
    pick=st.integers(0, 10**6),
    most_left=st.sampled_from([0.0, 0.2, 1.0]),
)
def test_groups_are_those_of_all_pairs(
    tmp_path_factory, array, count, block, threshold, pick, most_left
):
    vectors = open_index(write_index(tmp_path_factory.mktemp("index"), array))
    cosines = all_cosines(array)
    # A cosine that occurs is the hardest threshold of all.
    occurring = cosines[(cosines > 0) & ~np.eye(len(array), dtype=bool)]
    if len(occurring) and pick % 2:
        threshold = float(occurring[pick % len(occurring)])
    with always_bounds(count, block, most_left):
        found = [rows.tolist() for rows in Comparison(vectors, threshold).groups()]
    assert found == components_of(cosines >= threshold)


@settings(max_examples=150)
@given(array=arrays(), count=st.integers(1, 8))
def test_bounds_are_above_the_cosines(tmp_path_factory, array, count):
    vectors = open_index(write_index(tmp_path_factory.mktemp("index"), array))
    with always_bounds(count):
        found = find_bounds(vectors, 0.9)
    if found is None:
        return  # as many components as numbers, or hardly a vector with a direction
    assert found.components == count
    cosines = np.nan_to_num(all_cosines(array), nan=0)
    assert (found.short @ found.short.T + found.error >= cosines).all()


@settings(max_examples=150)
@given(
    array=arrays(),
    top=st.integers(1, 70),
    block=st.integers(1, 70),
    minimum=st.floats(-1, 1),
    pick=st.integers(0, 10**6),
)
def test_nearest_are_those_of_all(tmp_path_factory, array, top, block, minimum, pick):
    vectors = open_index(write_index(tmp_path_factory.mktemp("index"), array))
    cosines = all_cosines(array)
    occurring = cosines[np.isfinite(cosines)]
    if len(occurring) and pick % 2:
        minimum = float(occurring[pick % len(occurring)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(index, "BLOCK", block)
        found = nearest.nearest(vectors, array, top, minimum)
    for row, neighbours in zip(cosines, found, strict=True):
        order = np.argsort(-row, kind="stable")
        expected = [(other, row[other]) for other in order.tolist() if row[other] >= minimum]
        assert neighbours == expected[:top]


def clustered(count, rank, depth=128):
    """Make vectors in few directions, of which the last are the first with a little noise."""
    random = np.random.default_rng(0)
    array = random.normal(size=(count, rank)) @ random.normal(size=(rank, depth))
    array[-count // 4 :] = array[: count // 4] + 1e-3 * random.normal(size=(count // 4, depth))
    return array.astype(np.float32)


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(index, "BLOCK", 64)
    monkeypatch.setattr(groups, "_FEWEST_BLOCKS", 1)


def test_most_pairs_of_few_directions_are_ruled_out(tmp_path, small_blocks, monkeypatch):
    monkeypatch.setattr(bounds, "MOST_LEFT", 1 / 32)
    monkeypatch.setattr(bounds, "_SAMPLE", 99)  # so small that it holds hardly a pair
    vectors = open_index(write_index(tmp_path, clustered(800, 10)))
    comparison = Comparison(vectors, 0.999)
    assert len(list(comparison.groups())) == 200
    assert comparison.bounded == sum(
        (vectors.end(one) - one) * (vectors.end(other) - other)
        for one in vectors.starts()
        for other in vectors.starts()
        if one <= other
    )
    assert 200 <= comparison.left < 400


def test_vectors_in_all_directions_have_no_bounds(tmp_path, small_blocks):
    vectors = open_index(write_index(tmp_path, clustered(800, 128)))
    assert find_bounds(vectors, 0.5) is None and find_bounds(vectors, 0.97) is None
    comparison = Comparison(vectors, 0.999)
    assert len(list(comparison.groups())) == 200


def test_bounds_that_are_of_no_use_are_given_up(tmp_path, small_blocks, monkeypatch):
    monkeypatch.setattr(bounds, "_PAIR_TERMS", 0)  # or the sample would tell
    asked = []
    left = bounds.Bounds.left
    monkeypatch.setattr(
        bounds.Bounds, "left", lambda *arguments: asked.append(0) or left(*arguments)
    )
    array = 1 + 1e-2 * np.random.default_rng(0).normal(size=(1000, 128))
    vectors = open_index(write_index(tmp_path, array.astype(np.float32)))
    comparison = Comparison(vectors, 0.99)
    assert [len(rows) for rows in comparison.groups()] == [1000]
    assert comparison.bounded == 0 and 0 < len(asked) < groups.count_pairs(vectors) / 4
