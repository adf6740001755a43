"""Roles of the images in a group of near-duplicates: which of them stay, which are too many."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from nasnet_cli.albums.paths import Base
from nasnet_cli.errors import InputError
from nasnet_cli.images.source import is_remote, member_of, open_regular
from nasnet_cli.results.neighbours import Group, Member, Role
from nasnet_cli.similarity.index import Index
from nasnet_cli.similarity.numbers import Rows

Keep = Literal["largest", "oldest", "first"]


@dataclass(frozen=True)
class Rules:
    """The rules by which images of a group stay.

    keep says which of several copies stays: the one of most pixels (then bytes), the one that was
    modified first, or the first. Images below the folders references always stay. With
    across_folders, images of the same folder are no duplicates of each other. left_out is a folder
    whose images are not looked at. A file that was modified after made, in nanoseconds, is another
    one than the vector is of.
    """

    keep: Keep
    references: tuple[str, ...]
    across_folders: bool
    made: int
    left_out: str | None = None


@dataclass(frozen=True, slots=True)
class _Image:
    """An image of a group as it is now.

    name is its path in the results, path the same as seen from here, folder that of the path with
    all links resolved. status is None for what is no file. fixed is a role that the image has, or
    has instead of duplicate, whatever else is in the group.
    """

    row: int
    name: str
    path: str
    folder: str
    status: os.stat_result | None = None
    is_link: bool = False
    is_reference: bool = False
    fixed: Role | None = None

    @property
    def is_out(self) -> bool:
        """True for an image that has no part in the choice."""
        return self.fixed in ("missing", "changed")


class Duplicates:
    """Groups of similar rows as groups of images with roles, as the rules decide.

    left_out counts the images that were found in the folder to leave out.
    Every duplicate is itself at least as similar to one that stays as the threshold says: the ends
    of a chain of similar images are not taken for copies of each other.
    """

    def __init__(self, index: Index, base: Base, rules: Rules, threshold: float) -> None:
        self._index, self._base, self._threshold = index, base, threshold
        self._rules = rules
        self._references = tuple(map(inside, rules.references))
        self._left_out = None if rules.left_out is None else inside(rules.left_out)
        self.left_out = 0
        self._folders: dict[str, str] = {}

    def groups(self, groups: Iterable[Rows]) -> Iterator[Group]:
        """Yield groups with roles, numbered from 1.

        Those that left_out and across_folders leave without a pair are dropped.
        """
        number = 0
        for rows in groups:
            images = self._images(rows.tolist())
            folders = {image.folder for image in images}
            if len(images) > 1 and not (self._rules.across_folders and len(folders) == 1):
                number += 1
                yield Group(number, tuple(self._members(images)))

    def _images(self, rows: list[int]) -> list[_Image]:
        """Return the images of a group in the order of their rows."""
        images = [
            self._look_at(row, path)
            for row, path in zip(rows, self._index.paths(rows), strict=True)
        ]
        left_out = self._left_out
        if left_out is None:
            return images
        kept = [
            image for image in images if not os.path.join(image.folder, "").startswith(left_out)
        ]
        self.left_out += len(images) - len(kept)
        return kept

    def _look_at(self, row: int, name: str) -> _Image:
        path = self._base.locate(name)
        folder = os.path.dirname(path)
        if is_remote(path):
            return _Image(row, name, path, folder, fixed="remote")
        try:
            status, is_link = os.stat(path), stat.S_ISLNK(os.lstat(path).st_mode)
        except (OSError, ValueError):
            return _Image(row, name, path, folder, fixed=_without_file(path))
        folder = self._real(folder)
        # A link is what it leads to.
        real = os.path.realpath(path) if is_link else os.path.join(folder, os.path.basename(path))
        return _Image(
            row,
            name,
            path,
            folder,
            status,
            is_link,
            real.startswith(self._references),
            "changed" if status.st_mtime_ns > self._rules.made else None,
        )

    def _real(self, folder: str) -> str:
        """Return a folder's path with all links resolved, which takes many system calls, once."""
        if folder not in self._folders:
            self._folders[folder] = os.path.realpath(folder)
        return self._folders[folder]

    def _members(self, images: Sequence[_Image]) -> Iterator[Member]:
        links = _links(images)
        remaining = [i for i in images if i.row not in links and not i.is_out]
        remaining.sort(key=self._preference(remaining))
        lead = remaining[0].row if remaining else images[0].row
        roles: dict[int, tuple[Role, int | None]] = {}
        while remaining:
            kept, *remaining = remaining
            roles[kept.row] = ("reference" if kept.is_reference else "keep", None)
            copies = self._copies(kept, remaining)
            roles |= {i.row: (i.fixed or "duplicate", kept.row) for i in copies}
            remaining = [image for image in remaining if image.row not in roles]
        roles |= {row: ("link", of) for row, of in links.items()}
        roles |= {i.row: (i.fixed, None) for i in images if i.row not in roles and i.fixed}
        cosines = self._cosines({row: lead if of is None else of for row, (_, of) in roles.items()})
        for image in images:
            role, of = roles[image.row]
            yield Member(image.row, image.name, cosines[image.row], role, of)

    def _cosines(self, targets: Mapping[int, int]) -> dict[int, float]:
        """Return the cosine of each row with its target."""
        rows_of: dict[int, list[int]] = {}
        for row, target in targets.items():
            rows_of.setdefault(target, []).append(row)
        cosines: dict[int, float] = {}
        for target, rows in rows_of.items():
            found = self._index.cosines(np.array(rows), target).tolist()
            cosines |= zip(rows, found, strict=True)
        return cosines

    def _copies(self, kept: _Image, others: Sequence[_Image]) -> list[_Image]:
        """Return the others that are copies of an image that stays."""
        candidates = [
            image
            for image in others
            if not image.is_reference
            and not (self._rules.across_folders and image.folder == kept.folder)
        ]
        rows = np.array([image.row for image in candidates], np.intp)
        near = self._index.cosines(rows, kept.row) >= self._threshold
        return [candidates[i] for i in np.flatnonzero(near)]

    def _preference(self, images: Sequence[_Image]) -> Callable[[_Image], tuple[float, ...]]:
        """Return the key that sorts images so that the one to keep comes first."""
        keep = self._rules.keep
        has_choice = len(images) > 1

        def key(image: _Image) -> tuple[float, ...]:
            status = image.status
            if keep == "first" or not has_choice:
                return (not image.is_reference, image.row)
            if status is None:
                return (not image.is_reference, True, image.row)
            if keep == "oldest":
                order: tuple[float, ...] = (status.st_mtime_ns,)
            else:
                order = (-_pixels(image.path), -status.st_size)
            return (not image.is_reference, False, *order, image.row)

        return key


