"""nasnet duplicates: find groups of near-duplicate images, and the copies among them."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, NamedTuple

import click

from nasnet_cli.cli import moving, neighbours, options, startup
from nasnet_cli.cli.console import Console
from nasnet_cli.cli.sections import command_with, gathered, option, path_option
from nasnet_cli.jobs.spec import JobSpec, RunOptions

if TYPE_CHECKING:
    from nasnet_cli.albums.duplicates import Keep
    from nasnet_cli.albums.moves import Album


class Rules(NamedTuple):
    """The rules by which images stay, as the command line has them."""

    threshold: float
    keep: Keep
    references: tuple[str, ...]
    across_folders: bool
    base: str | None
    move_to: str | None
    dry_run: bool

    def settings(self) -> dict[str, object]:
        """Return the rules that results depend on."""
        names = ("threshold", "keep", "references", "across_folders")
        return {name: getattr(self, name) for name in names}


rule_options = gathered(
    "rules",
    Rules,
    option(
        "--threshold",
        type=options.FRACTION,
        default=0.97,
        metavar="C",
        help="Cosine similarity at which two images are near-duplicates; 1 means equal vectors.",
    ),
    option(
        "--keep",
        type=click.Choice(["largest", "oldest", "first"]),
        default="largest",
        help="Which copy stays: the one with the most pixels (then bytes), the one modified "
        "first, or the first in the order of the inputs.",
    ),
    option(
        "--reference",
        "references",
        type=click.Path(exists=True, file_okay=False),
        multiple=True,
        metavar="DIR",
        help="Folder to compare with, whose images always stay. Can be repeated.",
    ),
    option(
        "--across-folders",
        is_flag=True,
        help="Do not count images in the same folder as duplicates of each other.",
    ),
    options.base_option_for("stored with vectors"),
    path_option(
        "--move-to",
        allow_from_autoenv=False,
        help="Move the duplicates to DIR, which is left out of the search.",
    ),
    option(
        "--dry-run",
        is_flag=True,
        allow_from_autoenv=False,
        help="Print what --move-to would move, in place of the groups, and move nothing.",
    ),
)


@command_with(
    "nasnet duplicates photos/",
    "nasnet duplicates inbox/ --reference library/ --move-to duplicates/ --dry-run",
    "nasnet duplicates vectors.npy --threshold 0.99 --out groups.csv",
)
@options.input_options
@rule_options
@path_option(
    "--undo",
    allow_from_autoenv=False,
    help="Move back what was moved to DIR, also after an interruption.",
)
@option("-0", "--null", is_flag=True, help="Print only the duplicates, each ended by a NUL.")
@options.output_options(neighbours.FORMATS)
@options.spec_options("vectors", *options.preprocessing_options)
@options.speed_options
@options.console_options
def command(
    inputs: options.InputOptions,
    rules: Rules,
    undo: str | None,
    null: bool,
    output: options.OutputOptions,
    spec: JobSpec,
    run: RunOptions,
    console: Console,
) -> int:
    """Find groups of near-duplicate images.

    PATHS are as in nasnet classify, or one .npy file of nasnet embed, with its .jsonl beside it.
    Every pair is compared by cosine similarity, and images are in the same group if a chain of
    pairs at or above the threshold connects them. The output says which images of a group stay and
    which are duplicates: those whose similarity to one that stays reaches the threshold. Hard and
    symbolic links to the same file are not duplicates. No file is changed or deleted; --move-to
    moves duplicates, and after an interruption the same command continues. Exit code: 0, or 3 if
    some images have errors.
    """
    if undo is not None:
        if inputs.paths or inputs.list_file or rules.move_to is not None or rules.dry_run:
            raise click.UsageError("--undo takes a folder and nothing else.")
        return moving.undo_all(undo, console)
    if null and (output.out or output.format_ or rules.move_to):
        raise click.UsageError("Use either -0 or --out, --format and --move-to.")
    if rules.dry_run and rules.move_to is None:
        raise click.UsageError("--dry-run is for --move-to DIR.")
    if rules.dry_run and output.format_ and not output.out:
        raise click.UsageError("With --dry-run, --format is for --out FILE.")
    from nasnet_cli.cli.copies import Search, report
    from nasnet_cli.cli.run import Job

    output.chosen_format(neighbours.FORMATS)  # a wrong one is reported before the work
    startup.limit_blas_threads()  # the comparison has threads of its own
    vectors = neighbours.named_vectors(inputs)
    with _album(rules) as album:
        if vectors is not None:
            return report(Search.of_vectors(vectors), rules, null, output, console, album)
        job = Job(spec, _with_references(inputs, rules), run, console, left_out=rules.move_to)
        with Search.of_images(job) as search:
            status = job.finish("embedded")
            return report(search, rules, null, output, console, album) or status


def _with_references(inputs: options.InputOptions, rules: Rules) -> options.InputOptions:
    """Return the inputs and the references. Raises click.UsageError for options of vectors."""
    if rules.base is not None:
        raise click.UsageError("--base is for vectors: other paths start from the current folder.")
    paths = inputs.paths or (() if inputs.list_file else (".",))
    paths = (*paths, *rules.references)
    if rules.move_to is not None:
        from nasnet_cli.albums.duplicates import inside

        for path in paths:
            if inside(path).startswith(inside(rules.move_to)):
                raise click.UsageError(f"{path} lies in {rules.move_to}, which is not searched.")
    return inputs._replace(paths=paths)


def _album(rules: Rules) -> AbstractContextManager[Album | None]:
    """Open the folder that gets the duplicates, which is then kept from other processes."""
    if rules.move_to is None:
        return nullcontext()
    from nasnet_cli.albums.moves import open_album

    return open_album(rules.move_to, create=not rules.dry_run)
