"""Everything that makes the command line start and end fast, each with its reason.

The other half is in the modules themselves: they import NumPy, OpenVINO, SQLite and the like in the
functions that need them, because imports are most of a short run. tests/test_imports.py holds that.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import os
import sys
from typing import NoReturn

_GARBAGE_THRESHOLD = 50_000
_COLUMNS = 80

kept: list[object] = []


def relax_garbage_collection() -> None:
    """Collect garbage less often.

    Imported modules stay. Searching them again and again takes a tenth of a short run. Call it
    before they are imported.
    """
    gc.set_threshold(_GARBAGE_THRESHOLD, 20, 20)


def limit_blas_threads() -> None:
    """Give NumPy's matrix products one thread, unless the user says otherwise.

    Its threads wait busily and take processor time from decoding; a job has no products to speak
    of. Call it before NumPy is imported.
    """
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


def terminal_columns() -> int:
    """Return the width of the terminal as shutil.get_terminal_size finds it.

    shutil imports three compressors, which takes a twentieth of `nasnet --help`.
    """
    with contextlib.suppress(KeyError, ValueError):
        if (columns := int(os.environ["COLUMNS"])) > 0:
            return columns
    with contextlib.suppress(AttributeError, ValueError, OSError):  # not a terminal, or closed
        return os.get_terminal_size(sys.__stdout__.fileno()).columns or _COLUMNS  # type: ignore[union-attr]
    return _COLUMNS


def keep_until_exit(resource: object) -> None:
    """Keep a model alive until the process ends.

    Releasing it takes a tenth of a short run, and exiting does not need it.
    """
    kept.append(resource)


def exit_now(status: int) -> NoReturn:
    """Exit without releasing memory piece by piece, which takes a tenth of a second."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # its reader may have gone
            stream.flush()
    atexit._run_exitfuncs()
    os._exit(status)
