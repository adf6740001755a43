"""Linux, with what macOS or Windows lack hidden from nasnet, and from nothing else.

`make test-portable` sets NASNET_TESTS_AS to one of the two, and this folder on PYTHONPATH: Python
imports this at its start, in processes that tests start too. Libraries and tests keep all calls, as
they have ways of their own around them.
"""

from __future__ import annotations

import builtins
import os
import sys
import types
from collections.abc import Sequence

# What Windows lacks. os.link, os.symlink and os.fsync are there.
MODULES = ("fcntl", "resource", "termios", "pwd", "grp", "pty", "tty")
CALLS = {
    "os": [
        "O_CLOEXEC",
        "O_DIRECTORY",
        "O_NOCTTY",
        "O_NOFOLLOW",
        "O_NONBLOCK",
        "fchmod",
        "fork",
        "geteuid",
        "getuid",
        "getpgid",
        "killpg",
        "memfd_create",
        "mkfifo",
        "posix_fadvise",
        "pread",
        "preadv",
        "pwrite",
        "sched_getaffinity",
        "setsid",
        "statvfs",
    ],
    "signal": ["SIGHUP", "SIGKILL", "SIGUSR1", "pthread_sigmask", "sigwait", "setitimer"],
    "socket": ["AF_UNIX", "send_fds", "recv_fds"],
}
# Of these, what macOS lacks. Its C library has no prctl and no mallopt.
NOT_ON_MACOS = ("memfd_create", "posix_fadvise", "sched_getaffinity")


class Without:
    """A module without some of its names; all else, also what is set, is the module's own."""

    __slots__ = ("_module", "_names")

    def __init__(self, module: types.ModuleType, names: Sequence[str]) -> None:
        object.__setattr__(self, "_module", module)
        object.__setattr__(self, "_names", names)

    @property
    def __dict__(self) -> dict[str, object]:  # monkeypatch looks there for what to restore
        return vars(self._module)

    def __getattr__(self, name: str) -> object:
        if name in self._names:
            raise AttributeError(f"module {self._module.__name__!r} has no attribute {name!r}")
        return getattr(self._module, name)

    def __setattr__(self, name: str, value: object) -> None:
        setattr(self._module, name, value)

    def __delattr__(self, name: str) -> None:
        delattr(self._module, name)


def hide(system: str) -> None:
    """Hide from modules of nasnet what Linux has and the system, windows or macos, has not."""
    real = builtins.__import__
    hidden = CALLS if system == "windows" else {"os": NOT_ON_MACOS}

    def without(name, globals=None, *more, **named):
        module = real(name, globals, *more, **named)
        if not (globals or {}).get("__name__", "").startswith("nasnet_cli"):
            return module
        if system == "windows" and name in MODULES:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        if name == "ctypes":
            return types.SimpleNamespace(**{**vars(module), "CDLL": library})
        return Without(module, hidden[name]) if name in hidden else module

    def library(name, *more, **settings):
        import ctypes

        if name is not None:
            return ctypes.CDLL(name, *more, **settings)
        if system == "windows":
            raise TypeError("expected a name")
        return object()

    builtins.__import__ = without


if (chosen := os.environ.get("NASNET_TESTS_AS")) and "nasnet_cli" not in sys.modules:
    assert chosen in ("windows", "macos"), chosen
    hide(chosen)
