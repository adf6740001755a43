"""Options for large jobs: going on with a run, and shards."""

from __future__ import annotations

from functools import partial
from typing import Any, Literal, NamedTuple

import click

from nasnet_cli.cli.options import COUNT, speed_decorators
from nasnet_cli.cli.sections import LARGE, gathered, option
from nasnet_cli.jobs.spec import RunOptions

large = partial(option, section=LARGE)


def _run_options(**settings: Any) -> RunOptions:
    for name in ("prune", "accept_versions"):
        if settings[name] and not settings["resume"]:
            raise click.UsageError(f"--{name.replace('_', '-')} needs --resume.")
    return RunOptions(**settings)


run_options = gathered(
    "run",
    _run_options,
    large(
        "--resume",
        is_flag=True,
        help="Continue an interrupted run, or bring finished output up to date; process only "
        "images that are new, have changed or had a temporary error.",
    ),
    large(
        "--prune",
        is_flag=True,
        help="With --resume, also drop the rows of paths that are now missing or empty, or no "
        "longer named.",
    ),
    large(
        "--accept-versions",
        is_flag=True,
        help="With --resume, keep rows that other versions of nasnet or its runtime wrote; both "
        "versions are recorded.",
    ),
    large(
        "--check",
        type=click.Choice(["stat", "content"]),
        default=RunOptions().check,
        help="How --resume detects changed files: by size and modification time, or by content.",
    ),
    *speed_decorators,
)


class ShardOptions(NamedTuple):
    """Settings for shards: their number or size, and the engine that runs them."""

    shards: int | None
    shard_size: int | None
    engine: Literal["local", "ray"]
    ray_address: str | None
    workers_per_node: int
    retries: int

    @property
    def wanted(self) -> bool:
        """True if the job is to be split. Raises click.UsageError for a contradiction."""
        counts = [self.shards, self.shard_size]
        if all(counts):
            raise click.UsageError("Use either --shards or --shard-size.")
        if not any(counts) and self.engine != "local":
            raise click.UsageError("--engine needs --shards or --shard-size.")
        return any(counts)


shard_options = gathered(
    "shards",
    ShardOptions,
    large(
        "--shards",
        type=COUNT,
        metavar="N",
        help="Split the job into N shards, written to the folder that --out names. Run the same "
        "command again to process unfinished shards.",
    ),
    large("--shard-size", type=COUNT, metavar="N", help="Split the job into shards of N images."),
    large(
        "--engine",
        type=click.Choice(["local", "ray"]),
        default="local",
        help="Run shards in this process or on a Ray cluster.",
    ),
    large(
        "--ray-address",
        metavar="ADDRESS",
        help="Ray cluster to connect to.  [default: RAY_ADDRESS, or start one on this machine]",
    ),
    large(
        "--workers-per-node",
        type=COUNT,
        default=1,
        metavar="N",
        help="Worker processes on each Ray node; each loads the model.",
    ),
    large(
        "--retries",
        type=click.IntRange(min=0),
        default=2,
        metavar="N",
        help="How often Ray retries a shard whose worker failed or died.",
    ),
)
