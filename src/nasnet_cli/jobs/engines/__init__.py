"""What does the shards of a job: this process, or the workers of a Ray cluster.

An engine takes a manifest and the numbers of the shards to do, and yields an Outcome for each.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Outcome:
    """A shard that an engine is through with: the counts of its rows, or why there are none."""

    shard: int
    counts: Mapping[str, int] | None
    why: str = ""
