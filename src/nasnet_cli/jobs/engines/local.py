"""The engine that is always there: shard after shard in this process, with one model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from nasnet_cli.errors import NasnetError
from nasnet_cli.jobs.engines import Outcome
from nasnet_cli.jobs.shards.manifest import Manifest
from nasnet_cli.jobs.shards.shard import ShardRunner, record_failure, run_shard


def run_local(manifest: Manifest, shards: Iterable[int], do: ShardRunner) -> Iterator[Outcome]:
    """Does the shards in their order.

    What keeps one from being done (a full disk, a model that can't be run) would keep the next
    ones too, so the first NasnetError ends it, and is noted for `nasnet status`.
    """
    for shard in shards:
        try:
            counts = run_shard(manifest, shard, do)
        except NasnetError as error:
            record_failure(manifest, shard, str(error))
            raise
        yield Outcome(shard, counts)
