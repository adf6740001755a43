"""nasnet merge: the shards of a job as one file."""

from __future__ import annotations

from pathlib import Path

import click

from nasnet_cli.cli import options
from nasnet_cli.cli.console import Console
from nasnet_cli.cli.main import EXIT_SOME_FAILED


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path())
@click.option(
    "-o",
    "--out",
    type=click.Path(),
    metavar="FILE",
    required=True,
    help="Write to FILE, whole or not at all, and what belongs beside it.",
)
@options.overwrite_option
@click.option("--partial", is_flag=True, help="Leave out shards that are not done.")
@click.option("-q", "--quiet", is_flag=True, help="Say nothing but errors.")
def command(folder: str, out: str, overwrite: bool, partial: bool, quiet: bool) -> int:
    """Make one file of a job with shards.

    DIR is what --out named when the job was run. FILE has the bytes that one run without shards
    would have written, in the format of the shards: jsonl, csv, npy or parquet. Each shard is
    compared with the sha256 in its marker. Exits with 0 when every input has a result and with 3
    when some have an error.
    """
    from nasnet_cli.jobs.shards.manifest import open_manifest
    from nasnet_cli.jobs.shards.merge import finished_parts, merge
    from nasnet_cli.results.atomic import check_free

    check_free(out, overwrite)
    parts = finished_parts(open_manifest(Path(folder)), partial=partial)
    merge(parts, Path(out), overwrite=overwrite)
    summary = parts.summary
    failed = f", {summary.failed:,} of them with errors" if summary.failed else ""
    Console(quiet=quiet).note(
        f"{summary.inputs:,} pictures of {len(parts.shards):,} shards{failed}."
    )
    return EXIT_SOME_FAILED if summary.failed else 0
