"""Kaggle's copies of modules, through kagglehub, which knows the user's login.

kagglehub is not installed unless the extra [kaggle] is; it is imported when it is asked. Its errors
are of many kinds, its own and those of the libraries that it is made of.
"""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path

from nasnet_cli.errors import ModelError, describe_error
from nasnet_cli.models.hub.download import DownloadError
from nasnet_cli.models.listener import ProgressListener
from nasnet_cli.models.savedmodel.reader import read_saved_model
from nasnet_cli.quiet import silence

_LOGIN = "Make a token in your account's settings at Kaggle, put it into KAGGLE_API_TOKEN, and run again."


def download(handle: str, listener: ProgressListener) -> Path:
    """The folder, in kagglehub's own cache, of the module that a handle stands for.

    handle is OWNER/MODEL/FRAMEWORK/VARIATION/VERSION. Raises DownloadError when it can't be had,
    ModelError when it is no module.
    """
    if importlib.util.find_spec("kagglehub") is None:
        install = "pip install 'nasnet-cli[kaggle]'"
        raise DownloadError(handle, f"it needs the extra: {install}", f"Install it: {install}.")
    folder = _download(handle)
    try:
        read_saved_model(folder)
        return folder
    except ModelError as error:
        listener.note(f"kagglehub's copy of {handle} is broken ({error.problem}); fetched again.")
    folder = _download(handle, force_download=True)
    read_saved_model(folder)
    return folder


def _download(handle: str, **options: bool) -> Path:
    try:
        with silence():  # its own bar, which knows nothing of -q
            kagglehub = importlib.import_module("kagglehub")
            return Path(kagglehub.model_download(handle, **options))
    except Exception as error:
        raise _failed(handle, error) from error


def _failed(handle: str, error: Exception) -> DownloadError:
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status in (401, 403):
        return DownloadError(handle, f"it refuses to give it out (HTTP {status})", _LOGIN)
    if status == 404:
        return DownloadError(handle, "there is no such model (HTTP 404)", "Check the handle.")
    if status is not None:
        return DownloadError(handle, f"it answered HTTP {status}", "Try again later.")
    kinds = {kind.__name__ for kind in type(error).__mro__}
    if kinds & {"ChunkedEncodingError", "DataCorruptionError"}:
        reason = "what came was cut off or changed on the way"
        return DownloadError(handle, reason, "Run again.")
    if "ConnectionError" in kinds:
        reason = "there is no connection to Kaggle"
        return DownloadError(handle, reason, "Check the network.", unreachable=True)
    if "Timeout" in kinds:
        return DownloadError(handle, "Kaggle doesn't answer", "Try again later.")
    return DownloadError(handle, f"kagglehub says: {describe_error(error)}", "Check the handle.")
