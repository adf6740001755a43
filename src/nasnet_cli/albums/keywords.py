"""The keywords of an everyday label: its name and those of the classes above it that help people."""

from __future__ import annotations

from typing import NamedTuple

from nasnet_cli.results.records import Everyday
from nasnet_cli.wordnet import Hierarchy, load_hierarchy


class Keywords(NamedTuple):
    """Keywords as programs for photos keep them, as lists and as trees.

    names has the label and the classes above it, the nearest first. paths has each way down to the
    label, from the widest class: animal, domestic animal, dog.
    """

    names: tuple[str, ...]
    paths: tuple[tuple[str, ...], ...]


NONE = Keywords((), ())


def keywords_of(sure: Everyday | None) -> Keywords:
    """Return the keywords of an image; none where the model is not sure."""
    if sure is None:
        return NONE
    hierarchy = load_hierarchy()

    def name(wnid: str) -> str:
        label = sure.label if wnid == sure.wnid else hierarchy[wnid].name
        return hierarchy.display_name(wnid, label)

    names = [name(wnid) for wnid in (sure.wnid, *hierarchy.useful_ancestors(sure.wnid))]
    paths = [tuple(map(name, path)) for path in _paths(sure.wnid, hierarchy)]
    return Keywords(tuple(dict.fromkeys(names)), tuple(dict.fromkeys(paths)))


def _paths(wnid: str, hierarchy: Hierarchy) -> list[list[str]]:
    above = hierarchy.useful_ancestors(wnid)
    wider = frozenset().union(*map(hierarchy.ancestors, above))
    nearest = [id_ for id_ in above if id_ not in wider]
    return [[*path, wnid] for id_ in nearest for path in _paths(id_, hierarchy)] or [[wnid]]
