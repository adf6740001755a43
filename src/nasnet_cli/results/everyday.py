"""Everyday labels: as specific as the model is sure.

A model that wavers between a golden retriever and a Labrador is still sure of a dog. Of all
WordNet classes that are probable enough, the everyday label is the most specific one. The idea is
from Deng, Krause, Berg and Fei-Fei, "Hedging your bets: Optimizing accuracy-specificity trade-offs
in large scale visual recognition", CVPR 2012.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence

import numpy as np

from nasnet_cli.labels import Label
from nasnet_cli.results.records import Everyday
from nasnet_cli.wordnet import Hierarchy, is_wnid, load_hierarchy

SURE = np.dtype([("wnid", "S9"), ("probability", "<f8")])
"""A row's everyday label: its WordNet id, empty for none, and its probability in [0, 1]."""


class EverydayLabels:
    """A finder of everyday labels for the classes of one model.

    labels are the model's, at the index of their class. A candidate is each class that has a
    WordNet id, and each useful class above one; ids that are not in the hierarchy have nothing
    above them. Where several candidates have the same members, only the deepest counts: it is the
    most specific, and they are always equally probable.
    """

    def __init__(self, labels: Sequence[Label], hierarchy: Hierarchy | None = None) -> None:
        hierarchy = load_hierarchy() if hierarchy is None else hierarchy
        candidates = _candidates(labels, hierarchy)
        own = {label.wnid: label.name for label in reversed(labels)}
        self._names = {
            wnid: own[wnid] if wnid in own else hierarchy[wnid].name for wnid in candidates
        }
        self._wnids = [wnid.encode() for wnid in candidates]
        # All candidates' members, one after another, and where those of each begin.
        is_member = _bits(candidates.values(), len(labels))
        self._members = np.flatnonzero(is_member) % is_member.shape[1]
        sizes = is_member.sum(axis=1)
        self._starts = np.cumsum(sizes) - sizes
        # Where the candidates of as many members end, for each candidate.
        self._ends = np.searchsorted(sizes, sizes, side="right")

    @property
    def is_available(self) -> bool:
        """True if any class has a WordNet id; without one, nothing has an everyday label."""
        return bool(self._wnids)

    def choose(self, probabilities: np.ndarray, sure: float) -> np.ndarray:
        """Return the everyday label of each row: [n] of SURE.

        probabilities [n, classes] add up to 1 in each row. sure in [0, 1] is the least probability,
        to six digits as it is written. The most specific class is that of the fewest members, of
        equal ones the more probable, then the deeper in WordNet, then that of the lower id. A
        row's label doesn't depend on the other rows.
        """
        chosen = np.zeros(len(probabilities), SURE)
        if not self._wnids:
            return chosen
        wnids, totals = chosen["wnid"], chosen["probability"]
        for row, values in enumerate(probabilities.astype(np.float64, copy=False)):
            # A row at a time, so that the order of the sums never depends on the batch.
            sums = np.add.reduceat(values[self._members], self._starts)
            rounded = sums.round(6)
            # Not for NaN, which is neither more nor less.
            is_sure = rounded >= sure
            first = int(np.argmax(is_sure))
            if is_sure[first]:
                group = slice(first, self._ends[first])
                best = first + int(np.argmax(np.where(is_sure[group], rounded[group], -1.0)))
                wnids[row], totals[row] = self._wnids[best], sums[best]
        return chosen

    def record(self, chosen: np.void | np.ndarray) -> Everyday | None:
        """Return a row of choose as a record; None where the model is not sure of any class."""
        wnid = bytes(chosen["wnid"]).decode()
        if not wnid:
            return None
        return Everyday(wnid, self._names[wnid], float(chosen["probability"]))


def _candidates(labels: Sequence[Label], hierarchy: Hierarchy) -> dict[str, int]:
    """Return the candidates' ids, the most specific first, of as many members the deeper first.

    Their members are the bits of an integer, that of 1 << index for each index of a class.
    """
    members: dict[str, int] = defaultdict(int)
    for index, label in enumerate(labels):
        if label.wnid in hierarchy or is_wnid(label.wnid):
            members[label.wnid] |= 1 << index
    own = set(members)
    for wnid in reversed(hierarchy):
        if bits := members.get(wnid):
            for parent in hierarchy[wnid].parent_ids:
                members[parent] |= bits
    # The hierarchy has the ids of a depth in order, and both sorts keep it among equals.
    candidates = [
        wnid
        for wnid in (*hierarchy, *sorted(own.difference(hierarchy)))
        if wnid in own or (wnid in members and hierarchy[wnid].is_useful)
    ]
    candidates.sort(key=hierarchy.depth, reverse=True)
    candidates.sort(key=lambda wnid: members[wnid].bit_count())
    deepest: dict[int, str] = {}
    for wnid in candidates:
        deepest.setdefault(members[wnid], wnid)
    return {wnid: bits for bits, wnid in deepest.items()}


def _bits(numbers: Collection[int], count: int) -> np.ndarray:
    """Return the lowest count bits of each number, the lowest first: bool [numbers, count]."""
    size = -(-count // 8)
    raw = b"".join(number.to_bytes(size, "little") for number in numbers)
    rows = np.frombuffer(raw, np.uint8).reshape(len(numbers), size)
    return np.unpackbits(rows, axis=1, count=count, bitorder="little").astype(bool)
