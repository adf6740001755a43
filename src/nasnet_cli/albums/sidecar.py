"""Keywords in an XMP sidecar, beside what other programs have written there.

Keywords are in three properties, for the programs that read them. What we have added is listed in
properties of the same names in a namespace of our own, so that no one else's keyword is ever taken
away. XMP is RDF in XML: properties are children of rdf:Description, lists are in rdf:Bag, rdf:Seq
or rdf:Alt.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from lxml import etree

from nasnet_cli.albums.keywords import Keywords
from nasnet_cli.errors import NasnetError, describe_error

_RDF = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"
_OURS = "{urn:nasnet-cli:xmp:1.0:}"
_CREATED = f"{_OURS}created"  # of a sidecar that we have made, and remove when it is empty again
_SUBJECT = "{http://purl.org/dc/elements/1.1/}subject"
_HIERARCHICAL = "{http://ns.adobe.com/lightroom/1.0/}hierarchicalSubject"
_TAGS_LIST = "{http://www.digikam.org/ns/1.0/}TagsList"
_LISTS = {_SUBJECT: "Bag", _HIERARCHICAL: "Bag", _TAGS_LIST: "Seq"}
_KINDS = {f"{_RDF}{kind}" for kind in ("Bag", "Seq", "Alt")}
_PREFIXES = {
    "dc": "http://purl.org/dc/elements/1.1/",
    "lr": "http://ns.adobe.com/lightroom/1.0/",
    "digiKam": "http://www.digikam.org/ns/1.0/",
    "nasnet": "urn:nasnet-cli:xmp:1.0:",
}
_EMPTY = (
    b'<?xpacket begin="\xef\xbb\xbf" id="W5M0MpCehiHzreSzNTczkc9d"?>\n'
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/">\n'
    b' <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">\n </rdf:RDF>\n'
    b'</x:xmpmeta>\n<?xpacket end="w"?>'
)
_REMEDY = "Repair the sidecar with the program that wrote it."


class Sidecar:
    """An XMP sidecar, parsed; without data, a new one.

    Raises NasnetError, with name in the message, for what is no XMP or has a DTD, and in
    set_keywords for keywords in a form that nothing could be added to.
    """

    def __init__(self, data: bytes | None, name: str) -> None:
        self._name = name
        raw = _EMPTY if data is None else data
        # Declarations of entities are in a DTD. Without zero bytes, UTF-16 and UTF-32 are ASCII.
        if b"<!DOCTYPE" in raw.replace(b"\0", b""):
            raise NasnetError(f"{name} has a DTD, which XMP never has.", _REMEDY)
        parser = etree.XMLParser(
            resolve_entities=False, load_dtd=False, no_network=True, strip_cdata=False
        )
        try:
            root = etree.fromstring(raw, parser)
        except (etree.XMLSyntaxError, ValueError) as error:
            raise NasnetError(f"{name} is not XML: {describe_error(error)}.", _REMEDY) from error
        self._has_declaration = re.match(rb"\xef\xbb\xbf<\?xml|<\?xml", raw) is not None
        found = next(root.iter(f"{_RDF}RDF"), None)
        if found is None:
            raise NasnetError(f"{name} is not XMP: it has no rdf:RDF.", _REMEDY)
        self._rdf: Any = found
        marks = (_CREATED in d.attrib or d.find(_CREATED) is not None for d in self._descriptions)
        self._is_ours = data is None or any(marks)

    def set_keywords(self, keywords: Keywords) -> bool:
        """Make keywords the ones that we have added, and return whether anything has changed.

        A keyword that is there already stays whoever's it is.
        """
        trees = [[part.replace("|", "-").replace("/", "-") for part in p] for p in keywords.paths]
        wanted = {
            _SUBJECT: list(keywords.names),
            _HIERARCHICAL: ["|".join(path) for path in trees],
            _TAGS_LIST: ["/".join(path) for path in trees],
        }
        added = {name: self._values(_own(name)) for name in _LISTS}
        foreign = {name: set(self._values(name)) - set(added[name]) for name in _LISTS}
        wanted = {
            name: [value for value in values if value not in foreign[name]]
            for name, values in wanted.items()
        }
        if all(set(wanted[name]) == set(added[name]) for name in _LISTS):
            return False
        for name, values in added.items():
            self._take_away(name, set(values))
        self._remove_own()
        if any(wanted.values()):
            self._add(wanted)
        return True

    @property
    def is_empty(self) -> bool:
        """True for a sidecar that we have made and in which nothing is left."""
        return self._is_ours and all(_is_bare(description) for description in self._descriptions)

    def data(self) -> bytes:
        """Return the file's bytes."""
        root = self._rdf.getroottree().getroot()
        nodes = [*reversed([*root.itersiblings(preceding=True)]), root, *root.itersiblings()]
        lines = [etree.tostring(node, encoding="UTF-8", with_tail=False) for node in nodes]
        if self._has_declaration:
            lines.insert(0, b'<?xml version="1.0" encoding="UTF-8"?>')
        return b"\n".join(lines) + b"\n"

    @property
    def _descriptions(self) -> list[Any]:
        return list(self._rdf.iterchildren(etree.Element))

    def _properties(self, name: str) -> Iterator[Any]:
        for description in self._descriptions:
            if name in description.attrib:
                raise self._odd(name)
            yield from description.findall(name)

    def _lists(self, name: str) -> Iterator[Any]:
        for element in self._properties(name):
            lists = [child for child in element if child.tag in _KINDS]
            if len(lists) != 1 or (element.text or "").strip():
                raise self._odd(name)
            yield lists[0]

    def _values(self, name: str) -> list[str]:
        return [_text(item) for list_ in self._lists(name) for item in list_.findall(_rdf("li"))]

    def _odd(self, name: str) -> NasnetError:
        short = name.rpartition("}")[2]
        return NasnetError(f"{self._name} has {short} in a form that is not a list.", _REMEDY)

    def _take_away(self, name: str, values: set[str]) -> None:
        """Remove values from a property, and the property where nothing else is left in it."""
        for list_ in list(self._lists(name)):
            items = [item for item in list_.findall(_rdf("li")) if _text(item) in values]
            for item in items:
                _remove(item)
            if items and len(list_) == 0:
                _remove(list_.getparent())

    def _remove_own(self) -> None:
        """Remove everything of our own namespace, and descriptions that held nothing else."""
        for description in self._descriptions:
            own = description.findall(f"{_OURS}*")
            attributes = [name for name in description.attrib if name.startswith(_OURS)]
            for element in own:
                _remove(element)
            for name in attributes:
                del description.attrib[name]
            if (own or attributes) and _is_bare(description):
                _remove(description)

    def _add(self, wanted: dict[str, list[str]]) -> None:
        about = self._descriptions[0].get(_rdf("about"), "") if self._descriptions else ""
        own = _append(self._rdf, _rdf("Description"), _PREFIXES)
        own.set(_rdf("about"), about)
        if self._is_ours:
            own.set(_CREATED, "True")
        for name, values in wanted.items():
            list_ = next(self._lists(name), None)
            if list_ is None:
                self._new_list(own, name, values)
            else:
                for value in values:
                    _append(list_, _rdf("li")).text = value
        for name, values in wanted.items():
            self._new_list(own, _own(name), values)

    @staticmethod
    def _new_list(description: Any, name: str, values: Sequence[str]) -> None:
        if values:
            element = _append(description, name)
            list_ = _append(element, _rdf(_LISTS.get(name, "Bag")))
            for value in values:
                _append(list_, _rdf("li")).text = value


