"""True classes: what the name of a folder, or a cell of a CSV file, stands for among labels.

A name may be a WordNet id, a label, a synonym or a wider class: n02099601, golden retriever,
Canis familiaris, dog. One that stands for nothing, or for several things, is never guessed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from nasnet_cli.labels import Label
from nasnet_cli.results.text import shortened
from nasnet_cli.search import Word, folded, names_of
from nasnet_cli.wordnet import is_wnid, load_hierarchy

_SHOWN = 4


@dataclass(frozen=True)
class TrueClass:
    """A class that images are known to show, by the name that the user gives it.

    wnid is its WordNet id, "" for none. Of labels it has those whose id is one of wnids and,
    without an id, those that are one of names.
    """

    name: str
    wnid: str
    wnids: frozenset[str]
    names: frozenset[str]

    @property
    def title(self) -> str:
        """The name for people: "goldfish (n01443537)" where they gave the id alone."""
        hierarchy = load_hierarchy()
        if self.name.strip() != self.wnid or self.wnid not in hierarchy:
            return self.name
        return f"{hierarchy[self.wnid].name} ({self.wnid})"

    def has(self, wnid: str, label: str) -> bool:
        """Return whether a label, with its id or "", is the class or one below it."""
        return wnid in self.wnids if wnid else label in self.names

    def is_shown_by(self, wnid: str) -> bool:
        """Return whether an everyday label is right: the class, or one above or below it."""
        ancestors = load_hierarchy().ancestors
        return wnid == self.wnid or wnid in ancestors(self.wnid) or self.wnid in ancestors(wnid)


class UnmatchedError(Exception):
    """A name stands for no class, or for several. The message continues after the name."""


@dataclass
class Truth:
    """The true classes of an evaluation, found by their names.

    labels are those that predictions may have. With is_complete they are all of the model's;
    without it other classes of WordNet may be the model's too. classes are those found so far,
    unmatched the reasons by the other names, same the names by others that mean the same class.
    """

    labels: Iterable[Label]
    is_complete: bool = True
    classes: list[TrueClass] = field(default_factory=list)
    unmatched: dict[str, str] = field(default_factory=dict)
    same: dict[str, str] = field(default_factory=dict)
    _numbers: dict[str, int | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.labels = tuple(dict.fromkeys(self.labels))
        self._wnids = frozenset(label.wnid for label in self.labels if label.wnid)
        self._by_name: dict[str, set[Label]] = defaultdict(set)
        self._by_synonym: dict[str, set[Label]] = defaultdict(set)
        shown = load_hierarchy().display_names(self.labels)
        for label, display_name in zip(self.labels, shown, strict=True):
            self._by_name[folded(label.name)].add(label)
            self._by_name[folded(display_name)].add(label)
            for synonym in names_of(label.name):
                self._by_synonym[folded(synonym)].add(label)

    def number(self, name: str) -> int | None:
        """Return the place in classes of the class that a name stands for; None without one."""
        if name not in self._numbers:
            try:
                self._numbers[name] = self._add(self._find(name))
            except UnmatchedError as error:
                self.unmatched[name] = str(error)
                self._numbers[name] = None
        return self._numbers[name]

    def _add(self, found: TrueClass) -> int:
        for number, known in enumerate(self.classes):
            if (known.wnids, known.names) == (found.wnids, found.names):
                self.same[found.name] = known.name
                return number
        self.classes.append(found)
        return len(self.classes) - 1

    def _find(self, name: str) -> TrueClass:
        if is_wnid(name.strip()):
            return self._of_senses(name, (name.strip(),))
        for index in (self._by_name, self._by_synonym):
            if labels := index.get(folded(name)):
                return self._of_labels(name, labels)
        word = Word(name)
        if word.senses:
            return self._of_senses(name, word.main_senses)
        if labels := {label for label in self.labels if word.matches(label.wnid, label.name)}:
            return self._of_labels(name, labels)
        nearest = word.nearest(label.name for label in self.labels)
        raise UnmatchedError(
            "is not a label" + (f"; like it: {', '.join(nearest)}" if nearest else "")
        )

    def _of_labels(self, name: str, labels: set[Label]) -> TrueClass:
        if len({label.wnid or label.name for label in labels}) > 1:
            names = zip(load_hierarchy().display_names(tuple(labels)), labels, strict=True)
            listed = sorted(f"{label.wnid} {shown}".strip() for shown, label in names)
            raise UnmatchedError(f"is several labels: {shortened(listed, _SHOWN)}")
        wnid = min(label.wnid for label in labels)
        if wnid:
            return TrueClass(name, wnid, self._below(wnid), frozenset())
        return TrueClass(name, "", frozenset(), frozenset(label.name for label in labels))

    def _of_senses(self, name: str, senses: tuple[str, ...]) -> TrueClass:
        found = {wnid: below for wnid in senses if (below := self._below(wnid))}
        if not found:
            raise UnmatchedError("is not a class of the model")
        if len(set(found.values())) > 1:
            hierarchy = load_hierarchy()
            listed = [
                f"{wnid} {hierarchy.display_name(wnid, hierarchy[wnid].name)}" for wnid in found
            ]
            raise UnmatchedError(f"is several classes: {shortened(listed, _SHOWN)}")
        wnid = min(found)
        return TrueClass(name, wnid, found[wnid], frozenset())

    def _below(self, wnid: str) -> frozenset[str]:
        """Return the ids at or below one that predictions may have."""
        hierarchy = load_hierarchy()
        if not self.is_complete and wnid in hierarchy and self._wnids:
            return hierarchy.below(wnid)
        return hierarchy.below(wnid) & self._wnids
