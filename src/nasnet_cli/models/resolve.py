"""From what a user calls a model to a module's folder: names, handles, paths.

Nothing is fetched unless a name or an address was given, and nothing heavy is imported before it
is needed: a folder's own path comes back at once.
"""

from __future__ import annotations

import difflib
import os
import re
from pathlib import Path

from nasnet_cli.errors import ModelError
from nasnet_cli.models.detect import RUNTIME_FILES, DetectedModel, detect, unrecognized
from nasnet_cli.models.hub.published import PUBLISHED
from nasnet_cli.models.listener import SILENT, ProgressListener

_ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")


def resolve(model: str | os.PathLike[str] | None, listener: ProgressListener = SILENT) -> Path:
    """The folder of a module, or the file of a model in a runtime's own format.

    model is None for the built-in one; a published module's name (published.PUBLISHED); an https
    handle of tensorflow-hub's protocol; or a path: a module's folder, its .tar.gz, a TF-Slim
    checkpoint (its prefix, one of its files, its folder or archive), a Keras file. What has to be
    unpacked or converted is kept in the cache by its content. An .onnx, a .tflite and an OpenVINO .xml
    come back as they are. A name goes before a path: ./imagenet-mobile is the path.

    Raises ModelError when there is no such thing or it isn't recognised; download.DownloadError
    and CacheError when it can't be fetched or kept.
    """
    if model is None:
        return builtin_folder()
    given = os.fspath(model)
    if given in PUBLISHED:
        from nasnet_cli.models.hub.fetch import fetch_published

        return fetch_published(PUBLISHED[given], listener)
    if scheme := _ADDRESS.match(given):
        return _address(given, scheme[1].lower(), listener)
    try:
        found = detect(Path(given))
        if found is None and Path(given).exists():
            raise unrecognized(Path(given), given)
    except OSError as error:
        raise ModelError(
            f"{given} can't be read: {error.strerror}.", "Check the permissions."
        ) from None
    if found is None:
        raise _unknown(given)
    return _local(found, given, listener)


def builtin_folder() -> Path:
    """Return the folder of the built-in model. Raises ModelError when the package lacks it."""
    folder = Path(__file__).parents[1] / "builtin_model"
    if not (folder / "saved_model.pb").is_file():
        raise ModelError(
            "The built-in model is missing from this installation.",
            "Install nasnet-cli again, or name another model with --model.",
        )
    return folder


def _address(given: str, scheme: str, listener: ProgressListener) -> Path:
    if scheme not in ("https", "http"):
        raise ModelError(
            f"{given} can't be fetched: models come over https://.",
            "Copy it to this machine, and name its path.",
        )
    from nasnet_cli.models.hub.fetch import fetch_handle

    return fetch_handle(given, listener)


def _local(found: DetectedModel, given: str, listener: ProgressListener) -> Path:
    if found.kind == "saved-model" or found.kind in RUNTIME_FILES:
        return found.path
    from nasnet_cli.models.build import cached_module

    return cached_module(found, given, listener)


def _unknown(given: str) -> ModelError:
    names = ", ".join(PUBLISHED)
    remedy = f"The published models are called {names}; all else is a path or an https:// handle."
    if like := difflib.get_close_matches(given.lower(), PUBLISHED, n=1):
        remedy = f"Did you mean {like[0]}? {remedy}"
    return ModelError(f"There is no model {given!r}: no such name, file or folder.", remedy)
