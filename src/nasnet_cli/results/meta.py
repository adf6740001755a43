"""The description beside a result: OUT.meta.json says how the result was made."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

from nasnet_cli.results.text import json_text

if TYPE_CHECKING:
    from pathlib import Path

META_SUFFIX = ".meta.json"
INPUTS_SUFFIX = ".inputs"
COMPANION_SUFFIXES = (META_SUFFIX, INPUTS_SUFFIX)
"""Endings of the files that say how a result was made: without it, they are in nobody's way."""

SECTIONS = ("tool", "runtime", "model", "preprocessing", "options", "summary")
"""The sections of a description, in its order."""


def meta_path(result: str | os.PathLike[str]) -> Path:
    """Return the path of a result's description: photos.csv.meta.json."""
    return _path(os.fspath(result) + META_SUFFIX)


def inputs_path(result: str | os.PathLike[str]) -> Path:
    """Return the path of the record of a result's inputs (jobs/inputs.py): photos.csv.inputs."""
    return _path(os.fspath(result) + INPUTS_SUFFIX)


def _path(name: str) -> Path:
    from pathlib import Path  # not for the help of commands, of which it takes a twentieth

    return Path(name)


def meta_document(**sections: Mapping[str, object]) -> bytes:
    """Return the content of OUT.meta.json: UTF-8, one key per line, keys sorted in each section.

    The sections come in the order of the arguments. tool and runtime have a name and a version;
    model and preprocessing have a digest; options are those that the results depend on; summary is
    Summary.counts(). Values are JSON's: str, int, finite float, bool, None, and lists and dicts of
    these. Raises TypeError or ValueError for others.

    The same arguments give the same bytes, so they must not differ between runs: no time, no host,
    no number of workers.
    """
    members = ",\n".join(section(name, body) for name, body in sections.items())
    return f"{{\n{members}\n}}\n".encode()


def section(name: str, body: Mapping[str, object]) -> str:
    """Return one member of a JSON object, indented by two: its name and its content."""
    # All line ends are the layout's: those within strings are escaped.
    indented = json_text(dict(body), indent=2).replace("\n", "\n  ")
    return f"  {json_text(name)}: {indented}"
