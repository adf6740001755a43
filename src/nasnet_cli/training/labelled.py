"""Labelled images for training: folders of classes, the features of their images, their faults."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from nasnet_cli.errors import NasnetError
from nasnet_cli.evaluation.sources import ClassFolders, class_folders
from nasnet_cli.jobs.rows import Row
from nasnet_cli.labels import Label
from nasnet_cli.results.records import Failure
from nasnet_cli.results.text import counted, readable, shortened
from nasnet_cli.search import folded
from nasnet_cli.wordnet import load_hierarchy

FEW = 20
"""Images of a class below which a head is seldom good."""

_SHOWN = 5
_UNEQUAL = 3
_WNID_NAME = re.compile(r"(n[0-9]{8})(?:[\s_-]+(.+))?")


@dataclass(frozen=True)
class Folders:
    """The folders of classes to train on, and those to validate with, if they are of their own."""

    train: ClassFolders
    validation: ClassFolders | None

    @property
    def paths(self) -> tuple[str, ...]:
        """The folders of all classes, those of training first."""
        parts = [self.train] if self.validation is None else [self.train, self.validation]
        return tuple(part.path(name) for part in parts for name in part.names)

    @property
    def loose(self) -> int:
        """The number of images that lie beside the folders of classes."""
        return self.train.loose + (self.validation.loose if self.validation else 0)

    def place(self, path: str) -> tuple[int, bool]:
        """Return the number of an image's class, and whether it lies in the validation folder."""
        is_held = self.validation is not None and path.startswith(
            os.path.join(self.validation.folder, "")  # noqa: PTH118
        )
        part = self.validation if is_held and self.validation else self.train
        return self.train.names.index(part.name_of(path)), is_held

    @property
    def labels(self) -> tuple[Label, ...]:
        """The label of each class; a folder named by a WordNet id has its name in WordNet."""
        return tuple(map(_label, self.train.names))


def _label(name: str) -> Label:
    match = _WNID_NAME.fullmatch(name)
    if match is None:
        return Label("", readable(name))
    wnid, hierarchy = match[1], load_hierarchy()
    known = hierarchy[wnid].name if wnid in hierarchy else wnid
    return Label(wnid, readable((match[2] or known).replace("_", " ")))


def open_folders(folder: str, validation: str | None) -> Folders:
    """Look into the folders of classes. Raises NasnetError for what no head can be trained on."""
    train = class_folders(os.path.abspath(folder))  # noqa: PTH100  # a name in the cache
    if len(train.names) < 2:
        raise NasnetError(
            f"{folder} has only one class: {train.names[0]}.",
            "Name a folder with a subfolder for each of two classes or more.",
        )
    _check_distinct(folder, train.names)
    if validation is None:
        return Folders(train, None)
    held = class_folders(os.path.abspath(validation))  # noqa: PTH100
    inside = os.path.commonpath([train.folder, held.folder])
    if inside in (train.folder, held.folder):
        raise NasnetError(
            f"{folder} and {validation} overlap: one contains the other.",
            "Name two separate folders.",
        )
    if unknown := [name for name in held.names if name not in train.names]:
        raise NasnetError(
            f"{validation} has classes that {folder} lacks: {shortened(unknown, _SHOWN)}.",
            "Remove them, or add images of them to both.",
        )
    return Folders(train, held)


def _check_distinct(folder: str, names: Sequence[str]) -> None:
    """Raise NasnetError where two folders stand for one class, by their ids or by their labels.

    Labels with different ids may be alike: WordNet has two cranes.
    """
    ids, labels = dict[str, str](), dict[str, list[str]]()
    for name in names:
        label = _label(name)
        alike = labels.setdefault(folded(label.name), [])
        others = [other for other in alike if not (label.wnid and _label(other).wnid)]
        others += [ids[label.wnid]] if label.wnid in ids else []
        if others:
            raise NasnetError(
                f"{folder} has two folders of one class: {others[0]!r} and {name!r}.",
                "Put their images together.",
            )
        alike.append(name)
        if label.wnid:
            ids[label.wnid] = name


