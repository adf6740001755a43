"""The rows of a job: one for each input, packed, from a model's result and back to a record.

Importing this does not import SQLite: a run to a pipe keeps no state.
"""

from __future__ import annotations

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
