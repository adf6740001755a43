"""The content of a report, read from its HTML without a browser."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any


class Report(HTMLParser):
    """The elements of a report: its texts by tag, the attributes of its tags, and its data."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {}
        self.rows: list[dict[str, Any]] = []
        self.thumbnails: list[str | None] = []
        self.about: dict[str, Any] = {}
        self._text: list[str] = []
        self.feed(file.read_text(encoding="utf-8"))
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._text = []

    def handle_data(self, data: str) -> None:
        self._text.append(data)

    def handle_endtag(self, tag: str) -> None:
        text = "".join(self._text)
        self._text = []
        if tag == "script" and (name := self.tags[-1][1].get("class")):
            {"rows": self.rows, "thumbnails": self.thumbnails}[name].extend(json.loads(text))
        elif tag == "script" and self.tags[-1][1].get("id") == "about":
            self.about = json.loads(text)
        else:
            self.texts.setdefault(tag, []).append(text)

    @property
    def policy(self) -> str:
        """The content security policy."""
        (found,) = [
            attributes["content"]
            for tag, attributes in self.tags
            if attributes.get("http-equiv") == "Content-Security-Policy"
        ]
        assert found is not None
        return found

    def label(self, number: int) -> str:
        """The text of a label by its number."""
        return str(self.about["labels"][number][0])
