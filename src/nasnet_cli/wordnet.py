"""WordNet over ImageNet's classes: which class lies below which, and what they are called.

labels/wordnet.tsv has ImageNet's 1000 classes and all classes above them, from WordNet 3.0
(recipes/make_wordnet.py). Several classes may lie right above one: a piano is a stringed, a
percussion and a keyboard instrument.
"""

from __future__ import annotations

import functools
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from typing import NamedTuple

from nasnet_cli.errors import NasnetError
from nasnet_cli.labels import Label, lists_folder

_COLUMNS = "wnid\tparents\tname\tsynonyms\tmark\tqualifier"
_WNID = re.compile("n[0-9]{8}")


class Synset(NamedTuple):
    """A class of WordNet, as its line in labels/wordnet.tsv.

    parents are the ids of the classes right above it, separated by "|". synonyms are all its
    names, separated by ", ", the commonest, name, first. mark is empty, or says why the class is
    no help to people: broad, technical or odd. qualifier tells it from others of the same name.
    """

    # Text as it is read: loading splits nothing that most runs never ask for.
    wnid: str
    parents: str
    name: str
    synonyms: str
    mark: str
    qualifier: str

    @property
    def parent_ids(self) -> list[str]:
        """The ids of the classes right above this one."""
        return self.parents.split("|") if self.parents else []

    @property
    def is_useful(self) -> bool:
        """True if the class helps people as a label or a keyword."""
        return not self.mark


class Hierarchy:
    """Classes and the order among them; load_hierarchy reads the one of the package.

    Each class comes after all classes above it. Raises KeyError where one does not.
    """

    def __init__(self, synsets: Iterable[Synset]) -> None:
        self._synsets: dict[str, Synset] = {}
        self._depths: dict[str, int] = {}
        self._ancestors: dict[str, frozenset[str]] = {}
        known, depths = self._synsets, self._depths
        for synset in synsets:
            wnid, parents = synset.wnid, synset.parents
            known[wnid] = synset
            if "|" in parents:
                depths[wnid] = 1 + max([depths[parent] for parent in parents.split("|")])
            else:
                depths[wnid] = 1 + depths[parents] if parents else 0

    def __contains__(self, wnid: object) -> bool:
        return wnid in self._synsets

    def __getitem__(self, wnid: str) -> Synset:
        return self._synsets[wnid]

    def __len__(self) -> int:
        return len(self._synsets)

    def __iter__(self) -> Iterator[str]:
        """Iterate over the ids, each before all classes below it."""
        return iter(self._synsets)

    def __reversed__(self) -> Iterator[str]:
        return reversed(self._synsets)

    def ancestors(self, wnid: str) -> frozenset[str]:
        """Return the ids of all classes above one; none where the id is not in the hierarchy."""
        if wnid not in self._synsets:
            return frozenset()
        if wnid not in self._ancestors:
            parents = self._synsets[wnid].parent_ids
            self._ancestors[wnid] = frozenset(parents).union(*map(self.ancestors, parents))
        return self._ancestors[wnid]

    def depth(self, wnid: str) -> int:
        """Return the most steps from a class without parents down to this one.

        A class is always deeper than any class above it. An id that is not in the hierarchy has
        depth 0.
        """
        return self._depths.get(wnid, 0)

    def below(self, wnid: str) -> frozenset[str]:
        """Return the ids of a class and of all classes below it."""
        return frozenset([wnid, *(id_ for id_ in self if wnid in self.ancestors(id_))])

    def useful_ancestors(self, wnid: str) -> tuple[str, ...]:
        """Return the ids of the classes above one that help people, the nearest first.

        Nearest are the deepest ones; of equal ones that of the lower id.
        """
        useful = [id_ for id_ in self.ancestors(wnid) if self._synsets[id_].is_useful]
        return tuple(sorted(useful, key=lambda id_: (-self.depth(id_), id_)))

    @cached_property
    def _shared_names(self) -> set[str]:
        return {_folded(synset.name) for synset in self._synsets.values() if synset.qualifier}

    def display_name(self, wnid: str, label: str) -> str:
        """Return a class's label for where no id stands beside it: crane (bird), crane (machine).

        label stays as it is unless it is a name that several classes of the hierarchy have.
        """
        if _folded(label) not in self._shared_names or not wnid:
            return label
        if wnid not in self._synsets:
            return f"{label} ({wnid})"
        synset = self._synsets[wnid]
        is_own_name = _folded(synset.name) == _folded(label)
        return f"{label} ({synset.qualifier})" if is_own_name and synset.qualifier else label

    def display_names(self, labels: Sequence[Label]) -> list[str]:
        """Return the display_name of each label, with the id behind those that are still equal.

        Classes without an id that have the same label keep it.
        """
        names = [self.display_name(label.wnid, label.name) for label in labels]
        counts = Counter(map(_folded, names))
        return [
            f"{name} ({label.wnid})" if label.wnid and counts[_folded(name)] > 1 else name
            for name, label in zip(names, labels, strict=True)
        ]

    def unknown_ids(self, labels: Iterable[Label]) -> list[str]:
        """Return the WordNet ids among the labels that are not in the hierarchy."""
        return [label.wnid for label in labels if is_wnid(label.wnid) and label.wnid not in self]


def is_wnid(text: str) -> bool:
    """Return whether text has the form of a noun's WordNet id, like n02084071."""
    return _WNID.fullmatch(text) is not None


@functools.cache
def load_hierarchy() -> Hierarchy:
    """Return the hierarchy of the package, read once, in a few milliseconds.

    Raises NasnetError when its file is missing or damaged.
    """
    path = lists_folder() / "wordnet.tsv"
    try:
        return Hierarchy(_parse(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, KeyError):
        raise NasnetError(f"Cannot read {path}.", "Install nasnet-cli again.") from None


def _parse(text: str) -> list[Synset]:
    header, *lines = text.removesuffix("\n").split("\n")
    if header != _COLUMNS:
        raise ValueError(header)
    return [Synset._make(line.split("\t")) for line in lines]


def _folded(name: str) -> str:
    return name.replace("_", " ").casefold()
