"""Plan which files a folder gets, under which names, and what an earlier run has left to do."""

from __future__ import annotations

import functools
import os
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from nasnet_cli.albums.contents import is_file
from nasnet_cli.albums.paths import exists
from nasnet_cli.albums.sidecar_names import Stems, full_name, stem_name
from nasnet_cli.albums.transfers import is_done
from nasnet_cli.albums.undo_list import Action, Transfer
from nasnet_cli.images.source import is_remote

NOT_FOUND, SYMBOLIC_LINK = "not found", "symbolic link"
IN_ARCHIVE, REMOTE = "in an archive", "remote"


@dataclass
class Plan:
    """The transfers to carry out, in order.

    sidecars has the transfers of XMP sidecars, each with its image's. present counts the files that
    the folder has got before; skipped has the reason for each source that is left where it is.
    """

    transfers: list[Transfer] = field(default_factory=list)
    sidecars: dict[Transfer, Transfer] = field(default_factory=dict)
    present: int = 0
    skipped: dict[str, str] = field(default_factory=dict)

    def all(self) -> Iterator[Transfer]:
        """Yield all transfers, images before their sidecars."""
        yield from self.transfers
        yield from self.sidecars

    def image_of(self, transfer: Transfer) -> Transfer | None:
        """Return the transfer of a sidecar's image; None for an image."""
        return self.sidecars.get(transfer)


class Planner:
    """A plan in the making, for a folder that has got known transfers.

    unfinished has those of an interrupted run that are not in the plan.
    """

    def __init__(self, folder: str, known: Sequence[Transfer], action: Action) -> None:
        self.plan = Plan()
        self._folder = folder
        self._action = action
        self._known = {_key(transfer): transfer for transfer in known}
        self.unfinished = {transfer for transfer in known if self._is_unfinished(transfer)}
        self._names = _Names(folder, (transfer.destination for transfer in known))
        self._stems = Stems()
        self._seen: set[tuple[str, ...]] = set()
        self._real = functools.cache(os.path.realpath)

    def add(self, source: str, destination: str) -> None:
        """Add a source, seen from the current folder, to the plan; a second time changes nothing."""
        # What is no file on a disk can only be copied.
        action = self._action if self._action == "move" or is_file(source) else "copy"
        transfer = Transfer(action, self._absolute(source), destination)
        if _key(transfer) in self._seen:
            return
        self._seen.add(_key(transfer))
        found = list(self._stems.sidecars(source)) if is_file(source) else []
        before = self._before(transfer)
        if before is not None and before in self.unfinished:
            self.unfinished.discard(before)
            self.plan.transfers.append(before)
        elif before is not None:
            self.plan.present += 1
        elif os.path.lexists(source) and self._is_in_place(source, transfer):
            self.plan.present += 1
            return
        elif problem := self._problem(source):
            self.plan.skipped[source] = problem
            return
        else:
            endings = [(suffix, is_full) for _, suffix, is_full in found]
            before = transfer._replace(destination=self._names.free(destination, endings))
            self.plan.transfers.append(before)
        for sidecar, suffix, is_full in found:
            self._add_sidecar(before, sidecar, _sidecar(before.destination, suffix, is_full))

    def _add_sidecar(self, image: Transfer, source: str, destination: str) -> None:
        """Add an image's sidecar, beside it; not where another file has that name."""
        transfer = Transfer(image.action, self._absolute(source), destination)
        before = self._before(transfer)
        if before is not None and before in self.unfinished:
            self.unfinished.discard(before)
            self.plan.sidecars[before] = image
        elif before is None and not self._problem(source) and not self._is_taken(transfer):
            self.plan.sidecars[transfer] = image

    def _before(self, transfer: Transfer) -> Transfer | None:
        """Return the transfer of this source that is known, unless another file has come since."""
        before = self._known.get(_key(transfer))
        if before is None or before in self.unfinished:
            return before
        is_back = before.action == "move" and os.path.lexists(before.source)
        return before if os.path.lexists(self._target(before)) and not is_back else None

    def _is_unfinished(self, transfer: Transfer) -> bool:
        return exists(transfer.source) and not is_done(transfer, self._target(transfer))

    def _is_taken(self, transfer: Transfer) -> bool:
        return os.path.lexists(self._target(transfer))

    def _is_in_place(self, source: str, transfer: Transfer) -> bool:
        return os.path.realpath(source) == os.path.realpath(self._target(transfer))

    def _target(self, transfer: Transfer) -> str:
        return os.path.join(self._folder, transfer.destination)

    def _absolute(self, source: str) -> str:
        if is_remote(source):
            return source
        folder, name = os.path.split(source)
        return os.path.join(self._real(folder), name)

    def _problem(self, source: str) -> str | None:
        if not is_file(source):
            if self._action != "move":
                return None
            return REMOTE if is_remote(source) else IN_ARCHIVE
        if not os.path.exists(source):
            return NOT_FOUND
        # Elsewhere, a link would lead nowhere.
        return SYMBOLIC_LINK if self._action == "move" and os.path.islink(source) else None


class _Names:
    """Names in a folder that are taken: by its files, and by those that it will get.

    Names that differ only in case are one, as they are on the disks of cameras and of macOS.
    """

    def __init__(self, folder: str, taken: Iterable[str]) -> None:
        self._folder = folder
        self._taken = {_folded(name) for name in taken}
        self._numbers: dict[str, int] = {}

    def free(self, name: str, endings: Sequence[tuple[str, bool]] = ()) -> str:
        """Return name, or else name with the lowest free number, and take it.

        Those of its sidecars, with endings, are free too, and taken.
        """
        stem, suffix = os.path.splitext(name)
        candidate, number = name, self._numbers.get(_folded(name), 1)
        while True:
            wanted = [candidate, *(_sidecar(candidate, *ending) for ending in endings)]
            if not any(_folded(one) in self._taken or self._exists(one) for one in wanted):
                break
            number += 1
            candidate = f"{stem} ({number}){suffix}"
        self._numbers[_folded(name)] = number
        self._taken.update(map(_folded, wanted))
        return candidate

    def _exists(self, name: str) -> bool:
        return os.path.lexists(os.path.join(self._folder, name))


def _sidecar(image: str, suffix: str, is_full: bool) -> str:
    return full_name(image, suffix) if is_full else stem_name(image, suffix)


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def _key(transfer: Transfer) -> tuple[str, ...]:
    """Return what tells a transfer from others: a file can be copied to many folders."""
    action, source, destination = transfer
    return (action, source) if action == "move" else (action, source, os.path.dirname(destination))
