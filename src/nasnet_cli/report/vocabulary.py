"""The labels of a report, and the part of WordNet that its search and its tree of classes need."""

from __future__ import annotations

from nasnet_cli.wordnet import load_hierarchy


class Vocabulary:
    """Labels by number, in the order in which they were met."""

    def __init__(self) -> None:
        self._hierarchy = load_hierarchy()
        self._numbers: dict[tuple[str, str], int] = {}

    def number(self, wnid: str, label: str) -> int:
        """Return the number of a label; wnid is its WordNet id or empty."""
        return self._numbers.setdefault((wnid, label), len(self._numbers))

    def table(self) -> dict[str, list[list[object]]]:
        """Return labels and classes as JSON for the page.

        A label is its text, its name where no id stands beside it, and the number of its class or
        -1. A class is its id, name, synonyms, the numbers of the classes right above it, and that
        of the nearest one above that helps people, or -1; each comes after those above it.
        """
        hierarchy = self._hierarchy
        known = {wnid for wnid, _ in self._numbers if wnid in hierarchy}
        known = known.union(*map(hierarchy.ancestors, known))
        numbers = {
            wnid: place for place, wnid in enumerate(id_ for id_ in hierarchy if id_ in known)
        }
        classes: list[list[object]] = []
        for wnid in numbers:
            synset = hierarchy[wnid]
            above = hierarchy.useful_ancestors(wnid)
            name = hierarchy.display_name(wnid, synset.name)
            parents = [numbers[parent] for parent in synset.parent_ids]
            nearest = numbers[above[0]] if above else -1
            classes.append([wnid, name, synset.synonyms, parents, nearest])
        labels: list[list[object]] = [
            [label, hierarchy.display_name(wnid, label) if wnid else label, numbers.get(wnid, -1)]
            for wnid, label in self._numbers
        ]
        return {"labels": labels, "classes": classes}
