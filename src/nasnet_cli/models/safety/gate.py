"""Refuses a module that could do more than compute, before anything runs it."""

from __future__ import annotations

import hashlib
from pathlib import Path

from nasnet_cli import cache
from nasnet_cli.errors import ModelError
from nasnet_cli.models.info import OpenedModel

# A hostile module may have thousands of them; a few say what it is.
_NAMED = 5


def check_safe(module: OpenedModel) -> None:
    """Raises ModelError, with their names, when a module has unsafe operations.

    That it has none is remembered in the cache under its digest and this scanner, since looking
    takes a tenth of a second.
    """
    remembered = _remembered(module)
    if cache.load(remembered) is not None:
        return
    found = module.unsafe_operations
    if found:
        more = f" and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
        raise ModelError(
            f"The module {module.path} has operations that could touch files, the network or "
            f"run code: {', '.join(found[:_NAMED])}{more}.",
            "Use one from a source that you trust, or add --allow-unsafe-ops to run it regardless.",
        )
    cache.store(remembered, b"")


def _remembered(module: OpenedModel) -> Path:
    key = hashlib.sha256(module.digest.encode())
    for scanner in ("scan.py", "allowed.py"):
        key.update(Path(__file__).with_name(scanner).read_bytes())
    return cache.scanned_folder() / key.hexdigest()
