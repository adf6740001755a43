"""A finished output that a run with --resume brings up to date: whose it is, and its rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nasnet_cli.errors import OutputError, describe_error
from nasnet_cli.jobs.identity import (
    Identity,
    check_same_settings,
    same_but_older,
    with_earlier_versions,
)
from nasnet_cli.jobs.inputs import InputsRecord, file_digest, read_inputs
from nasnet_cli.jobs.outputs import Target
from nasnet_cli.jobs.rows import Row, from_records
from nasnet_cli.jobs.spec import JobSpec
from nasnet_cli.kept_files import parse_object
from nasnet_cli.results.formats import FORMATS
from nasnet_cli.results.meta import COMPANION_SUFFIXES, inputs_path, meta_path
from nasnet_cli.results.records import Summary

if TYPE_CHECKING:
    from nasnet_cli.jobs.state import State
    from nasnet_cli.model import Model

_REPLACE = "Use --overwrite to replace it, or name another file."


@dataclass(frozen=True)
class FinishedOutput:
    """A finished output whose files are as they were written.

    identity is the one to go on with, summary that of the run that wrote it.
    """

    targets: tuple[Target, ...]
    record: InputsRecord
    identity: Identity
    summary: Summary

    def rows(self, spec: JobSpec, model: Model) -> Iterator[tuple[bytes, Row]]:
        """Yield each row with the key of its input. Raises OutputError where they cannot be read."""
        main = self.targets[0].path
        with _reading_errors(main):
            readers = {t.kind: FORMATS[t.format].read(t.path, t.kind) for t in self.targets}
            columns = zip(self.record, *readers.values(), strict=True)
            for key, *records in columns:
                found = dict(zip(readers, records, strict=True))
                row = from_records(found.get("labels"), found.get("vectors"), spec, model)
                if row is not None:
                    yield key, row


class Comparison:
    """A finished output compared with the inputs, in order, as far as they are the same.

    At the first difference the state gets all of its rows, and answers from there on: copying them
    costs several times what reading them does. on_difference is called then.
    """

    def __init__(
        self,
        finished: FinishedOutput,
        state: State,
        rows: Callable[[], Iterator[tuple[bytes, Row]]],
        on_difference: Callable[[], None],
    ) -> None:
        self._finished, self._state, self._rows = finished, state, rows
        self._on_difference = on_difference
        self._unread: Iterator[tuple[bytes, Row]] | None = rows()
        self._same = 0

    def take(self, position: int, key: bytes, path: str) -> Row | None:
        """Return the finished row of a key and put it at a position of the output, or None."""
        if self._unread is not None:
            found, row = next(self._unread, (None, None))
            if found == key:
                self._same += 1
                return row
            self.end()
        return self._state.take(position, key, path)

    def take_below(self, position: int, folder: str) -> list[Row]:
        """Return the rows below a folder as State.take_below does."""
        self.end()
        return self._state.take_below(position, folder)

    def count_below(self, path: str) -> int:
        """Return how many rows State.count_below counts."""
        self.end()
        return self._state.count_below(path)

    def is_current(self, summary: Summary) -> bool:
        """Return whether the output has what the run would write: asked once, after all inputs."""
        if self._finished.summary.counts() != summary.counts():
            return False
        if self._unread is not None and next(self._unread, None) is None:
            return True
        self.end()
        return self._state.is_as_adopted

    def end(self) -> None:
        """Give the state the rows, if it does not have them."""
        if self._unread is not None:
            self._unread = None
            self._state.adopt(self._rows(), self._finished.identity, self._same)
            self._on_difference()


def find_finished(
    targets: Sequence[Target],
    identity: Identity,
    *,
    accept_versions: bool,
    note: Callable[[str], None],
) -> FinishedOutput | None:
    """Return the finished output in the files of the targets; None where there is nothing to keep.

    identity is that of the run. Raises NasnetError where a file is another job's, has changed or
    does not say whose it is: a run with --resume replaces nothing else than its own output.
    """
    main = targets[0].path
    files = [path for target in targets for path in target.files()]
    there = [path for path in files if path.exists()]
    if all(path.name.endswith(COMPANION_SUFFIXES) for path in there):
        return None
    if not inputs_path(main).exists():
        _check_without_record(targets, identity)
        note(f"{inputs_path(main)} is missing, so all images are processed again.")
        return None
    record = read_inputs(inputs_path(main))
    _check_unchanged(files, there, record)
    if missing := [path for path in files if path not in there]:
        note(f"{missing[0]} is missing, so all images are processed again.")
        return None
    found = None
    for target in targets:
        meta = _read_meta(target)
        summary = Summary.from_counts(meta.pop("summary"))
        old = {**meta, "formats": record.formats, "run": {"check": record.check}}
        check_same_settings(old, identity, str(target.path), accept_versions=accept_versions)
        if found is None:
            merged = with_earlier_versions(identity, old)
            found = FinishedOutput(tuple(targets), record, merged, summary)
    return found


def _check_unchanged(files: Sequence[Path], there: Sequence[Path], record: InputsRecord) -> None:
    """Raise OutputError unless the files that are there are those that a record lists."""
    digests = dict(zip(files, record.files, strict=False))
    for path in there:
        with _reading_errors(path):
            if file_digest(path) != digests.get(path):
                raise OutputError(f"{path} has changed since nasnet wrote it.", _REPLACE)


def _check_without_record(targets: Sequence[Target], identity: Identity) -> None:
    """Raise OutputError unless files without a record are the same job's, of an earlier version."""
    for target in targets:
        path, *beside = target.files(with_meta=False)
        for companion in beside:
            # Labels have the name of the lines beside vectors, and a description of their own.
            if companion.exists() and (meta_path(companion).exists() or not path.exists()):
                raise OutputError(f"{companion} is not the output of this job.", _REPLACE)
        if path.exists():
            check_same_settings(*same_but_older(_read_meta(target), identity), str(path))


def _read_meta(target: Target) -> dict[str, Any]:
    try:
        fields = {"tool": dict, "summary": dict}
        meta = parse_object(FORMATS[target.format].read_meta(target.path), fields)
        sections = [meta.get(name, {}) for name in ("runtime", "model", "preprocessing", "options")]
        is_ours = meta["tool"].get("name") == "nasnet" and all(type(s) is dict for s in sections)
        if is_ours and Summary.from_counts(meta["summary"]).inputs > 0:
            return meta
    except (OSError, ValueError):
        pass
    raise OutputError(f"{target.path} does not say how it was made.", _REPLACE)


def check_replaceable(targets: Sequence[Target], digests: set[str]) -> None:
    """Raise OutputError unless the files of the targets have one of these SHA-256."""
    for target in targets:
        for path in target.files(with_meta=False):
            with _reading_errors(path):
                if path.exists() and file_digest(path) not in digests:
                    raise OutputError(f"{path} is not the output of this job.", _REPLACE)


@contextmanager
def _reading_errors(path: Path) -> Iterator[None]:
    """Turn errors of reading an output back into OutputError."""
    try:
        yield
    except OSError as error:
        raise OutputError(f"Cannot read {path}: {error.strerror}.", _REPLACE) from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        reason = describe_error(error)
        raise OutputError(f"{path} cannot be read back: {reason}.", _REPLACE) from error