@dataclass
class Labelled:
    """The images of folders: paths, feature vectors [n, depth] and numbers of classes [n].

    held [n] is true for those that lie in the validation folder. failures are the images without
    features.
    """

    folders: Folders
    paths: list[str] = field(default_factory=list)
    failures: list[tuple[str, Failure]] = field(default_factory=list)
    _vectors: list[np.ndarray] = field(default_factory=list)
    _classes: list[int] = field(default_factory=list)
    _held: list[bool] = field(default_factory=list)

    def add(self, rows: Iterable[Row]) -> None:
        """Add the images of rows of vectors."""
        for row in rows:
            if row.error is not None:
                self.failures.append((row.path, row.error))
                continue
            number, is_held = self.folders.place(row.path)
            self.paths.append(row.path)
            self._vectors.append(np.frombuffer(row.vector, np.float32))
            self._classes.append(number)
            self._held.append(is_held)

    @property
    def vectors(self) -> np.ndarray:
        """Feature vectors, float32 [n, depth]."""
        return np.array(self._vectors)

    @property
    def classes(self) -> np.ndarray:
        """Numbers of classes [n]."""
        return np.array(self._classes, np.int64)

    @property
    def held(self) -> np.ndarray:
        """A mask of the images in the validation folder [n]."""
        return np.array(self._held, bool)

    def check(self) -> None:
        """Raise NasnetError where a class has too few images to train and validate with."""
        names, classes = self.folders.train.names, self.classes
        # Without a folder of its own, the validation part takes one image at least.
        least = 1 if self.folders.validation else 2
        counts = np.bincount(classes[~self.held], minlength=len(names))
        if lacking := [name for name, count in zip(names, counts, strict=True) if count < least]:
            what = "one image" if least == 1 else "two images"
            raise NasnetError(
                f"Fewer than {what} of {shortened(lacking, _SHOWN)} can be used.",
                "Add some, or remove the folder.",
            )
        if self.folders.validation and not self.held.any():
            raise NasnetError(
                f"{self.folders.validation.folder} has no image that can be used.", "Add some."
            )
        vectors = self.vectors
        if not np.isfinite(vectors).all():
            bad = self.paths[int(np.flatnonzero(~np.isfinite(vectors).all(axis=1))[0])]
            raise NasnetError(f"The model gives no numbers for {bad}.", "Train from another model.")

    def drop(self, rows: Sequence[int]) -> list[str]:
        """Remove images by their rows; return their paths."""
        dropped = [self.paths[row] for row in rows]
        kept = sorted(set(range(len(self.paths))).difference(rows))
        self.paths = [self.paths[row] for row in kept]
        self._vectors = [self._vectors[row] for row in kept]
        self._classes = [self._classes[row] for row in kept]
        self._held = [self._held[row] for row in kept]
        return dropped


def faults(labelled: Labelled, groups: Sequence[np.ndarray], held: np.ndarray) -> Iterator[str]:
    """Yield sentences on what makes a head worse: few images, unequal classes, duplicates.

    groups are the rows of near-duplicates, held is the mask of the validation part [n].
    """
    names, classes, paths = labelled.folders.train.names, labelled.classes, labelled.paths
    counts = np.bincount(classes[~held], minlength=len(names))
    few = [f"{name} ({count})" for name, count in zip(names, counts, strict=True) if count < FEW]
    if few:
        yield f"Fewer than {FEW} images to train on: {shortened(few, _SHOWN)}; more make it better."
    if counts.max() >= _UNEQUAL * counts.min():
        yield (
            f"Classes have {counts.min():,} to {counts.max():,} images to train on; each class "
            "has the same weight."
        )
    without = np.flatnonzero(np.bincount(classes[held], minlength=len(names)) == 0)
    if len(without):
        yield f"No validation image of {shortened([names[n] for n in without], _SHOWN)}."
    mixed = [rows for rows in groups if len(np.unique(classes[rows])) > 1]
    if mixed:
        pairs = [" and ".join(paths[row] for row in rows[:2]) for rows in mixed]
        yield (
            f"{counted(len(mixed), 'group')} of near-duplicates in different classes: "
            f"{shortened(pairs, _SHOWN, '; ')}."
        )
    if len(groups):
        yield (
            f"{counted(len(groups), 'group')} of near-duplicates; none is split between training "
            "and validation."
        )
