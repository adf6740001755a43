"""Pages of the site that lie outside docs/: README.md as its first page, and others in the root."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
PAGES = {
    "README.md": "index.md",
    "CHANGELOG.md": "CHANGELOG.md",
    "CONTRIBUTING.md": "CONTRIBUTING.md",
    "SECURITY.md": "SECURITY.md",
}


def on_files(files: Files, config: Any) -> Files:
    """Add the pages in the root, with their links as seen from docs/."""
    for name, page in PAGES.items():
        text = re.sub(
            r"\[([^]]*)\]\(([^)#]+)(#[^)]*)?\)", _link, (ROOT / name).read_text(encoding="utf-8")
        )
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Rewrite links out of docs/ as links to pages of the site, or the text alone of other files."""
    return re.sub(r"\[([^]]*)\]\(\.\./([^)#]+)(#[^)]*)?\)", _link, markdown)


def _link(match: re.Match[str]) -> str:
    """Return a link seen from the root as one of the site; the text alone of other files."""
    text, target, anchor = match[1], match[2], match[3] or ""
    inside = PAGES.get(target, target.removeprefix("docs/"))
    if "://" in target or target in PAGES or target.startswith("docs/"):
        return f"[{text}]({inside}{anchor})"
    return text
