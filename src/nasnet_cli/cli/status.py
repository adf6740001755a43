"""nasnet status: how far a sharded job is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nasnet_cli.cli.console import Console
from nasnet_cli.cli.main import EXIT_SOME_FAILED

if TYPE_CHECKING:
    from nasnet_cli.jobs.shards.shard import ShardState


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path())
@click.option("--verify", is_flag=True, help="Read all that was written and compare its sha256.")
@click.option("--json", "as_json", is_flag=True, help="Answer in JSON, with a line for each shard.")
@click.option("-q", "--quiet", is_flag=True, help="Only answer by the exit status.")
@click.option("-v", "--verbose", is_flag=True, help="Say more: a line for each shard.")
def command(folder: str, verify: bool, as_json: bool, quiet: bool, verbose: bool) -> int:
    """Say how far a job with shards is.

    DIR is what --out named. A shard is done when its marker is there and matches its pictures, its
    work and its files. Exits with 0 when all are done and with 3 when some are not.
    """
    from nasnet_cli.jobs.shards.manifest import open_manifest
    from nasnet_cli.jobs.shards.shard import states

    manifest = open_manifest(Path(folder))
    totals: dict[str, Any] = {
        "pictures": manifest.pictures,
        "shards": {"all": manifest.shards, "done": 0, "failed": 0, "missing": 0},
        "counts": {"inputs": 0, "ok": 0, "failed": 0},
    }
    answer = _Answer(as_json=as_json, all_shards=verbose, console=Console(quiet=quiet))
    for found in states(manifest, verify=verify):
        totals["shards"][found.state] += 1
        for name in totals["counts"]:
            totals["counts"][name] += (found.counts or {}).get(name, 0)
        answer.shard(found)
    answer.end(totals)
    return 0 if totals["shards"]["done"] == manifest.shards else EXIT_SOME_FAILED


class _Answer:
    """The answer as it comes, for a person or as JSON; a job may have a million shards."""

    def __init__(self, *, as_json: bool, all_shards: bool, console: Console) -> None:
        self._json = as_json
        self._all_shards = all_shards
        self._quiet = console.quiet
        self._before = '{"shards": [\n'

    def shard(self, found: ShardState) -> None:
        if self._quiet:
            return
        if self._json:
            line = {
                "shard": found.shard,
                "state": found.state,
                "pictures": found.pictures,
                **({"why": found.why} if found.why else {}),
                **({"counts": dict(found.counts)} if found.counts is not None else {}),
            }
            click.echo(self._before + json.dumps(line), nl=False)
            self._before = ",\n"
        elif self._all_shards or found.why:
            from nasnet_cli.results.text import printable

            why = f": {found.why}" if found.why else ""
            words = f"shard {found.shard} ({found.pictures:,} pictures) {found.state}{why}"
            click.echo(printable(words))

    def end(self, totals: dict[str, Any]) -> None:
        if self._quiet:
            return
        shards, counts = totals["shards"], totals["counts"]
        if self._json:
            click.echo(f'\n], "totals": {json.dumps(totals)}}}')
            return
        click.echo(
            f"{shards['done']:,} of {shards['all']:,} shards done, {shards['failed']:,} failed, "
            f"{shards['missing']:,} missing; {counts['inputs']:,} of {totals['pictures']:,} "
            f"pictures, {counts['failed']:,} of them with errors."
        )
