"""Engines, which run the shards of a job: this process, or the workers of a Ray cluster.

An engine takes a manifest and the numbers of the shards to run, and yields an Outcome for each.
"""

from __future__ import annotations

from dataclasses import dataclass

from nasnet_cli.results.records import Summary


@dataclass(frozen=True, slots=True)
class Outcome:
    """A shard that an engine has finished: the counts of its rows, or why there are none."""

    shard: int
    counts: Summary | None
    why: str = ""
