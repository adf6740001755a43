"""nasnet report: show results as one HTML page."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from nasnet_cli.cli import options
from nasnet_cli.cli.console import Console
from nasnet_cli.cli.sections import command_with, option, path_option
from nasnet_cli.cli.summary import and_errors
from nasnet_cli.results.text import counted

if TYPE_CHECKING:
    from nasnet_cli.report.make import ReportOptions
    from nasnet_cli.results.reading import LabelFile


@command_with(
    "nasnet report labels.jsonl -o report.html",
    "nasnet report labels.db -o report.html --vectors vectors.npy",
    "nasnet report evaluation/evaluation.json -o mistakes.html --base /mnt/photos",
)
@options.results_argument
@options.out_option("Write the page to FILE, which appears only when complete.", required=True)
@options.overwrite_option
@option("--title", metavar="TEXT", help="Title of the page.  [default: the name of RESULTS]")
@path_option(
    "--vectors",
    metavar="FILE",
    help="Add a map on which similar images lie close together, from the vectors in FILE (.npy of "
    "nasnet embed): by UMAP where umap-learn is installed, else by principal components.",
)
@options.base_option
@options.workers_option
@options.quiet_option
def command(
    results: str,
    out: str,
    overwrite: bool,
    title: str | None,
    vectors: str | None,
    base: str | None,
    workers: int | None,
    quiet: bool,
) -> None:
    """Show results as one HTML page, to browse, search, print and send to others.

    RESULTS is a file of nasnet classify (jsonl, json, csv, parquet or sqlite) or of nasnet
    duplicates (jsonl, json or csv), or the JSON of nasnet evaluate, whose most confident mistakes
    are shown; - reads standard input. No model is run. The page holds a thumbnail of each
    image and works in any browser, without a network.
    """
    from nasnet_cli.albums.paths import Base
    from nasnet_cli.report.make import ReportOptions

    file = options.open_results(results)
    title = title or ("Images" if results == "-" else Path(results).stem)
    settings = ReportOptions(title, Base(base), vectors, workers, overwrite)
    write_report(file, out, settings, Console(quiet=quiet))


def write_report(file: LabelFile, out: str, settings: ReportOptions, console: Console) -> None:
    """Write the page, with a progress bar and a summary. Raises NasnetError."""
    from nasnet_cli.report.entries import read_entries
    from nasnet_cli.report.make import make_report
    from nasnet_cli.results.reading import LabelFile

    def count() -> int:
        return sum(1 for _ in read_entries(LabelFile(file.path)))

    start = time.monotonic()
    with console.progress(None if file.is_stream else count) as advance:
        counts = make_report(file, out, settings, advance)
    parts = [counted(counts.images, "image")]
    if counts.without:
        parts.append(f"{counts.without:,} that can no longer be read, without a thumbnail")
    errors = and_errors(counts.errors)
    size = f"{counts.bytes / 1e6:,.1f} MB"
    console.note(f"{out}: {', '.join(parts)}{errors}; {size}, {time.monotonic() - start:.1f} s.")