def inside(folder: str) -> str:
    """Return the beginning of the real paths of what is in a folder."""
    return os.path.join(os.path.realpath(folder), "")


def _without_file(path: str) -> Role:
    member = None if os.path.lexists(path) else member_of(path)
    return "missing" if member is None else "archived"


def _links(images: Sequence[_Image]) -> dict[int, int | None]:
    """Return the rows that are links, each with the row of the file that it is, if there is one.

    Of several names of a file the first is the file, but one below a reference before others, and a
    hard link before a symbolic one.
    """
    names: dict[tuple[int, int], list[_Image]] = {}
    for image in images:
        if image.status is not None:
            names.setdefault((image.status.st_dev, image.status.st_ino), []).append(image)
    links: dict[int, int | None] = {}
    for same in names.values():
        file = min(same, key=lambda image: (image.is_link, not image.is_reference, image.row))
        for image in same:
            if image.is_link or image is not file:
                links[image.row] = None if image is file or file.is_link else file.row
    return links


def _pixels(path: str) -> int:
    """Return an image's number of pixels, 0 where its header cannot be read."""
    from nasnet_cli.images.decode import read_size

    try:
        with open_regular(path) as stream:
            width, height = read_size(stream)
    except InputError:
        return 0
    return width * height


def copies(groups: Iterable[Group]) -> Iterator[tuple[str, str]]:
    """Yield the path of each duplicate in groups, and of the image that stays for it."""
    for group in groups:
        paths = {member.row: member.path for member in group.members}
        for member in group.members:
            if member.role == "duplicate" and member.of is not None:
                yield member.path, paths[member.of]


def destination(path: str) -> str:
    """Return the place of a moved image below its new folder: its path, without what leads up."""
    parts = os.path.splitdrive(os.path.normpath(path))[1].split(os.sep)
    return os.sep.join(part for part in parts if part not in ("", os.pardir))
