"""Copy, link or move many files into a folder, in a way that can be interrupted and taken back.

A run plans its transfers, writes them to the folder's undo list and carries them out. After a
kill, the same plan goes on, or undo takes back what was done. Nothing is ever overwritten.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from nasnet_cli import cache
from nasnet_cli.albums.contents import Contents
from nasnet_cli.albums.planning import Plan, Planner
from nasnet_cli.albums.transfers import carry_out, check_confined, take_back
from nasnet_cli.albums.undo_list import Action, Transfer, UndoList
from nasnet_cli.atomic import leftovers
from nasnet_cli.errors import NasnetError, OutputError
from nasnet_cli.results.atomic import in_words
from nasnet_cli.results.text import counted
from nasnet_cli.systems import locked_folder

# What ends a run: the next file would have the same error.
FATAL = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}


class Outcome(NamedTuple):
    """The end of a transfer, with the problem of one that could not be carried out or undone."""

    transfer: Transfer
    problem: str | None


@contextmanager
def open_album(folder: str | os.PathLike[str], *, create: bool = False) -> Iterator[Album]:
    """Open a folder that has got files or will get some, and let no other process do so.

    With create, a missing folder is created, and removed again if it stays empty. Raises
    NasnetError when it cannot be used, or another process uses it.
    """
    name = os.fspath(folder)
    if not name:
        raise NasnetError("The name of the folder is empty.", "Name a folder.")
    is_new = create and not os.path.lexists(name)
    lock = ExitStack()
    try:
        if create:
            os.makedirs(name, exist_ok=True)
        if os.path.lexists(name):
            lock.enter_context(locked_folder(name, cache.subfolder("locks")))
    except BlockingIOError:
        raise NasnetError(
            f"Another nasnet is working in {name}.", "Run this again when it has ended."
        ) from None
    except (NotADirectoryError, FileExistsError):
        raise NasnetError(f"{name} is not a folder.", "Name a folder.") from None
    except OSError as error:
        raise in_words(name, error) from error
    with lock:
        album = Album(name)
        try:
            if is_new:
                album.claim()
            yield album
        finally:
            album.remove_if_unused()


class Album:
    """A folder with its undo list. Use open_album."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._folder = os.path.realpath(name)
        self._list = UndoList(Path(self._folder))

    @property
    def count(self) -> int:
        """The number of files that undo would take back."""
        return sum(map(self._is_begun, self._list.transfers))

    def plan(self, action: Action, wanted: Iterable[tuple[str, str]]) -> Plan:
        """Plan to copy, link or move sources; writes nothing.

        wanted has pairs of a source, seen from the current folder, and of its destination below
        this folder, whose name gets a number where it is taken. Members of archives and URLs are
        copied rather than linked, and never moved. An image's XMP sidecars go with it. The same
        plan after an interrupted run goes on with it, and a source that has got its place is not
        moved again. Raises NasnetError when another run is unfinished.
        """
        planner = Planner(self._folder, self._list.transfers, action)
        for source, destination in wanted:
            planner.add(source, destination)
        if left := planner.unfinished:
            raise NasnetError(
                f"{self.name} holds an unfinished run of another command, with "
                f"{counted(len(left), 'file')} left.",
                f"Run that command again, or take it back with nasnet sort --undo {self.name}.",
            )
        return planner.plan

    def run(self, plan: Plan) -> Iterator[Outcome]:
        """Carry a plan out and yield what comes of each transfer, and of sidecars that stay behind.

        The undo list is on disk before the first. Raises NasnetError when the disk is full or
        read-only.
        """
        self._remove_leftovers()
        known = set(self._list.transfers)
        added = [transfer for transfer in plan.all() if transfer not in known]
        if added:
            self._list.created |= self._missing_folders(added)
            self._list.transfers += added
            self._list.write()
        failed: set[Transfer] = set()
        contents = Contents()
        for transfer in plan.all():
            image = plan.image_of(transfer)
            if image in failed:  # its sidecar stays with it
                failed.add(transfer)
                continue
            try:
                carry_out(transfer, self._target(transfer.destination), contents)
            except OSError as error:
                if error.errno in FATAL:
                    raise _fatal(error, self.name, transfer.source) from error
                failed.add(transfer)
                yield Outcome(transfer, _reason(error))
            else:
                if image is None:
                    yield Outcome(transfer, None)
        if failed:
            self._keep(lambda transfer: transfer not in failed)

    def undo(self) -> Iterator[Outcome]:
        """Take back all that the list has, the last first, and yield what comes of each transfer.

        What is there and cannot be taken back stays in the list. Raises NasnetError when there is
        no list.
        """
        self._remove_leftovers()
        if not self._list.exists:
            raise NasnetError(
                f"{self.name} has no undo list: nasnet has put nothing there, or has taken it back.",
                "Name the folder that --into or --move-to named.",
            )
        contents = Contents()
        for transfer in filter(self._is_begun, reversed(self._list.transfers)):
            target = self._target(transfer.destination)
            try:
                check_confined(transfer, self._folder, target)
                take_back(transfer, target, contents)
            except OSError as error:
                if error.errno in FATAL:
                    raise _fatal(error, transfer.source, target) from error
                yield Outcome(transfer, _reason(error))
            else:
                yield Outcome(transfer, None)
        self._keep(lambda transfer: os.path.lexists(self._target(transfer.destination)))

    def claim(self) -> None:
        """Note in the list that the folder was created: undo removes it, after a kill too."""
        self._list.created.add(".")
        self._list.write()

    def remove_if_unused(self) -> None:
        """Remove the folder and its list if they were created and it has got nothing."""
        if "." in self._list.created and not self._list.transfers:
            self._list.remove()
            self._remove_folder(".")

    def _keep(self, is_kept: Callable[[Transfer], bool]) -> None:
        """Drop the other transfers from the list, and folders that were created and are empty."""
        self._list.transfers = [transfer for transfer in self._list.transfers if is_kept(transfer)]
        if self._list.transfers:
            self._list.write()
        for name in sorted(self._list.created - {"."}, key=len, reverse=True):
            self._remove_folder(name)
        if not self._list.transfers:
            self._list.remove()

    def _remove_folder(self, name: str) -> None:
        with suppress(OSError):  # it holds other things
            os.rmdir(self._target(name))

    def _is_begun(self, transfer: Transfer) -> bool:
        """Return whether anything has been done of a transfer: an interrupted run has others."""
        is_there = os.path.lexists(self._target(transfer.destination))
        return is_there or (transfer.action == "move" and not os.path.lexists(transfer.source))

    def _target(self, destination: str) -> str:
        return os.path.normpath(os.path.join(self._folder, destination))

    def _missing_folders(self, transfers: Iterable[Transfer]) -> set[str]:
        missing = set()
        for folder in {os.path.dirname(transfer.destination) for transfer in transfers}:
            while folder and not os.path.lexists(self._target(folder)):
                missing.add(folder)
                folder = os.path.dirname(folder)
        return missing

    def _remove_leftovers(self) -> None:
        """Remove what a killed process has written in part, here or back to where it was."""
        written = [self._list.path]
        written += [Path(self._target(t.destination)) for t in self._list.transfers]
        written += [Path(t.source) for t in self._list.transfers if t.action == "move"]
        for path in leftovers(*written):
            path.unlink(missing_ok=True)


def _fatal(error: OSError, written: str, removed: str) -> OutputError:
    """Return the error for a full or read-only disk, of the file that it is about."""
    if error.errno == errno.EROFS and error.filename == removed:
        return OutputError(
            f"Cannot remove {removed}: the disk is read-only.",
            "Make it writable, or copy the files.",
        )
    return in_words(written, error)


def _reason(error: OSError) -> str:
    return error.strerror or str(error)
