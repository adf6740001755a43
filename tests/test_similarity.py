"""Nearest neighbours and near-duplicates: compared with every pair, to the last bit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nasnet_cli.errors import NasnetError
from nasnet_cli.results.neighbours import Neighbour
from nasnet_cli.results.records import Embedded, Failure
from nasnet_cli.results.writers import json_object
from nasnet_cli.similarity import index as index_module
from nasnet_cli.similarity.groups import UnionFind, count_pairs
from nasnet_cli.similarity.index import open_index, without_direction
from nasnet_cli.similarity.nearest import similar
from nasnet_cli.similarity.numbers import pair_cosines
from support.vectors import near_groups, write_index


def random_vectors(count, depth=24, seed=0, dtype=np.float32):
    return np.random.default_rng(seed).normal(size=(count, depth)).astype(dtype)


def cosines(array):
    """The cosines of every pair, computed directly."""
    array = array.astype(np.float64)
    with np.errstate(invalid="ignore"):
        units = array / np.linalg.norm(array, axis=1, keepdims=True)
    return units @ units.T


def rows_of(groups):
    return [rows.tolist() for rows in groups]


def matches(index, vector, top):
    (found,) = similar(index, [Embedded("query.jpg", vector)], top)
    return found.matches


@pytest.fixture
def small_blocks(monkeypatch):
    """Blocks so small that arrays in tests have several."""
    monkeypatch.setattr(index_module, "BLOCK", 7)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_matches_are_those_of_all_pairs(tmp_path, small_blocks, dtype):
    array = random_vectors(40, dtype=dtype)
    index = open_index(write_index(tmp_path, array))
    expected = cosines(array)
    for query in (0, 6, 7, 39):
        found = matches(index, array[query].astype(np.float32), 40)
        order = np.argsort(-expected[query], kind="stable")
        assert [match.row for match in found] == order.tolist()
        np.testing.assert_allclose(
            [match.similarity for match in found], expected[query][order], atol=1e-12
        )
        assert found[0] == Neighbour(query, f"{query}.jpg", 1.0)


def test_equal_similarities_are_ordered_by_row(tmp_path, small_blocks):
    one, other = random_vectors(2)
    array = np.array([other, one, one, other, one] * 5)
    index = open_index(write_index(tmp_path, array))
    rows = [row for row in range(25) if row % 5 in (1, 2, 4)]
    # A power of two changes no digit, and so not the cosine.
    for query in (one, one * 4):
        assert [match.row for match in matches(index, query, 7)] == rows[:7]


def test_the_order_is_exact_beyond_float32(tmp_path):
    base = random_vectors(1, 1056)[0]
    nudge = random_vectors(1, 1056, seed=1)[0]
    # Each a little further away than the one before, by far less than float32 can tell.
    array = np.array([base + np.float32(2e-4 * (30 - row)) * nudge for row in range(30)])
    index = open_index(write_index(tmp_path, array))
    assert [match.row for match in matches(index, base, 5)] == [29, 28, 27, 26, 25]


def test_many_queries_are_answered_in_order_with_errors_in_place(tmp_path):
    array = random_vectors(600)
    index = open_index(write_index(tmp_path, array))
    failure = Failure("truncated", "It ends too soon.")
    queries = [Embedded(f"q{row}", array[row]) for row in range(600)]
    queries[300] = Embedded("bad", None, failure)
    found = list(similar(index, queries, 1))
    assert [one.path for one in found] == [query.path for query in queries]
    assert (found[300].matches, found[300].error) == (None, failure)
    assert all(one.matches[0].row == row for row, one in enumerate(found) if row != 300)


def test_vectors_without_a_direction_match_nothing(tmp_path, small_blocks):
    array = random_vectors(20)
    array[3] = array[11] = 0
    array[5, 2] = np.nan
    array[12, 0] = np.inf
    array[13] = array[4]
    index = open_index(write_index(tmp_path, array))
    assert without_direction(index) == 4
    assert {match.row for match in matches(index, array[4], 20)} == set(range(20)) - {3, 5, 11, 12}
    for query in (3, 5, 12):
        assert matches(index, array[query], 5) == ()
    assert rows_of(near_groups(index, 0.99)) == [[4, 13]]


def test_cosines_of_large_and_small_numbers_are_exact(tmp_path):
    array = random_vectors(6)
    array[1], array[2] = array[0] * np.float32(1e30), array[0] * np.float32(1e-30)
    index = open_index(write_index(tmp_path, array))
    assert without_direction(index) == 0
    assert rows_of(near_groups(index, 0.9999)) == [[0, 1, 2]]


def test_cosines_do_not_depend_on_the_order_of_an_array_in_memory():
    array = random_vectors(50, 999)
    expected = pair_cosines(array, array[:1])
    for other in (np.asfortranarray(array), array[::-1][::-1], np.repeat(array, 2, 1)[:, ::2]):
        assert np.array_equal(pair_cosines(other, array[:1]), expected)
        alone = [pair_cosines(other[row : row + 1], array[:1]) for row in range(50)]
        assert np.array_equal(np.concatenate(alone), expected)


def test_groups_are_chains_of_similar_pairs(tmp_path, small_blocks):
    angles = np.radians([0, 90, 10, 180, 20, 30, 91, 250, 181])
    array = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    index = open_index(write_index(tmp_path, array))
    groups = list(near_groups(index, float(np.cos(np.radians(10.5)))))
    assert rows_of(groups) == [[0, 2, 4, 5], [1, 6], [3, 8]]
    assert list(index.paths(groups[0].tolist())) == ["0.jpg", "2.jpg", "4.jpg", "5.jpg"]
    # The end of the chain is further from its first.
    expected = np.cos(np.radians([0, 10, 20, 30]))
    np.testing.assert_allclose(index.cosines(groups[0], 0), expected, atol=1e-6)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    count=st.integers(0, 40),
    threshold=st.floats(0.2, 1),
    block=st.integers(1, 50),
)
def test_groups_are_the_connected_components(tmp_path_factory, seed, count, threshold, block):
    array = np.random.default_rng(seed).integers(-2, 3, (count, 4)).astype(np.float32)
    index = open_index(write_index(tmp_path_factory.mktemp("index"), array))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(index_module, "BLOCK", block)
        found = rows_of(near_groups(index, threshold))
    near = cosines(array) >= threshold if count else np.zeros((0, 0), bool)
    doubtful = np.abs(cosines(array) - threshold) < 1e-9 if count else np.zeros((0, 0), bool)
    if doubtful[~np.eye(count, dtype=bool)].any():
        return  # which side of the threshold the plain way puts such a pair is chance
    labels = list(range(count))
    for left, right in zip(*np.nonzero(near), strict=True):
        old, new = labels[right], labels[left]
        labels = [new if label == old else label for label in labels]
    expected = [[row for row in range(count) if labels[row] == label] for label in set(labels)]
    assert found == sorted(rows for rows in expected if len(rows) > 1)


def test_a_threshold_of_one_finds_equal_vectors(tmp_path, small_blocks):
    array = random_vectors(30, 1056)
    array[29] = array[8] = array[2]
    array[10] = array[2] + np.float32(1e-3)
    index = open_index(write_index(tmp_path, array))
    assert rows_of(near_groups(index, 1)) == [[2, 8, 29]]


@pytest.mark.parametrize("count", [10_000, 20_000], ids=["without bounds", "with bounds"])
def test_thousands_of_equal_vectors_are_one_group(tmp_path, count):
    array = np.tile(random_vectors(1), (count, 1))
    index = open_index(write_index(tmp_path, array))
    (group,) = near_groups(index, 1)
    assert len(group) == count


def test_a_chain_that_grows_at_its_start_is_one_group():
    joined = UnionFind(100_000)
    for row in range(99_998, -1, -1):
        joined.join(np.array([row, row + 1]))
    (group,) = joined.groups()
    assert np.array_equal(group, np.arange(100_000))


def test_progress_sees_each_pair_of_blocks(tmp_path, small_blocks):
    index = open_index(write_index(tmp_path, random_vectors(40)))
    seen = []
    list(near_groups(index, 0.97, lambda pairs: (seen.append(pair) or pair for pair in pairs)))
    assert len(seen) == count_pairs(index) == 21


def test_lines_of_failed_inputs_have_no_row(tmp_path):
    array = random_vectors(3)
    array[2] = array[0]
    error = {"kind": "truncated", "message": "It ends too soon."}
    lines = [
        {"path": "bad.jpg", "status": "error", "error": error},
        {"path": "a.jpg", "status": "ok", "row": 0},
        {"path": "bad2.jpg", "status": "error", "error": error},
        {"path": "é.jpg", "status": "ok", "row": 1},
        {"path": "b\\xff.jpg", "path_bytes": "Yv8uanBn", "status": "ok", "row": 2},
    ]
    index = open_index(write_index(tmp_path, array, lines))
    (group,) = near_groups(index, 0.99)
    assert list(index.paths(group.tolist())) == ["a.jpg", "b\udcff.jpg"]
    assert list(index.neighbours([(1, 0.5)])) == [Neighbour(1, "é.jpg", 0.5)]


def test_an_empty_index_has_no_matches(tmp_path):
    index = open_index(write_index(tmp_path, np.zeros((0, 24), np.float32)))
    assert matches(index, random_vectors(1)[0], 10) == ()
    assert list(near_groups(index, 0.97)) == []
    assert without_direction(index) == 0


def lines_of(*rows):
    return [{"path": "x.jpg", "status": "ok", "row": row} for row in rows]


@pytest.mark.parametrize(
    "lines",
    [lines_of(0, 1), lines_of(0, 1, 2, 3), lines_of(0, 2, 1), lines_of(1, 2, 3), [1, 2, 3]],
    ids=["too few", "too many", "another order", "from one", "no objects"],
)
def test_lines_of_other_vectors_are_an_error(tmp_path, lines):
    path = write_index(tmp_path, random_vectors(3), lines)
    with pytest.raises(NasnetError, match=r"v\.jsonl does not belong to .*v\.npy"):
        open_index(path)


def test_lines_are_those_of_embed_or_any_json(tmp_path):
    paths = ['a", "status": "ok", "row": 9}.jpg', "b\udcff.jpg", "", "\u2028é.jpg"]
    own = [json_object(path, None, f'"row": {row}') for row, path in enumerate(paths)]
    other = ['{"row":4,"path":"e.jpg"}', ' {"path": "f.jpg", "row": 5, "status": "ok"}']
    path = write_index(tmp_path, random_vectors(6))
    (tmp_path / "v.jsonl").write_text("\n".join([*own, *other]) + "\n")
    index = open_index(path)
    assert list(index.paths(range(6))) == [*paths, "e.jpg", "f.jpg"]
    assert index.find(["f.jpg", *paths, "f.jpg"]) == [5, 0, 1, 2, 3, 5]
    assert index.find(["f.jpg", "g.jpg"]) is None


def test_lines_that_are_not_json_are_an_error(tmp_path):
    path = write_index(tmp_path, random_vectors(3))
    (tmp_path / "v.jsonl").write_bytes(b"\xff\xfe not JSON\n")
    with pytest.raises(NasnetError, match="does not belong to"):
        open_index(path)


def test_missing_lines_are_named(tmp_path):
    path = write_index(tmp_path, random_vectors(3))
    (tmp_path / "v.jsonl").unlink()
    with pytest.raises(NasnetError, match=r"v\.jsonl, which names the images .* No such file"):
        open_index(path)


@pytest.mark.parametrize("kept", [0, 5, 50, 127, 130, 128 + 3 * 24 * 4 - 1])
def test_a_truncated_file_is_an_error(tmp_path, kept):
    path = write_index(tmp_path, random_vectors(3))
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(NasnetError, match=r"v\.npy is (damaged or cut short|not a \.npy file)"):
        open_index(path)


def test_a_header_without_its_end_is_an_error(tmp_path):
    path = write_index(tmp_path, random_vectors(3))
    path.write_bytes(path.read_bytes().replace(b"}", b" ", 1))
    with pytest.raises(NasnetError, match="damaged or cut short"):
        open_index(path)


def test_a_file_truncated_meanwhile_is_an_error(tmp_path):
    path = write_index(tmp_path, random_vectors(3))
    index = open_index(path)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(NasnetError, match="cut short"):
        list(near_groups(index, 0.97))


@pytest.mark.parametrize(
    "array",
    [
        np.zeros(5, np.float32),
        np.zeros((2, 2, 2), np.float32),
        np.zeros((2, 3), np.int64),
        np.zeros((2, 3), np.float64),
        np.array([["a"]]),
    ],
    ids=["one side", "three sides", "integers", "float64", "text"],
)
def test_other_arrays_are_an_error(tmp_path, array):
    with pytest.raises(NasnetError, match=r"not vectors \[N, depth\]"):
        open_index(write_index(tmp_path, array))


def test_objects_are_never_unpickled(tmp_path):
    path = write_index(tmp_path, random_vectors(1))
    np.save(path, np.array([[print]], dtype=object), allow_pickle=True)
    with pytest.raises(NasnetError, match="damaged"):
        open_index(path)


@pytest.mark.parametrize("make", [lambda path: None, lambda path: path.mkdir()])
def test_a_missing_file_is_named(tmp_path, make):
    make(tmp_path / "v.npy")
    with pytest.raises(NasnetError, match=r"v\.npy cannot be read"):
        open_index(tmp_path / "v.npy")


def test_memory_does_not_grow_with_the_index(tmp_path):
    """Compare the peak memory of a search in one block of vectors and in six."""
    import subprocess
    import sys

    code = (
        "import os, re, sys, numpy as np\n"
        "os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])\n"
        "from nasnet_cli.similarity.index import open_index\n"
        "from nasnet_cli.similarity.nearest import nearest\n"
        "index = open_index(sys.argv[1])\n"
        "nearest(index, np.ones((1, index.depth), np.float32), 10)\n"
        "print(re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1])\n"
    )
    peaks = []
    for blocks in (4, 14):
        folder = tmp_path / str(blocks)
        folder.mkdir()
        path = write_index(folder, np.ones((blocks * index_module.BLOCK, 256), np.float32))
        done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, check=True)
        peaks.append(int(done.stdout))
    # 40 MB more of vectors; what grows is eight bytes a row.
    assert peaks[1] - peaks[0] < 8_000
