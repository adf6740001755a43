"""What a path stands for by its name alone: an archive of pictures, or a URL.

Reading either takes much importing, which most runs have no need of.
"""

from __future__ import annotations

import re

ZIP_SUFFIX = ".zip"
_TAR_SUFFIX = ".tar"
COMPRESSED_TAR_SUFFIXES = (".tar.gz", ".tgz")

_URL = re.compile(r"([a-z][a-z0-9]+)://")


def is_archive(path: str) -> bool:
    """Whether a file's name is that of an archive whose pictures can be read."""
    return path.lower().endswith((ZIP_SUFFIX, _TAR_SUFFIX, *COMPRESSED_TAR_SUFFIXES))


def is_remote(path: str) -> bool:
    """Whether a path is a URL. A file of such a name is reached as ./s3://…"""
    return _URL.match(path) is not None
