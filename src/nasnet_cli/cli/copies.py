"""The groups that nasnet duplicates finds: written, counted, and their copies moved."""

from __future__ import annotations

import os
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from nasnet_cli.cli import exits, moving, neighbours
from nasnet_cli.cli.console import Console
from nasnet_cli.cli.options import OutputOptions
from nasnet_cli.results.text import counted

if TYPE_CHECKING:
    from nasnet_cli.albums.moves import Album
    from nasnet_cli.cli.duplicates import Rules
    from nasnet_cli.cli.run import Job
    from nasnet_cli.results.neighbours import Group, Role
    from nasnet_cli.results.writers import Section
    from nasnet_cli.similarity.index import Index

Pair = TypeVar("Pair")


@dataclass(frozen=True)
class Search:
    """The vectors to search, and what results say of how they were made.

    A file that was modified after made, in nanoseconds, is not the one that was embedded.
    """

    index: Index
    made: int
    about: dict[str, Section]
    identity: Callable[[], Mapping[str, Section]]

    @classmethod
    def of_vectors(cls, path: str) -> Search:
        """Return the search of a file of nasnet embed. Raises NasnetError."""
        from nasnet_cli import __version__
        from nasnet_cli.similarity.index import open_index

        index = open_index(path)
        about: dict[str, Section] = {"index": index.describe()}
        tool: dict[str, object] = {"name": "nasnet", "version": __version__}
        identity = {"tool": tool, "index": index.describe()}
        return cls(index, index.path.stat().st_mtime_ns, about, lambda: identity)

    @classmethod
    @contextmanager
    def of_images(cls, job: Job) -> Iterator[Search]:
        """Embed the images of a job into temporary files; yield their search."""
        from tempfile import gettempdir

        from nasnet_cli.jobs.rows import embedded_rows
        from nasnet_cli.results.atomic import open_existing
        from nasnet_cli.results.npy import write_stream
        from nasnet_cli.similarity.index import open_index
        from nasnet_cli.systems import temporary_files

        made = time.time_ns()
        with temporary_files(2) as (vectors, lines):
            rows = embedded_rows(job.rows(), job.spec)
            with (
                open_existing(vectors, gettempdir()) as stream,
                open_existing(lines, gettempdir()) as beside,
            ):
                depth = job.model.feature_depth
                write_stream(stream, beside, rows, depth, job.spec.dtype)
            about: dict[str, Section] = {**job.model.head()}
            yield cls(open_index(vectors, lines), made, about, lambda: job.spec.identity(job.model))


def report(
    search: Search,
    rules: Rules,
    null: bool,
    output: OutputOptions,
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
    from nasnet_cli.similarity.groups import Comparison, count_pairs
    from nasnet_cli.similarity.index import without_direction

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
    elif rules.dry_run and output.out is None:
        deque(groups, maxlen=0)  # which counts them
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
    copies = (copy for copy, kept in pairs if base.exists(kept))
    return _move(album, copies, console, dry_run=rules.dry_run)


def _move(album: Album, copies: Iterable[str], console: Console, *, dry_run: bool) -> int:
    """Move the copies to an album, or print which; return the exit code."""
    from nasnet_cli.albums.duplicates import destination

    plan = album.plan("move", ((copy, destination(copy)) for copy in copies))
    moved, problems = moving.carry_out(album, plan, console, dry_run=dry_run)
    skipped = f", {len(plan.skipped):,} skipped" if plan.skipped else ""
    failed = f", {problems:,} failed" if problems else ""
    done = "to be moved" if dry_run else "moved"
    console.note(f"{counted(moved, 'duplicate')} {done} to {album.name}{skipped}{failed}.")
    if moved and not dry_run:
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
