"""The default engine: shard after shard in this process, with one model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from nasnet_cli.errors import NasnetError
from nasnet_cli.jobs.engines import Outcome
from nasnet_cli.jobs.shards.manifest import Manifest
from nasnet_cli.jobs.shards.shard import ShardRunner, record_failure


def run_local(manifest: Manifest, shards: Iterable[int], runner: ShardRunner) -> Iterator[Outcome]:
    """Run the shards in their order.

    The cause of a failure (a full disk, a model that cannot be run) would stop the next shards too,
    so the first NasnetError ends the run, and is recorded for `nasnet status`.
    """
    for shard in shards:
        try:
            counts = runner.run(manifest, shard)
        except NasnetError as error:
            record_failure(manifest, shard, str(error))
            raise
        yield Outcome(shard, counts)