def _own(name: str) -> str:
    return _OURS + name.rpartition("}")[2]


def _rdf(kind: str) -> str:
    return _RDF + kind


def _text(item: Any) -> str:
    return "".join(item.itertext()).strip()


def _is_bare(description: Any) -> bool:
    return len(description) == 0 and set(description.attrib) <= {_rdf("about")}


def _append(parent: Any, tag: str, prefixes: dict[str, str] | None = None) -> Any:
    """Add an element as the last child, on a line of its own with the indentation around it."""
    depth = sum(1 for _ in parent.iterancestors())
    outer = "\n" + " " * depth
    if len(parent):
        last = parent[-1]
        outer = last.tail if last.tail and not last.tail.strip() else outer
        last.tail = parent.text if parent.text and not parent.text.strip() else outer + " "
    elif not (parent.text or "").strip():
        outer = parent.text or outer
        parent.text = outer + " "
    element = etree.SubElement(parent, tag, None, prefixes)
    element.tail = outer
    return element


def _remove(element: Any) -> None:
    """Remove an element, and put the white space behind it where the parent's end needs it."""
    parent, before = element.getparent(), element.getprevious()
    if element.getnext() is None:
        if before is not None:
            before.tail = element.tail
        else:
            parent.text = element.tail
    parent.remove(element)
