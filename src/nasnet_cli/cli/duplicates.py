"""nasnet duplicates: find groups of near-duplicate images, and the copies among them."""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import click

from nasnet_cli.cli import exits, moving, neighbours, options, startup
from nasnet_cli.cli.console import Console
from nasnet_cli.cli.run import Job
from nasnet_cli.cli.sections import command_with, gathered, option
from nasnet_cli.jobs.run import RunOptions
from nasnet_cli.jobs.spec import JobSpec
from nasnet_cli.results.text import counted

if TYPE_CHECKING:
    from nasnet_cli.albums.duplicates import Keep
    from nasnet_cli.albums.moves import Album
    from nasnet_cli.results.neighbours import Group, Role
    from nasnet_cli.results.writers import Section
    from nasnet_cli.similarity import Index

Pair = TypeVar("Pair")


class Rules(NamedTuple):
    """The rules by which images stay, as the command line has them."""

    threshold: float
    keep: Keep
    references: tuple[str, ...]
    across_folders: bool
    base: str | None
    move_to: str | None

    def settings(self) -> dict[str, object]:
        """Return the rules that results depend on."""
        return {
            "threshold": self.threshold,
            "keep": self.keep,
            "references": list(self.references),
            "across_folders": self.across_folders,
        }


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
        help="Images of the same folder are not duplicates of each other.",
    ),
    option(
        "--base",
        type=click.Path(),
        metavar="DIR",
        help="Folder that relative paths beside vectors start from.  [default: the current folder]",
    ),
    option(
        "--move-to",
        type=click.Path(),
        metavar="DIR",
        allow_from_autoenv=False,
        help="Move the duplicates to DIR, which is left out of the search.",
    ),
)


