"""The rows of a job: one for each input, packed, from a model's result and back to a record.

Importing this does not import SQLite: a run to a pipe keeps no state.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nasnet_cli.jobs.spec import JobSpec
from nasnet_cli.results.records import Classified, Embedded, Failure

if TYPE_CHECKING:
    from nasnet_cli.model import Model
    from nasnet_cli.pipeline import Result


@dataclass(frozen=True, slots=True)
class Row:
    """A finished input. labels and vector are packed by encode; empty with an error, and for
    results that the job does not make."""

    path: str
    error: Failure | None
    labels: bytes = b""
    vector: bytes = b""


def encode(result: Result[Any], spec: JobSpec) -> Row:
    """Return a model's result as a row.

    Its labels are packed as SURE (results/everyday.py) and, for each rank, BEST (results/topk.py),
    its vector as numbers of the spec's type.
    """
    path = result.source.path
    if result.outputs is None:
        return Row(path, result.failure)
    labels = vector = b""
    if "labels" in spec.results:
        best = result.outputs["best"]
        kept = best[best["probability"] >= spec.threshold]
        if not spec.logits:
            kept["output"] = 0.0
        labels = result.outputs["sure"].tobytes() + kept.tobytes()
    if "vectors" in spec.results:
        from nasnet_cli.results.npy import numbers_of
        from nasnet_cli.results.topk import unit_vector

        numbers = result.outputs["features"]
        if spec.normalize:
            numbers = unit_vector(numbers)
        vector = numbers.astype(numbers_of(spec.dtype), copy=False).tobytes()
    return Row(path, None, labels, vector)


def classified_rows(rows: Iterator[Row], spec: JobSpec, model: Model) -> Iterator[Classified]:
    """Yield the labels of rows, in words."""
    import numpy as np

    from nasnet_cli.results.everyday import SURE
    from nasnet_cli.results.topk import BEST, predictions

    labels, everyday = model.labels, model.everyday
    for row in rows:
        if row.error is not None:
            yield Classified(row.path, None, row.error)
        else:
            sure = np.frombuffer(row.labels, SURE, count=1)[0]
            best = np.frombuffer(row.labels, BEST, offset=SURE.itemsize)
            yield Classified(
                row.path,
                predictions(best, labels, with_logits=spec.logits),
                sure=everyday.record(sure),
            )


def from_records(
    labels: Classified | None, vector: Embedded | None, spec: JobSpec, model: Model
) -> Row | None:
    """Return the row of which these are the records, as read from a file; the inverse of the others.

    Numbers are as the file has them, so that writing them once more gives the same bytes. None for
    labels that the model's classes don't give: those of another version, perhaps.
    """
    record = vector or labels  # names of vectors are exact in every format
    assert record is not None
    if record.error is not None:
        return Row(record.path, record.error)
    of_labels = of_vector = b""
    if labels is not None:
        of_labels = _packed_labels(labels, spec, model)
        row = Row(record.path, None, of_labels)
        try:
            (again,) = classified_rows(iter([row]), spec, model)
        except (KeyError, IndexError):
            return None
        if _names(again) != _names(labels):
            return None
    if vector is not None:
        assert vector.vector is not None
        of_vector = vector.vector.tobytes()
    return Row(record.path, None, of_labels, of_vector)


def _packed_labels(labels: Classified, spec: JobSpec, model: Model) -> bytes:
    import numpy as np

    from nasnet_cli.results.everyday import SURE
    from nasnet_cli.results.topk import BEST

    found = labels.predictions or ()
    outputs = [math.nan if p.logit is None else p.logit for p in found] if spec.logits else []
    best = np.zeros(len(found), BEST)
    best["index"] = [p.index for p in found]
    best["probability"] = [p.probability for p in found]
    best["output"] = outputs or 0.0
    sure = np.zeros(1, SURE)
    if labels.sure is not None:
        sure[0] = (labels.sure.wnid.encode(), labels.sure.probability)
    return sure.tobytes() + best.tobytes()


def _names(row: Classified) -> tuple[object, ...]:
    sure = row.sure and (row.sure.wnid, row.sure.label)
    return (sure, *((p.rank, p.index, p.wnid, p.label) for p in row.predictions or ()))


def embedded_rows(rows: Iterator[Row], spec: JobSpec) -> Iterator[Embedded]:
    """Yield the vectors of rows, in the spec's type."""
    import numpy as np

    from nasnet_cli.results.npy import numbers_of

    numbers = numbers_of(spec.dtype)
    for row in rows:
        if row.error is not None:
            yield Embedded(row.path, None, row.error)
        else:
            yield Embedded(row.path, np.frombuffer(row.vector, numbers))
