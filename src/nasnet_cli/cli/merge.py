"""nasnet merge: merge the shards of a job into one file."""

from __future__ import annotations

from pathlib import Path

import click

from nasnet_cli.cli import exits, options
from nasnet_cli.cli.console import Console
from nasnet_cli.cli.sections import command_with, option
from nasnet_cli.cli.summary import and_errors
from nasnet_cli.results.text import counted


@command_with(
    "nasnet merge job/ --out labels.jsonl",
    "nasnet merge job/ --out labels.jsonl --overwrite",
    "nasnet merge job/ --out so-far.jsonl --partial",
)
@click.argument("folder", metavar="DIR", type=click.Path())
@options.out_option("Write to FILE and its companions. They appear only when complete.", True)
@options.overwrite_option
@option("--partial", is_flag=True, help="Leave out shards that are not done.")
@options.quiet_option
def command(folder: str, out: str, overwrite: bool, partial: bool, quiet: bool) -> int:
    """Merge the shards of a job into one file.

    DIR is the --out of the job. FILE gets the bytes that the job would have written without shards,
    in the format of the shards: jsonl, csv, npy or parquet. Each shard is compared with the sha256
    in its marker. Exit code: 0 if every input has a result, 3 if some have errors.
    """
    from nasnet_cli.jobs.shards.manifest import open_manifest
    from nasnet_cli.jobs.shards.merge import finished_parts, merge
    from nasnet_cli.results.atomic import check_free

    check_free(out, overwrite)
    parts = finished_parts(open_manifest(Path(folder)), partial=partial)
    merge(parts, Path(out), overwrite=overwrite)
    summary, shards = parts.summary, counted(len(parts.shards), "shard")
    errors = and_errors(summary.errors)
    Console(quiet=quiet).note(f"{counted(summary.inputs, 'image')} in {shards}{errors}.")
    return exits.SOME_FAILED if summary.failed else exits.OK
