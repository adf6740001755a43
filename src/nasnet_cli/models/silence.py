"""Keeps the chatter of other people's libraries off the terminal."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def silence() -> Iterator[None]:
    """What is written to standard output and standard error goes nowhere, C++ included.

    TensorFlow's converters and savers write to the file descriptors past Python. Errors are raised
    as ever. Not for use while other threads print.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    kept = [(descriptor, os.dup(descriptor)) for descriptor in (1, 2)]
    null = os.open(os.devnull, os.O_WRONLY)
    level = logging.root.manager.disable
    try:
        for descriptor, _ in kept:
            os.dup2(null, descriptor)
        logging.disable(logging.CRITICAL)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        logging.disable(level)
        for descriptor, copy in kept:
            os.dup2(copy, descriptor)
            os.close(copy)
        os.close(null)
