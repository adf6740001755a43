"""Classify and embed folders of images with NASNet-A, offline, on a CPU.

from nasnet_cli import load_model

model = load_model()
for record in model.classify("photos", top=5):
    print(record.path, record.predictions or record.error)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nasnet_cli.errors import InputError, NasnetError
    from nasnet_cli.labels import Label
    from nasnet_cli.model import Model, load_model
    from nasnet_cli.results.records import Classified, Embedded, Everyday, Failure, Prediction

__version__ = "0.2.0"

# Where each public name is from: they are imported when they are asked for, so that the command
# line, which is in this package too, starts at once.
_PUBLIC = {
    "Classified": "nasnet_cli.results.records",
    "Embedded": "nasnet_cli.results.records",
    "Everyday": "nasnet_cli.results.records",
    "Failure": "nasnet_cli.results.records",
    "InputError": "nasnet_cli.errors",
    "Label": "nasnet_cli.labels",
    "Model": "nasnet_cli.model",
    "NasnetError": "nasnet_cli.errors",
    "Prediction": "nasnet_cli.results.records",
    "load_model": "nasnet_cli.model",
}

__all__ = [
    "Classified",
    "Embedded",
    "Everyday",
    "Failure",
    "InputError",
    "Label",
    "Model",
    "NasnetError",
    "Prediction",
    "load_model",
]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
