"""Options of large jobs that commands share: resuming, shards and speed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

import click

from nasnet_cli.cli.sections import ADVANCED, LARGE, gathered, option

if TYPE_CHECKING:
    from nasnet_cli.jobs.state import Check


class ResumeOptions(NamedTuple):
    """Settings to continue an interrupted run."""

    resume: bool
    check: Check


resume_options = gathered(
    "resuming",
    ResumeOptions,
    option(
        "--resume",
        is_flag=True,
        section=LARGE,
        help="Continue an interrupted run of FILE; process only what is missing or has changed.",
    ),
    option(
        "--check",
        type=click.Choice(["stat", "content"]),
        default="stat",
        show_default=True,
        section=LARGE,
        help="How --resume detects changed files: by size and modification time, or by content.",
    ),
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
    option(
        "--shards",
        type=click.IntRange(min=1),
        metavar="N",
        section=LARGE,
        help="Split the job into N shards, written to the folder that --out names. Run the same "
        "command again to process unfinished shards.",
    ),
    option(
        "--shard-size",
        type=click.IntRange(min=1),
        metavar="N",
        section=LARGE,
        help="Split the job into shards of N images.",
    ),
    option(
        "--engine",
        type=click.Choice(["local", "ray"]),
        default="local",
        show_default=True,
        section=LARGE,
        help="Run shards in this process or on a Ray cluster.",
    ),
    option(
        "--ray-address",
        metavar="ADDRESS",
        section=LARGE,
        help="Ray cluster to connect to.  [default: RAY_ADDRESS, or start one on this machine]",
    ),
    option(
        "--workers-per-node",
        type=click.IntRange(min=1),
        default=1,
        show_default=True,
        metavar="N",
        section=LARGE,
        help="Worker processes on each Ray node; each loads the model.",
    ),
    option(
        "--retries",
        type=click.IntRange(min=0),
        default=2,
        show_default=True,
        metavar="N",
        section=LARGE,
        help="How often Ray retries a shard whose worker failed or died.",
    ),
)


class SpeedOptions(NamedTuple):
    """Settings for decoding; results do not depend on them."""

    workers: int | None
    batch_size: int


speed_options = gathered(
    "speed",
    SpeedOptions,
    option(
        "--workers",
        type=click.IntRange(min=1, max=256),
        metavar="N",
        section=ADVANCED,
        help="Number of decoding threads.  [default: number of CPUs + 2]",
    ),
    option(
        "--batch-size",
        type=click.IntRange(min=1, max=4096),
        default=256,
        show_default=True,
        metavar="N",
        section=ADVANCED,
        help="Number of images decoded ahead of the model. Does not affect results.",
    ),
)
