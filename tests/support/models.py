"""Models as tests open them: by their path, whatever the format."""

from __future__ import annotations

import os
from pathlib import Path

from nasnet_cli.models.detect import identify
from nasnet_cli.models.formats.base import Network
from nasnet_cli.models.formats.saved_model import OpenedSavedModel, SavedModel
from nasnet_cli.models.formats.tf1_hub import TF1Hub
from nasnet_cli.models.listener import SILENT, ProgressListener
from nasnet_cli.models.resolve import resolve


def load_network(path: Path) -> Network:
    """Read the network with its weights from a model of any format."""
    detected = identify(path, str(path))
    return detected.format.read_network(detected.path)


def open_saved_model(folder: Path) -> OpenedSavedModel:
    """Open a module's folder, TF1 Hub or TF2."""
    return (TF1Hub() if TF1Hub().detect(folder, None) else SavedModel()).open(folder)


def resolve_path(model: str | os.PathLike[str] | None, listener: ProgressListener = SILENT) -> Path:
    """Return the path of the model of that name, handle or path."""
    return resolve(model, listener).path