@command_with(
    "nasnet duplicates photos/",
    "nasnet duplicates inbox/ --reference library/ --move-to duplicates/",
    "nasnet duplicates vectors.npy --threshold 0.99 --out groups.csv",
)
@options.input_options
@rule_options
@option(
    "--undo",
    type=click.Path(),
    metavar="DIR",
    allow_from_autoenv=False,
    help="Take back what was moved to DIR, also after an interruption.",
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
    Every pair is compared by cosine similarity, and images are in one group when a chain of pairs
    at or above the threshold joins them. In each group it is said which images stay and which are
    duplicates: those at or above the threshold to one that stays. Other names of a file (hard and
    symbolic links) are no duplicates. No file is changed or deleted; --move-to moves duplicates, and
    the same command goes on after an interruption. Exit code: 0, or 3 if some images have
    errors.
    """
    if undo is not None:
        if inputs.paths or inputs.list_file or rules.move_to is not None:
            raise click.UsageError("--undo takes a folder and nothing else.")
        return moving.undo_all(undo, console)
    if null and (output.out or output.format_ or rules.move_to):
        raise click.UsageError("Use either -0 or --out, --format and --move-to.")
    output.chosen_format(neighbours.FORMATS)  # a wrong one is reported before the work
    startup.limit_blas_threads()  # the comparison has threads of its own
    vectors = neighbours.named_vectors(inputs)
    with _album(rules.move_to) as album:
        if vectors is not None:
            return report(_Search.of_vectors(vectors), rules, null, output, console, album)
        job = Job(spec, _with_references(inputs, rules), run, console, left_out=rules.move_to)
        with _Search.of_images(job) as search:
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


def _album(folder: str | None) -> AbstractContextManager[Album | None]:
    """Open the folder that gets the duplicates, which is then kept from other processes."""
    if folder is None:
        return nullcontext()
    from nasnet_cli.albums.moves import open_album

    return open_album(folder, create=True)


@dataclass(frozen=True)
class _Search:
    """The vectors to search, and what results say of how they were made.

    A file that was modified after made, in nanoseconds, is not the one that was embedded.
    """

    index: Index
    made: int
    about: dict[str, Section]
    identity: Callable[[], Mapping[str, Section]]

    @classmethod
    def of_vectors(cls, path: str) -> _Search:
        """Return the search of a file of nasnet embed. Raises NasnetError."""
        from nasnet_cli import __version__
        from nasnet_cli.similarity import open_index

        index = open_index(path)
        about: dict[str, Section] = {"index": index.describe()}
        tool: dict[str, object] = {"name": "nasnet", "version": __version__}
        identity = {"tool": tool, "index": index.describe()}
        return cls(index, index.path.stat().st_mtime_ns, about, lambda: identity)

    @classmethod
    @contextmanager
    def of_images(cls, job: Job) -> Iterator[_Search]:
        """Embed the images of a job into temporary files; yield their search."""
        import tempfile
        from pathlib import Path

        from nasnet_cli.jobs.rows import embedded_rows
        from nasnet_cli.results.atomic import open_outputs
        from nasnet_cli.results.npy import write_stream
        from nasnet_cli.similarity import lines_path, open_index

        made = time.time_ns()
        with tempfile.TemporaryDirectory(prefix="nasnet-") as folder:
            path = Path(folder) / "vectors.npy"
            rows = embedded_rows(job.rows(), job.spec)
            with open_outputs(path, lines_path(path), overwrite=False) as (stream, lines):
                depth = job.model.feature_depth
                write_stream(stream, lines, rows, depth, job.spec.dtype)
            about: dict[str, Section] = {**job.model.head()}
            yield cls(open_index(path), made, about, lambda: job.spec.identity(job.model))


def report(
    search: _Search,
    rules: Rules,
    null: bool,
    output: options.OutputOptions,
    console: Console,
    album: Album | None,
) -> int:
    """Find the groups, write them or only the duplicates, and move these to an album.

    Return the exit code. Raises NasnetError.
    """
    from nasnet_cli.albums import duplicates
    from nasnet_cli.albums.paths import Base
    from nasnet_cli.results.meta import meta_document
    from nasnet_cli.results.neighbours import GROUPS
    from nasnet_cli.similarity import Comparison, count_pairs, without_direction

    start = time.monotonic()
    index, base = search.index, Base(rules.base)

    def walk(pairs: Iterable[Pair]) -> Iterator[Pair]:
        with console.progress(lambda: count_pairs(index), unit="blocks") as advance:
            for pair in pairs:
                advance(1)
                yield pair

    tally = _Tally(index.rows, without_direction(index))
    decided = duplicates.Rules(
        rules.keep, rules.references, rules.across_folders, search.made, rules.move_to
    )
    found = duplicates.Duplicates(index, base, decided, rules.threshold)
    comparison = Comparison(index, rules.threshold)
    groups = tally.count(found.groups(comparison.groups(walk)))
    settings = rules.settings()
    if null:
        _print_paths(base.locate(path) for path, _ in duplicates.copies(groups))
    else:
        neighbours.write(
            GROUPS,
            groups,
            output,
            head={**search.about, "options": settings},
            summary=tally.counts,
            meta=lambda: meta_document(
                **{**search.identity(), "options": settings}, summary=tally.counts()
            ),
        )
    if (null or album) and tally.missing is not None and set(tally.roles) == {"missing"}:
        raise base.nothing_exists(base.locate(tally.missing))
    if comparison.bounded:
        ruled_out = 100 * (1 - comparison.left / comparison.bounded)
        console.detail(f"{ruled_out:.4f} % of {comparison.bounded:,} pairs ruled out by bounds.")
    console.note(f"{tally.describe()}; {time.monotonic() - start:.1f} s.")
    for role, reason in _LEFT_ALONE.items():
        if tally.roles[role]:
            console.note(f"{counted(tally.roles[role], 'image')} {reason}")
    if found.left_out:
        console.note(f"{counted(found.left_out, 'image')} in {rules.move_to} left out.")
    if album is None:
        return exits.OK
    pairs = ((base.locate(copy), base.locate(kept)) for copy, kept in tally.copies)
    # Whatever has happened since they were compared: one of them stays.
    return _move(album, (copy for copy, kept in pairs if base.exists(kept)), console)


def _move(album: Album, copies: Iterable[str], console: Console) -> int:
    """Move the copies to an album and return the exit code."""
    from nasnet_cli.albums.duplicates import destination

    plan = album.plan("move", ((copy, destination(copy)) for copy in copies))
    problems = moving.carry_out(album, plan, console)
    moved = len(plan.transfers) - problems
    skipped = f", {len(plan.skipped):,} skipped" if plan.skipped else ""
    failed = f", {problems:,} failed" if problems else ""
    console.note(f"{counted(moved, 'duplicate')} moved to {album.name}{skipped}{failed}.")
    if moved:
        console.note(f"To take them back: nasnet duplicates --undo {album.name}")
    return exits.SOME_FAILED if problems else exits.OK


_LEFT_ALONE: dict[Role, str] = {
    "missing": "in groups not found: moved, deleted, or below another --base.",
    "changed": "in groups modified after the vectors were made: embed again.",
}


class _Tally:
    """Counts of vectors, groups and roles.

    missing is an image that doesn't exist, if any; copies has the duplicates, each with the image
    that stays for it.
    """

    def __init__(self, vectors: int, without_direction: int) -> None:
        self._vectors, self._without_direction = vectors, without_direction
        self._groups = 0
        self.roles: Counter[Role] = Counter()
        self.missing: str | None = None
        self.copies: list[tuple[str, str]] = []

    def count(self, groups: Iterable[Group]) -> Iterator[Group]:
        """Yield the groups, counted."""
        from nasnet_cli.albums.duplicates import copies

        for group in groups:
            self._groups += 1
            for member in group.members:
                self.roles[member.role] += 1
                if member.role == "missing":
                    self.missing = member.path
            self.copies += copies([group])
            yield group

    def counts(self) -> dict[str, object]:
        """Return the counts for a result."""
        return {
            "vectors": self._vectors,
            "without_direction": self._without_direction,
            "groups": self._groups,
            "grouped": self.roles.total(),
            "duplicates": self.roles["duplicate"],
        }

    def describe(self) -> str:
        """Return the counts as a sentence without its end."""
        left_out = self._without_direction
        ignored = f" ({left_out:,} zero or not finite, ignored)" if left_out else ""
        return (
            f"{counted(self._vectors, 'vector')}{ignored}: {counted(self._groups, 'group')} with "
            f"{counted(self.roles.total(), 'image')}, "
            f"{counted(self.roles['duplicate'], 'duplicate')}"
        )


def _print_paths(paths: Iterable[str]) -> None:
    for path in paths:
        # Programs that are given the path must not take it for an option.
        name = f"./{path}" if path.startswith("-") else path
        sys.stdout.buffer.write(os.fsencode(name) + b"\0")
    sys.stdout.buffer.flush()
