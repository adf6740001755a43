"""Search by words: the classes that a word stands for, and their probability in an image.

"dog" stands for each class at or below WordNet's dog, by any of its names, in any case, with
underscores or spaces, in the singular or the plural. A word may have several senses (crane the
bird, crane the machine); an id like n02012849 or a display name like "crane (bird)" has one. Labels
without a WordNet id are compared by their text.
"""

from __future__ import annotations

import difflib
import functools
import math
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property

from nasnet_cli.results.records import Everyday, Prediction
from nasnet_cli.wordnet import Hierarchy, is_wnid, load_hierarchy

_SEPARATORS = re.compile(r"[\s_-]+")
# Endings of plurals and what the singular has instead, as in WordNet's own lemmatizer. A wrong
# singular does no harm: no class has such a name.
_ENDINGS = (
    ("s", ""),
    ("es", ""),
    ("ies", "y"),
    ("ves", "f"),
    ("ves", "fe"),
    ("men", "man"),
    ("i", "us"),
    ("a", "um"),
)
_IRREGULAR = {
    "geese": "goose",
    "mice": "mouse",
    "oxen": "ox",
    "people": "person",
    "titmice": "titmouse",
}


class Word:
    """A word as it is searched for, with the classes that it stands for.

    senses are the ids of the classes of the hierarchy that the word names, sorted; wnids those of
    all classes at or below them. Without senses the word may still be a label.
    """

    def __init__(self, word: str, hierarchy: Hierarchy | None = None) -> None:
        self._hierarchy = load_hierarchy() if hierarchy is None else hierarchy
        self._forms = _forms(word)
        self._matches: dict[tuple[str, str], bool] = {}
        self.word = word
        self.senses = tuple(sorted(_senses(word, self._hierarchy)))
        self.wnids = frozenset[str]().union(*map(self._hierarchy.below, self.senses))

    def matches(self, wnid: str, label: str) -> bool:
        """Return whether a class lies under the word, by its id or by its label's text."""
        key = wnid, label
        if key not in self._matches:
            is_under = wnid in self.wnids
            if not is_under and _wnid(self.word) is None:
                is_under = any(self._forms & _forms(name) for name in names_of(label))
            self._matches[key] = is_under
        return self._matches[key]

    @property
    def is_known(self) -> bool:
        """True if the word names a class of the hierarchy."""
        return any(wnid in self._hierarchy for wnid in self.senses)

    @property
    def main_senses(self) -> tuple[str, ...]:
        """The senses whose commonest name is the word: a cat is no big cat. Else all of them."""
        known = [wnid for wnid in self.senses if wnid in self._hierarchy]
        main = [w for w in known if self._forms & _forms(self._hierarchy[w].name)]
        return tuple(main) or self.senses

    def probability(self, sure: Everyday | None, predictions: Sequence[Prediction]) -> float:
        """Return the probability in [0, 1] that an image shows the word, as far as its row says.

        That is the probability of the everyday label where it lies under the word, or the sum of
        the recorded predictions that do, whichever is more: both are at most the true one.
        """
        under = (
            found.probability for found in predictions if self.matches(found.wnid, found.label)
        )
        known = round(sum(value for value in under if math.isfinite(value)), 6)
        if sure is not None and self.matches(sure.wnid, sure.label):
            return max(known, sure.probability)
        return known

    def describe_senses(self) -> Iterator[str]:
        """Return a line for each sense: n02012849  crane (bird): crane."""
        for wnid in self.senses:
            if wnid in self._hierarchy:
                synset = self._hierarchy[wnid]
                name = self._hierarchy.display_name(wnid, synset.name)
                yield f"{wnid}  {name}: {synset.synonyms}"

    def nearest(self, labels: Iterable[str] = (), count: int = 3) -> list[str]:
        """Return the names most like the word among labels and the hierarchy's, the best first."""
        names = {folded(name): name for wnid in self._hierarchy for name in self._all_names(wnid)}
        names |= {folded(name): name for label in labels for name in names_of(label)}
        close = difflib.get_close_matches(folded(self.word), names, count, cutoff=0.6)
        return [names[name] for name in close]

    def _all_names(self, wnid: str) -> list[str]:
        return self._hierarchy[wnid].synonyms.split(", ")


def _senses(word: str, hierarchy: Hierarchy) -> set[str]:
    if wnid := _wnid(word):
        return {wnid}
    index = _name_index(hierarchy)
    # An exact name first: "glasses" are spectacles, and not what "glass" is.
    if exact := index.exact.get(folded(word)):
        return exact
    singular = (index.exact[form] for form in _forms(word) if form in index.exact)
    if senses := set[str]().union(*singular):
        return senses
    # The name may be the plural: binoculars.
    return set[str]().union(
        *(index.by_form[form] for form in _forms(word) if form in index.by_form)
    )


def _wnid(word: str) -> str | None:
    """Return the WordNet id that a word is, in any case; None for other words."""
    wnid = word.strip().lower()
    return wnid if is_wnid(wnid) else None


class _NameIndex:
    """The ids of the classes by their names."""

    def __init__(self, hierarchy: Hierarchy) -> None:
        self._hierarchy = hierarchy
        self.exact: dict[str, set[str]] = defaultdict(set)
        for wnid in hierarchy:
            synset = hierarchy[wnid]
            for name in synset.synonyms.split(", "):
                self.exact[folded(name)].add(wnid)
            self.exact[folded(hierarchy.display_name(wnid, synset.name))].add(wnid)

    @cached_property
    def by_form(self) -> dict[str, set[str]]:
        """The ids by the names and their singular forms."""
        found: dict[str, set[str]] = defaultdict(set)
        for name, wnids in self.exact.items():
            for form in _forms(name):
                found[form] |= wnids
        return found


@functools.cache
def _name_index(hierarchy: Hierarchy) -> _NameIndex:
    return _NameIndex(hierarchy)


def names_of(label: str) -> list[str]:
    """Return a label and, where it is a list of synonyms (tench, Tinca tinca), each of them."""
    return [label, *label.split(", ")] if ", " in label else [label]


def folded(text: str) -> str:
    """Return a name in the form that names are compared in: lower case, words with one space.

    A letter and its accent are one character: macOS splits them in the names of folders, which
    become labels.
    """
    text = text if text.isascii() else unicodedata.normalize("NFC", text)
    return _SEPARATORS.sub(" ", text).strip().casefold()


def _forms(text: str) -> frozenset[str]:
    """The text, folded, and what it may be with one of its words in the singular."""
    words = folded(text).split(" ")
    forms = {" ".join(words)}
    for place, word in enumerate(words):
        for singular in _singulars(word):
            forms.add(" ".join([*words[:place], singular, *words[place + 1 :]]))
    return frozenset(forms)


def _singulars(word: str) -> Iterator[str]:
    if word in _IRREGULAR:
        yield _IRREGULAR[word]
    for ending, singular in _ENDINGS:
        if word.endswith(ending) and len(word) > len(ending) + 1 and not word.endswith("ss"):
            yield word.removesuffix(ending) + singular
