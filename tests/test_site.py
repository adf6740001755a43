"""The site of the documentation: built without a warning, and read without a network."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# What a browser fetches by itself; links that a reader follows may lead anywhere.
LOADED = re.compile(
    r"<(?:script|img|iframe|source)\b[^>]*\bsrc=[\"']?(?:https?:)?//[^\"'> ]+"
    r"|<link\b[^>]*\brel=[\"']?(?:stylesheet|preconnect|icon)[^>]*\bhref=[\"']?(?:https?:)?//[^>]+"
    r"|url\([\"']?(?:https?:)?//[^)]+",
)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The site, built as make site does."""
    pytest.importorskip("mkdocs")
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", folder],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder


def test_pages_load_nothing_from_the_network(site):
    assert LOADED.search('<script src="https://example.org/a.js">')
    for path in [*site.rglob("*.html"), *site.rglob("*.css")]:
        assert not LOADED.search(path.read_text(encoding="utf-8")), path


def test_every_page_of_docs_is_reached(site):
    index = (site / "index.html").read_text(encoding="utf-8")
    for page in (ROOT / "docs").glob("*.md"):
        assert f'href="{page.stem}.html"' in index, page.name


def test_the_reference_has_the_public_names(site):
    import nasnet_cli

    page = (site / "api.html").read_text(encoding="utf-8")
    for name in nasnet_cli.__all__:
        assert re.search(rf'id="nasnet_cli\.[\w.]+\.{name}"', page), name
    for method in ("classify", "embed", "inspect"):
        assert f'id="nasnet_cli.model.Model.{method}"' in page
