"""A run of a command over inputs: what classify and embed have in common."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from nasnet_cli.cli.console import Console
from nasnet_cli.cli.fetching import ConsoleListener
from nasnet_cli.cli.inputs import Inputs
from nasnet_cli.cli.main import EXIT_SOME_FAILED
from nasnet_cli.errors import NasnetError
from nasnet_cli.results.records import Failure, Summary
from nasnet_cli.timings import Timings

if TYPE_CHECKING:
    from nasnet_cli.model import How, Model
    from nasnet_cli.runtime.base import Output


class Row(Protocol):
    """What every kind of record has."""

    @property
    def path(self) -> str: ...
    @property
    def error(self) -> Failure | None: ...


AnyRow = TypeVar("AnyRow", bound=Row)


class Job:
    """The inputs, the model and the counts of one run. given is the command's options by name."""

    def __init__(self, paths: tuple[str, ...], given: dict[str, Any]) -> None:
        self.start = time.monotonic()
        self.given = given
        self.console = Console(quiet=given["quiet"], verbose=given["verbose"])
        self.inputs = Inputs(
            paths,
            given["list_file"],
            recursive=given["recursive"],
            max_bytes=given["max_bytes"],
        )
        self.summary = Summary()
        self.timings = Timings()

    @cached_property
    def model(self) -> Model:
        """The model that was asked for, introduced on standard error if it is the built-in one."""
        from nasnet_cli.model import load_model

        names = ("resize", "crop_fraction", "resample")
        changes = {name: self.given[name] for name in names if self.given[name] is not None}
        with ConsoleListener(self.console) as listener:
            model = load_model(
                self.given["model"],
                labels=self.given.get("labels"),
                preprocessing=changes,
                runtime=self.given["runtime"],
                precision=self.given["precision"],
                allow_unsafe_ops=self.given["allow_unsafe_ops"],
                listener=listener,
            )
        card = model.module.card
        if model.is_builtin and card is not None and card.accuracy is not None:
            self.console.note(
                f"Built-in model: {model.module.classes} of ImageNet's classes, "
                f"{100 * card.accuracy['top1']:.0f} % right on {card.accuracy['dataset']}'s "
                "validation pictures. For ImageNet's thousand: --model imagenet-mobile."
            )
        return model

    @property
    def how(self) -> How:
        """What a run of the model needs to know beside what is asked of it."""
        from nasnet_cli.images.load import Limits

        return {
            "workers": self.given["workers"],
            "batch_size": self.given["batch_size"],
            "limits": Limits(self.given["max_pixels"], self.given["max_bytes"]),
            "timings": self.timings,
        }

    def tally(self, rows: Iterable[AnyRow]) -> Iterator[AnyRow]:
        """The rows, counted, with a bar of progress. Raises NasnetError if there was none."""
        summary, inputs = self.summary, self.inputs
        count = inputs.count if inputs.can_be_counted else None
        rows_are_shown = self.given["out"] is None and sys.stdout.isatty()
        for row in self.console.progress(rows, count, rows_are_shown=rows_are_shown):
            summary.inputs += 1
            if row.error is None:
                summary.ok += 1
            else:
                summary.failed += 1
                self.console.detail(f"{row.path}: {row.error.message}")
            yield row
        summary.passed_over = inputs.listing.passed_over
        if not summary.inputs:
            raise NasnetError(
                f"There is no picture in {inputs.in_words}.",
                "Name pictures, or folders that have some.",
            )

    def finish(self, done: str) -> int:
        """Says how it went, in which ok inputs are done (a word), and gives the exit status."""
        summary = self.summary
        summary.seconds = time.monotonic() - self.start
        parts = [f"{summary.ok:,} {done}"]
        if summary.failed:
            parts.append(f"{summary.failed:,} with errors")
        if summary.passed_over:
            files = "file" if summary.passed_over == 1 else "files"
            parts.append(f"{summary.passed_over:,} other {files} passed over")
        pictures = "picture" if summary.inputs == 1 else "pictures"
        rate = summary.inputs / summary.seconds
        self.console.note(
            f"{summary.inputs:,} {pictures}: {', '.join(parts)}; "
            f"{summary.seconds:.1f} s, {rate:.0f} a second."
        )
        if self.console.verbose:
            from nasnet_cli.runtime.base import available_cores

            for line in self.timings.table(available_cores()):
                self.console.detail(line)
        return EXIT_SOME_FAILED if summary.failed else 0

    def preprocessing(self) -> dict[str, Any]:
        """How pictures were preprocessed, with its digest, for a result file."""
        how = self.model.preprocessing
        return {**how.to_dict(), "digest": how.digest()}

    def meta(self, outputs: Sequence[Output], options: Sequence[str]) -> bytes:
        """What stands beside a result. options are those that the result depends on."""
        from nasnet_cli import __version__
        from nasnet_cli.results.meta import meta_document

        runtime = self.model.runtime(outputs)
        return meta_document(
            tool={"name": "nasnet", "version": __version__},
            runtime={
                "name": runtime.name,
                "version": runtime.version,
                "precision": runtime.precision,
                "instruction_set": runtime.instruction_set,
            },
            model=self.model.describe(),
            preprocessing=self.preprocessing(),
            options={name: self.given[name] for name in options},
            summary=self.summary.counts(),
        )
