"""Refuse a model that could do more than compute, before anything runs it."""

from __future__ import annotations

import hashlib
from pathlib import Path

from nasnet_cli import cache
from nasnet_cli.errors import ModelError
from nasnet_cli.models.info import OpenedModel, name_unsafe


def check_safe(model: OpenedModel) -> None:
    """Raise ModelError, with their names, when a model has unsafe operations, or is damaged.

    The cache records a clean result by the digests of the model and this scanner, because a scan
    takes a tenth of a second.
    """
    clean_record = _clean_record(model)
    if cache.load(clean_record) is not None:
        return
    unsafe = model.unsafe_operations
    if unsafe:
        raise ModelError(
            f"The model {model.path} has {name_unsafe(unsafe)}.",
            "Use a model from a source that you trust, or add --allow-unsafe-ops to run it anyway.",
        )
    model.check_constants()
    model.check_whole()
    cache.store(clean_record, b"")


def _clean_record(model: OpenedModel) -> Path:
    key = hashlib.sha256(model.digest.encode())
    for scanner in (
        "safety/scan.py",
        "safety/allowed.py",
        "safety/constants.py",
        "savedmodel/graph.py",
        "savedmodel/bundle.py",
    ):
        key.update((Path(__file__).parents[1] / scanner).read_bytes())
    return cache.subfolder("scanned") / key.hexdigest()
