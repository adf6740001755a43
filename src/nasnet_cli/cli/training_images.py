"""The images of nasnet train: their features, the part to validate with, and their faults."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from nasnet_cli.cli.console import Console
from nasnet_cli.errors import NasnetError
from nasnet_cli.results.text import counted, shortened

if TYPE_CHECKING:
    import numpy as np

    from nasnet_cli.cli.run import Job
    from nasnet_cli.jobs.rows import Row
    from nasnet_cli.training.labelled import Folders, Labelled

_SHOWN = 5
_MEASURED = 32
"""Images whose features are computed before the time for all is estimated."""


def read_features(job: Job, folders: Folders, console: Console, then: str) -> Labelled:
    """Compute the features of all images, or take them from the cache.

    then follows the time that they will take, in the note of it.
    """
    from nasnet_cli.training.labelled import Labelled

    labelled = Labelled(folders)
    rows = job.kept_rows(_kept(job, folders))
    labelled.add(_timed(rows, job.inputs.count(), console, then))
    if labelled.failures:
        names = [f"{path} ({failure.kind})" for path, failure in labelled.failures]
        console.note(f"{counted(len(names), 'image')} left out: {shortened(names, _SHOWN)}.")
    labelled.check()
    return labelled


def _timed(rows: Iterator[Row], count: int, console: Console, then: str) -> Iterator[Row]:
    """Yield the rows, and say after the first ones how long all will take."""
    start = time.monotonic()
    for number, row in enumerate(rows, start=1):
        yield row
        if number == min(_MEASURED, count):
            seconds = (time.monotonic() - start) / number * count
            console.note(f"{counted(count, 'image')}: features take about {seconds:.0f} s{then}.")


def _kept(job: Job, folders: Folders) -> Path:
    """Return where the features of the model and these folders are kept in the cache."""
    import hashlib
    import json

    from nasnet_cli import cache
    from nasnet_cli.jobs.state import VERSION

    identity = job.spec.identity(job.model)
    roots = [part.folder for part in (folders.train, folders.validation) if part]
    name = hashlib.sha256(
        json.dumps([identity, [os.fsencode(root).hex() for root in roots], VERSION]).encode()
    ).hexdigest()[:32]
    folder = cache.subfolder("features")
    try:
        cache.make_folder(folder)
    except OSError as error:
        raise cache.cannot_write(error) from error
    return folder / name


def validation_part(
    labelled: Labelled, fraction: float | None, seed: int, console: Console
) -> np.ndarray:
    """Return the validation part as a mask, and note what training should know before."""
    from nasnet_cli.training.labelled import faults
    from nasnet_cli.training.split import hold_out, known_rows

    if fraction is not None:
        held, groups = hold_out(labelled.vectors, labelled.classes, fraction, seed)
    else:
        known, groups = known_rows(labelled.vectors, labelled.classes, labelled.held)
        if known:
            dropped = labelled.drop(known)
            console.note(
                f"{counted(len(known), 'validation image')} left out, near-duplicates of "
                f"training images: {shortened(dropped, _SHOWN)}."
            )
            groups = []
        held = labelled.held
    for fault in faults(labelled, groups, held):
        console.note(fault)
    if held.all() or not held.any():
        raise NasnetError(
            "All images look alike to the model, so none is left to validate with.",
            "Train from another model, or add images.",
        )
    return held
