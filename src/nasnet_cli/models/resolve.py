"""Resolution of what a user calls a model: a name, a handle or a path.

Nothing is fetched unless a name or an address was given, and nothing heavy is imported before it
is needed.
"""

from __future__ import annotations

import difflib
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from nasnet_cli.errors import ModelError
from nasnet_cli.models.formats.base import DetectedModel
from nasnet_cli.models.listener import SILENT, ProgressListener

if TYPE_CHECKING:
    from nasnet_cli.models.hub.published import Published

BUILTIN = "builtin"
"""The name of the built-in model, for where another one is the default."""

_ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")


def resolve(
    model: str | os.PathLike[str] | None,
    listener: ProgressListener = SILENT,
    *,
    runnable: bool = True,
) -> DetectedModel:
    """Return the model that was named, on this machine.

    model is None or BUILTIN for the built-in one; a published module's name (published.PUBLISHED);
    an https handle of tensorflow-hub's protocol; or a path of a model in any format of
    formats/table.py or a .tar.gz of one. A name has precedence over a path: ./imagenet-mobile is
    the path. What has to be unpacked is kept in the cache by its content; with runnable, so is the
    module that a checkpoint or a Keras file is converted to. So is a copy of what others could
    change, which stands for it.

    Raises ModelError when there is no such model or it is not recognized; download.DownloadError
    and CacheError when it cannot be fetched or kept.
    """
    name = BUILTIN if model is None else os.fspath(model)
    if name == BUILTIN:
        from nasnet_cli.models.formats.tf1_hub import TF1Hub

        return DetectedModel(TF1Hub(), builtin_folder())
    from nasnet_cli.models.detect import ARCHIVE, MissingModelError

    if (published := _published(name)) is not None:
        from nasnet_cli.models.hub.fetch import fetch_published

        return _protected(fetch_published(published, listener), name, listener)
    if scheme := _ADDRESS.match(name):
        return _protected(_fetch(name, scheme[1].lower(), listener), name, listener)
    try:
        detected = _protected(Path(name), name, listener)
    except MissingModelError as error:
        error.remedy = _suggestion(name)
        raise
    if detected.format is ARCHIVE or (runnable and not detected.format.is_runnable):
        from nasnet_cli.models.convert import cached_module

        return _protected(cached_module(detected, name, listener), name, listener)
    return detected


def _protected(path: Path, shown: str, listener: ProgressListener) -> DetectedModel:
    """Return the model at path, or its copy in the cache where others could change it."""
    from nasnet_cli.models.detect import identify
    from nasnet_cli.models.files import reading
    from nasnet_cli.models.reach import is_out_of_reach

    detected = identify(path, shown)
    path = detected.path
    with reading(shown, "Check it."):
        whole = [path] if path.is_dir() else detected.format.files(path).values()
        if all(is_out_of_reach(part) for part in whole if part.exists()):
            return detected
    from nasnet_cli.models.own_copy import own_copy

    return own_copy(detected, shown, listener)


def builtin_folder() -> Path:
    """Return the folder of the built-in model. Raises ModelError when the package lacks it."""
    folder = Path(__file__).parents[1] / "builtin_model"
    if not (folder / "saved_model.pb").is_file():
        raise ModelError(
            "The built-in model is missing from this installation.",
            "Install nasnet-cli again, or name another model with --model.",
        )
    return folder


def _published(name: str) -> Published | None:
    """Return the published model of that name."""
    if "/" in name:  # a path or an address; the list of models takes a while to import
        return None
    from nasnet_cli.models.hub.published import PUBLISHED

    return PUBLISHED.get(name)


def _fetch(name: str, scheme: str, listener: ProgressListener) -> Path:
    if scheme not in ("https", "http"):
        raise ModelError(
            f"{name} cannot be fetched: models come over https://.",
            "Copy it to this machine, and name its path.",
        )
    from nasnet_cli.models.hub.fetch import fetch_handle

    return fetch_handle(name, listener)


def _suggestion(name: str) -> str:
    from nasnet_cli.models.hub.published import PUBLISHED

    names = ", ".join((BUILTIN, *PUBLISHED))
    text = f"nasnet models lists {names}; all else is a path or an https:// handle."
    if similar := difflib.get_close_matches(name.lower(), (BUILTIN, *PUBLISHED), n=1):
        return f"Did you mean {similar[0]}? {text}"
    return text
