"""nasnet status: show the progress of a sharded job."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from nasnet_cli.cli import exits
from nasnet_cli.cli.sections import command_with, json_option, option
from nasnet_cli.cli.summary import and_errors
from nasnet_cli.results.text import counted, printable

if TYPE_CHECKING:
    from nasnet_cli.jobs.shards.shard import ShardState


@command_with(
    "nasnet status job/",
    "nasnet status job/ --verify",
    "nasnet status job/ --json",
)
@click.argument("folder", metavar="DIR", type=click.Path())
@option("--verify", is_flag=True, help="Read all outputs and compare their sha256.")
@json_option("Print JSON, with a line for each shard.")
@option("-q", "--quiet", is_flag=True, help="Print nothing; see the exit code.")
@option("-v", "--verbose", is_flag=True, help="Print a line for each shard.")
def command(folder: str, verify: bool, as_json: bool, quiet: bool, verbose: bool) -> int:
    """Show the progress of a sharded job.

    DIR is the --out of the job. A shard is done when it has a marker that matches its images, the
    job and its files. Exit code: 0 if all shards are done, 3 if some are missing.
    """
    import json

    from nasnet_cli.jobs.shards.manifest import open_manifest
    from nasnet_cli.jobs.shards.shard import states
    from nasnet_cli.results.records import Summary

    manifest = open_manifest(Path(folder))
    numbers = {"all": manifest.shards, "done": 0, "failed": 0, "missing": 0}
    counts = Summary()
    before = '{"shards": [\n'
    for shard in states(manifest, verify=verify):  # printed as they come: there may be a million
        numbers[shard.state] += 1
        counts.add(shard.counts or Summary())
        if quiet:
            continue
        if as_json:
            click.echo(before + _json_line(shard), nl=False)
            before = ",\n"
        elif verbose or shard.why:
            click.echo(_line(shard))
    if as_json and not quiet:
        totals = {"pictures": manifest.images, "shards": numbers, "counts": counts.rows()}
        click.echo(f'\n], "totals": {json.dumps(totals)}}}')
    elif not quiet:
        click.echo(
            f"{numbers['done']:,} of {counted(numbers['all'], 'shard')} done, "
            f"{numbers['failed']:,} failed, {numbers['missing']:,} missing; "
            f"{counts.inputs:,} of {counted(manifest.images, 'image')}"
            f"{and_errors(counts.errors)}."
        )
    return exits.OK if numbers["done"] == manifest.shards else exits.SOME_FAILED


def _json_line(shard: ShardState) -> str:
    import json

    line: dict[str, object] = {"shard": shard.shard, "state": shard.state, "pictures": shard.images}
    if shard.why:
        line["why"] = shard.why
    if shard.counts is not None:
        line["counts"] = shard.counts.rows()
    return json.dumps(line)


def _line(shard: ShardState) -> str:
    why = f": {shard.why}" if shard.why else ""
    return printable(f"shard {shard.shard} ({counted(shard.images, 'image')}) {shard.state}{why}")
