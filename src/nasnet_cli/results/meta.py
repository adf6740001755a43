"""The file beside a result that says how the result came about: OUT.meta.json."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from nasnet_cli.results.text import json_text

META_SUFFIX = ".meta.json"


def meta_path(result: str | os.PathLike[str]) -> Path:
    """The name of the file that describes the file result: photos.csv.meta.json."""
    return Path(os.fspath(result) + META_SUFFIX)


def meta_document(
    *,
    tool: Mapping[str, object],
    runtime: Mapping[str, object],
    model: Mapping[str, object],
    preprocessing: Mapping[str, object],
    options: Mapping[str, object],
    summary: Mapping[str, object],
) -> bytes:
    """The content of OUT.meta.json, UTF-8, a key a line, keys sorted within each section.

    tool and runtime hold name and version; model and preprocessing hold a digest; options are
    those that the results depend on; summary is Summary.counts(). Values are what JSON has:
    str, int, finite float, bool, None, and lists and dicts of these.

    The same arguments give the same bytes, so nothing in them may tell one run from another: no
    time, no host, no number of workers. Raises TypeError or ValueError for other values.
    """
    sections = {
        "tool": tool,
        "runtime": runtime,
        "model": model,
        "preprocessing": preprocessing,
        "options": options,
        "summary": summary,
    }
    return (document(sections) + "\n").encode()


def document(sections: Mapping[str, Mapping[str, object]]) -> str:
    """A JSON object with the sections in the order given and each laid out on lines of its own."""
    return "{\n" + ",\n".join(section(name, body) for name, body in sections.items()) + "\n}"


def section(name: str, body: Mapping[str, object]) -> str:
    """One member of a JSON object, indented by two: its name and, below, its content."""
    # Only line ends of the layout are there to be found: those within strings are escaped.
    laid_out = json_text(dict(body), indent=2).replace("\n", "\n  ")
    return f"  {json_text(name)}: {laid_out}"
