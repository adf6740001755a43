"""SIGINT, SIGTERM and SIGHUP end a run within two seconds, whatever it waits for.

The first one raises Interruption in the main thread, which unwinds as from any error: finished rows
are kept, unfinished files removed. The main thread may not get that far (it, or a lock that it
needs, is in a decoder or a model that never returns), so another thread, woken by the C handler,
ends the process a moment later: it takes the last steps of interruption.py itself. Later signals
change nothing.

Python must never take itself apart then: native threads go on running. The process ends by _exit.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import NoReturn

from nasnet_cli import interruption
from nasnet_cli.cli import exits

STATUS = {
    signal.SIGINT: exits.INTERRUPTED,
    signal.SIGTERM: exits.TERMINATED,
}
if hasattr(signal, "SIGHUP"):  # not on Windows
    STATUS[signal.SIGHUP] = exits.HUNG_UP

# For the main thread to unwind, and then for the last steps: together less than two seconds.
_UNWINDING_SECONDS, _LAST_STEPS_SECONDS = 1.0, 0.5


class Interruption(BaseException):
    """A signal has come. Not a KeyboardInterrupt, which libraries catch for purposes of their own."""


_first: int | None = None
_is_caught = _is_running = False


def catch() -> None:
    """Handle the signals from now on; outside of run_to_end, one ends the process at once.

    A signal that is ignored stays ignored: nohup and shells' background jobs rely on it. Only for
    the main thread of a process that is nasnet's own.
    """
    global _is_caught
    if _is_caught:
        return
    _is_caught = True
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    for number in STATUS:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _handle)
    threading.Thread(target=_watch, args=(reading,), name="signals", daemon=True).start()


def run_to_end(work: Callable[[], int]) -> int:
    """Return the exit status of work, or that of the signal that has ended it."""
    global _is_running
    try:
        _is_running = True
        status = work()
        _is_running = False
    except BaseException:
        # Whatever an unwinding part raised instead, for instance because the terminal has gone.
        if _first is None:
            raise
        # Here, while the exception holds the frames that it came through: closing their generators
        # may wait for the very thread that hangs.
        _end()
    if _first is not None:
        _end()
    return status


def _handle(number: int, _: FrameType | None) -> None:
    global _first
    if _first is not None:
        return
    _first = number
    interruption.begin()
    # An Interruption that comes up in a destructor or a callback is dropped: the thread that
    # watches ends the process then, and Python must not print it.
    sys.unraisablehook = lambda _: None
    if not _is_running:
        os._exit(STATUS[signal.Signals(number)])
    raise Interruption


def _watch(reading: int) -> None:
    """End the process a moment after the first signal, unless the main thread has ended it."""
    while (byte := os.read(reading, 1)) and byte[0] not in STATUS:
        pass
    global _first
    number = _first or byte[0]
    threading.Event().wait(_UNWINDING_SECONDS)
    last = threading.Thread(target=_finish, args=(number,), daemon=True)
    last.start()
    last.join(_LAST_STEPS_SECONDS)
    os._exit(STATUS[signal.Signals(number)])


def _end() -> NoReturn:
    """End the process after the main thread has unwound."""
    assert _first is not None
    _finish(_first)
    os._exit(STATUS[signal.Signals(_first)])


def _finish(number: int) -> None:
    interruption.take_last_steps()
    with suppress(OSError, ValueError):  # their readers may have gone
        sys.stdout.flush()
        if number == signal.SIGINT:
            print("Interrupted.", file=sys.stderr)
        sys.stderr.flush()
