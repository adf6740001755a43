"""Kaggle's copies of the hub's models, through kagglehub, which knows the user's login.

kagglehub comes with the extra [kaggle] and is imported when it is needed. Its errors are of many
kinds: its own and those of the libraries below it.
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

_INSTALL = "pip install 'nasnet-cli[kaggle]'"
_LOGIN = "Create an API token in your Kaggle account's settings and set KAGGLE_API_TOKEN to it."
_DAMAGED = ("the download was cut off or changed on the way", "Run again.")
# Reason and remedy by the names of exceptions, as requests has some of the same names as others.
_REASONS = {
    "ChunkedEncodingError": _DAMAGED,
    "DataCorruptionError": _DAMAGED,
    "ConnectionError": ("there is no connection to Kaggle", "Check the network."),
    "Timeout": ("Kaggle does not answer", "Try again later."),
}


def download(handle: str, listener: ProgressListener) -> Path:
    """Return the folder, in kagglehub's own cache, of the model that a handle stands for.

    handle is OWNER/MODEL/FRAMEWORK/VARIATION/VERSION. Raises DownloadError when it cannot be
    fetched, ModelError when it is not a SavedModel.
    """
    if importlib.util.find_spec("kagglehub") is None:
        raise DownloadError(handle, f"it needs {_INSTALL}", f"Run {_INSTALL}.")
    folder = _download(handle)
    try:
        read_saved_model(folder)
        return folder
    except ModelError as error:
        listener.note(f"kagglehub's copy of {handle} is damaged ({error.problem}); fetching again.")
    folder = _download(handle, force_download=True)
    read_saved_model(folder)
    return folder


def _download(handle: str, **options: bool) -> Path:
    try:
        with silence():  # kagglehub's own progress bar ignores -q
            kagglehub = importlib.import_module("kagglehub")
            return Path(kagglehub.model_download(handle, **options))
    except Exception as error:
        raise _download_error(handle, error) from error


def _download_error(handle: str, error: Exception) -> DownloadError:
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status in (401, 403):
        return DownloadError(handle, f"the server denies access (HTTP {status})", _LOGIN)
    if status == 404:
        return DownloadError(handle, "there is no such model (HTTP 404)", "Check the handle.")
    if status is not None:
        return DownloadError(handle, f"the server answered HTTP {status}", "Try again later.")
    for name, (reason, remedy) in _REASONS.items():
        if any(kind.__name__ == name for kind in type(error).__mro__):
            return DownloadError(handle, reason, remedy, unreachable=name == "ConnectionError")
    return DownloadError(handle, f"kagglehub: {describe_error(error)}", "Check the handle.")
