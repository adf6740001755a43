"""Links from a report to the images on disk."""

# ruff: noqa: PTH117

from __future__ import annotations

import os
from urllib.parse import quote

from nasnet_cli.images.source import is_remote, member_of


def link(path: str, folder: str) -> str:
    """Return a link to the file at path, for a page in folder; "" where a browser cannot open it.

    Both are as seen from the current folder. A relative path has a relative link, which stays right
    when the page and the images move together. A member of an archive has a link to the archive.
    """
    if is_remote(path):
        is_web = path.startswith(("https://", "http://"))
        return quote(path, safe="/:?&=%#[]@!$'()*+,;~", errors="surrogateescape") if is_web else ""
    if not os.path.lexists(path) and (member := member_of(path)):
        path = member[0]
    if os.path.isabs(path):
        # A name that begins with two slashes would be that of another machine.
        return f"file:///{quote(os.fsencode(path.lstrip('/')))}"
    return quote(os.fsencode(os.path.relpath(path, folder)))
