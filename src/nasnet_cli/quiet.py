"""OpenVINO, TensorFlow, tensorflow-hub and Keras without their chatter, imported when first used.

    from nasnet_cli.quiet import openvino, tf

Users asked for a result, not for a library's log lines. What a package needs to be quiet must be
set before it is imported, so that nothing else in this program imports these packages.
"""

from __future__ import annotations

import importlib
import logging
import os
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from nasnet_cli.errors import ModelError

_OPENVINO_CONVERTER = "openvino.tools.ovc"
_lock = threading.RLock()


def __getattr__(name: str) -> Any:
    """Import a package. Raises ModelError, with what to install, when it is missing."""
    if name not in _IMPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    with _lock:
        if name not in globals():
            globals()[name] = _IMPORTS[name]()
    return globals()[name]


@contextmanager
def silence() -> Iterator[None]:
    """Discard what is written to standard output and standard error, also by C++.

    TensorFlow's converters and savers write to the file descriptors, past Python. Errors are raised
    as usual. Not for use while other threads print.
    """
    level = logging.root.manager.disable
    with _discarded(1, 2, *_own_descriptor()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.disable(logging.CRITICAL)
        try:
            yield
        finally:
            logging.disable(level)


@contextmanager
def silence_errors() -> Iterator[None]:
    """Discard what is written to standard error, for a moment, and Python's warnings."""
    with _discarded(2), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _own_descriptor() -> Iterator[int]:
    """Yield the descriptor of Python's standard error where that has one of its own (streams.py)."""
    with suppress(OSError):  # a test's stream has none
        if (descriptor := sys.stderr.fileno()) != 2:
            yield descriptor


@contextmanager
def _discarded(*descriptors: int) -> Iterator[None]:
    sys.stdout.flush()
    sys.stderr.flush()
    kept = [(descriptor, os.dup(descriptor)) for descriptor in descriptors]
    null = os.open(os.devnull, os.O_WRONLY)
    try:
        for descriptor in descriptors:
            os.dup2(null, descriptor)
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for descriptor, copy in kept:
            os.dup2(copy, descriptor)
            os.close(copy)
        os.close(null)


def _openvino() -> Any:
    # Importing OpenVINO sends an event over the network and writes a file into the home folder,
    # unless its telemetry package cannot be imported.
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
    # Its converter, which we don't use, takes as long to import as all the rest.
    is_loaded = _OPENVINO_CONVERTER in sys.modules
    if not is_loaded:
        sys.modules[_OPENVINO_CONVERTER] = None  # type: ignore[assignment]
    try:
        return importlib.import_module("openvino")
    finally:
        if not is_loaded:
            del sys.modules[_OPENVINO_CONVERTER]


def _tensorflow() -> Any:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    # Its C++ side writes to file descriptor 2 before any setting of its own can stop it.
    tf = _needed("tensorflow")
    tf.get_logger().setLevel("ERROR")
    return tf


def _needed(package: str) -> Any:
    """Import a package that is TensorFlow or needs it."""
    try:
        with _discarded(2), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return importlib.import_module(package)
    except ModuleNotFoundError as error:
        name = (error.name or package).replace("_", "-")
        raise ModelError(
            f"This needs the package {name}, which is not installed.",
            "Install it with: pip install tensorflow tensorflow-hub.",
        ) from error


class _LiteRT:
    """TensorFlow Lite's interpreter, from its own package or, where that is missing, TensorFlow."""

    def __init__(self) -> None:
        try:
            with _discarded(2):
                package = importlib.import_module("ai_edge_litert.interpreter")
            from importlib.metadata import version

            self.VERSION = version("ai-edge-litert")
        except ImportError:
            tf = __getattr__("tf")
            package, self.VERSION = tf.lite, f"TensorFlow {tf.__version__}"
        self.Interpreter = package.Interpreter


def _after_tensorflow(package: str) -> Callable[[], Any]:
    def load() -> Any:
        __getattr__("tf")
        return _needed(package)

    return load


_IMPORTS: dict[str, Callable[[], Any]] = {
    "openvino": _openvino,
    "tf": _tensorflow,
    "litert": _LiteRT,
    "hub": _after_tensorflow("tensorflow_hub"),
    "keras": _after_tensorflow("keras"),
}
