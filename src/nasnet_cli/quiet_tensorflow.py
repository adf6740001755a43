"""TensorFlow without its log lines: `from nasnet_cli.quiet_tensorflow import tf`.

Users asked for a result, not for TensorFlow's views on their processor. Its C++ side writes a few
lines to file descriptor 2 while it is imported, before any setting of its own can stop it.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def _standard_error_closed() -> Iterator[None]:
    kept = os.dup(2)
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(null)
        os.close(kept)


os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
with _standard_error_closed(), warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import tensorflow as tf
tf.get_logger().setLevel("ERROR")

__all__ = ["tf"]
