"""Result records: one per input, in the order of the inputs."""

from __future__ import annotations

import base64
import math
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from nasnet_cli.errors import ErrorKind
from nasnet_cli.kept_files import check_fields
from nasnet_cli.results.text import readable, rounded, undecodable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def recorded_path(row: Mapping[str, Any]) -> str:
    """Return the path of a row of a file, which has path_bytes as bytes or, in JSON, as base64.

    Raises KeyError, TypeError or ValueError where there is none.
    """
    path, raw = row["path"], row.get("path_bytes")
    if raw is None:
        return recorded_text(path)
    return os.fsdecode(raw if isinstance(raw, bytes) else base64.b64decode(raw, validate=True))


def recorded_text(value: str) -> str:
    """Return a text of a file. Raises ValueError where it is none."""
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is not text")
    return readable(value)  # JSON may hold half a character: "\\ud800"


def recorded_failure(kind: str, message: str) -> Failure:
    """Return an error of a file, of any kind: other versions may have others. Raises ValueError."""
    return Failure(recorded_text(kind), recorded_text(message))  # type: ignore[arg-type]


def recorded_prediction(
    rank: int,
    index: int,
    wnid: str,
    label: str,
    probability: float | None,
    logit: float | None = None,
) -> Prediction:
    """Return a prediction as a file has it. Raises TypeError or ValueError for wrong values."""
    names = recorded_text(wnid), recorded_text(label)
    raw = None if logit is None else float(logit)
    return Prediction(int(rank), int(index), *names, recorded_probability(probability), raw)


def recorded_everyday(wnid: str, label: str, probability: float | None) -> Everyday:
    """Return an everyday label as a file has it. Raises as recorded_prediction does."""
    return Everyday(recorded_text(wnid), recorded_text(label), recorded_probability(probability))


def recorded_probability(value: float | None) -> float:
    """Return a probability as a file has it; null is NaN, of an output that was not finite.

    Raises ValueError outside of [0, 1].
    """
    if value is None:
        return math.nan
    if not 0 <= value <= 1:
        raise ValueError(f"a probability is {value}, not from 0 to 1")
    return float(value)


@dataclass(frozen=True, slots=True)
class Prediction:
    """One class that an image may show.

    rank counts from 1. index is the class's index in the model's output. wnid is the WordNet id,
    "" where the label list has none. probability is in [0, 1]; logit is the model's raw output.
    """

    rank: int
    index: int
    wnid: str
    label: str
    probability: float
    logit: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON has it, with numbers of six decimals; logit only where there is one."""
        data = {
            "rank": self.rank,
            "index": self.index,
            "wnid": readable(self.wnid),
            "label": readable(self.label),
            "probability": rounded(self.probability),
        }
        return data if self.logit is None else {**data, "logit": rounded(self.logit)}


@dataclass(frozen=True, slots=True)
class Everyday:
    """The everyday label of an image: the most specific class that the model is sure of.

    wnid is the WordNet id; probability in [0, 1] is that of all the model's classes at or below it.
    """

    wnid: str
    label: str
    probability: float

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON has it, with the probability in six decimals."""
        label, probability = readable(self.label), rounded(self.probability)
        return {"wnid": self.wnid, "label": label, "probability": probability}


@dataclass(frozen=True, slots=True)
class Failure:
    """The reason why an input has no result. cause is InputError's, and in no result file."""

    kind: ErrorKind
    message: str
    cause: str = field(default="", compare=False, repr=False)

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        return {"kind": self.kind, "message": readable(self.message)}


@dataclass(frozen=True, slots=True)
class Classified:
    """The labels of one input.

    path is the input's name, with bytes that are not UTF-8 as Python's surrogate escapes.
    Exactly one of predictions (best first; a threshold may have emptied it) and error is set. sure
    is the everyday label, None where the model is not sure or has none.
    """

    path: str
    predictions: tuple[Prediction, ...] | None
    error: Failure | None = None
    sure: Everyday | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return it as nasnet classify writes it: a row of JSON lines, as Python's types."""
        if self.predictions is None:
            return row_members(self.path, self.error)
        return {
            **row_members(self.path, None),
            "predictions": [prediction.to_dict() for prediction in self.predictions],
            "sure": self.sure and self.sure.to_dict(),
        }


@dataclass(frozen=True, slots=True)
class Embedded:
    """The feature vector of one input, float32 [depth]; exactly one of vector and error is set."""

    path: str
    vector: NDArray[np.float32] | None
    error: Failure | None = None

    def __repr__(self) -> str:
        result = f"error={self.error!r}"
        if self.vector is not None:
            result = f"vector={self.vector.dtype}[{len(self.vector)}]"
        return f"Embedded(path={self.path!r}, {result})"

    def to_dict(self) -> dict[str, Any]:
        """Return it as types of JSON: path and status, and vector (floats) or error."""
        if self.vector is None:
            return row_members(self.path, self.error)
        return {**row_members(self.path, None), "vector": self.vector.tolist()}


def path_members(path: str) -> dict[str, Any]:
    """Return a path as JSON: path, and path_bytes (base64) where it is not UTF-8."""
    members = {"path": readable(path)}
    if (raw := undecodable(path)) is not None:
        members["path_bytes"] = base64.b64encode(raw).decode()
    return members


def row_members(path: str, error: Failure | None) -> dict[str, Any]:
    """Return the members that every row has: path and status, and where there is one, its error."""
    row = path_members(path)
    if error is None:
        return {**row, "status": "ok"}
    return {**row, "status": "error", "error": error.to_dict()}


@dataclass(slots=True)
class Summary:
    """Counts of a run. seconds is the wall time from start to end.

    inputs = ok + failed is the number of rows; passed_over counts the skipped files, which have no
    row. Of the rows, kept were taken from earlier runs, and errors has those of each kind.
    """

    inputs: int = 0
    ok: int = 0
    failed: int = 0
    passed_over: int = 0
    seconds: float = 0.0
    kept: int = field(default=0, compare=False)
    errors: Counter[ErrorKind] = field(default_factory=Counter, compare=False)

    def add_row(self, error: Failure | None) -> None:
        """Count a row."""
        self.inputs += 1
        if error is None:
            self.ok += 1
        else:
            self.failed += 1
            self.errors[error.kind] += 1

    def add(self, other: Summary) -> None:
        """Add the rows of another run."""
        self.inputs += other.inputs
        self.ok += other.ok
        self.failed += other.failed
        self.kept += other.kept
        self.errors += other.errors

    def counts(self) -> dict[str, int]:
        """Return the counts for files, without the time, so that two runs write the same bytes."""
        return {**self.rows(), "passed_over": self.passed_over}

    def rows(self) -> dict[str, int]:
        """Return the counts of rows."""
        return {"inputs": self.inputs, "ok": self.ok, "failed": self.failed}

    @classmethod
    def from_counts(cls, content: Any) -> Summary:
        """Return the summary of which content is counts() or rows().

        Raises ValueError where it is neither.
        """
        known = {"inputs": int, "ok": int, "failed": int, "passed_over": int}
        found = check_fields(
            {"passed_over": 0, **content} if isinstance(content, dict) else {}, known
        )
        if found.keys() != known.keys() or found["inputs"] != found["ok"] + found["failed"]:
            raise ValueError("its counts do not add up")
        return cls(**found)
