"""The model that comes with the package."""

from __future__ import annotations

from pathlib import Path

from nasnet_cli.errors import ModelError


def folder() -> Path:
    """The built-in module's folder. Raises ModelError when the package lacks it."""
    found = Path(__file__).parent / "builtin_model"
    if not (found / "saved_model.pb").is_file():
        raise ModelError(
            "The built-in model is missing from this installation.",
            "Install nasnet-cli again, or name another model with --model.",
        )
    return found
