"""The table of classify, for people: on a terminal in colour, in a pipe as plain text.

    photos/cat.jpg      cat 81.4 %        tiger cat          ████████████▎  61.0 %
                                          tabby              ███▋           18.2 %

The columns' widths depend on the terminal alone, so each image is shown as soon as it is finished.
After more than a few images, their labels are summed up.
Every name passes through printable(), so that none brings a control character to the terminal, and
rich does not interpret markup in it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TextIO

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from nasnet_cli.results.records import Classified, Everyday, Prediction
from nasnet_cli.results.text import printable
from nasnet_cli.wordnet import load_hierarchy

_MIN_WIDTH, _MAX_WIDTH = 40, 200
_MIN_WIDTH_FOR_ALL = 50
# In narrower terminals, paths have lines of their own above the labels.
_MIN_WIDTH_FOR_PATHS = 60
_MAX_MESSAGE_LINES = 4
_GAP = 2
_NOT_SURE = "not sure"
# Rows that are seen at a glance; more are summed up in the end, by so many labels.
_FEW_ROWS, _SUMMED_LABELS = 20, 10


@dataclass(frozen=True)
class _Signs:
    """The characters of the table. eighths are a cell filled by 1/8 … 7/8."""

    full: str
    eighths: str
    rule: str
    dots: str


_BLOCKS = _Signs(full="█", eighths="▏▎▍▌▋▊▉", rule="─", dots="…")
_ASCII = _Signs(full="#", eighths="", rule="-", dots="~")


@dataclass(frozen=True)
class _Widths:
    """The columns' widths in terminal cells. path is 0 where paths have lines of their own."""

    path: int
    sure: int
    label: int
    bar: int
    percent: int
    logit: int

    @classmethod
    def within(cls, width: int, *, logits: bool, everyday: bool) -> _Widths:
        """Return the widths within a width: bars get up to a quarter, path and labels the rest."""
        width = max(_MIN_WIDTH, min(_MAX_WIDTH, width))
        # Between a path, bars and logits there is no space for it.
        everyday = everyday and not (logits and width < _MIN_WIDTH_FOR_ALL)
        percent, logit = 7, 8 * logits
        # In a narrow terminal, names need the space more than bars do.
        bar = max(2 if logits else 5, min(24, (width - 20) // 4 - logit // 2))
        if everyday:
            bar = min(bar, max(2, (width - 40) // 5))
        left = width - percent - bar - 3 * _GAP - (logit + _GAP if logits else 0)
        sure = max(len(_NOT_SURE), (left - _GAP) // 3) if everyday else 0
        left -= sure and sure + _GAP
        path = left * 11 // 20 if width >= _MIN_WIDTH_FOR_PATHS else 0
        return cls(path, sure, left - path, bar, percent, logit)

    @property
    def all(self) -> int:
        """The width of the table."""
        return self.path + _GAP + self.beside_path

    @property
    def beside_path(self) -> int:
        """The width from the first cell after the path's column to the table's last."""
        columns = [self.sure, self.label, self.bar, self.percent, self.logit]
        return sum(width + _GAP for width in columns if width) - _GAP


class TableWriter:
    """A writer of rows to a text stream, for people.

    On a terminal in colour (NO_COLOR is honoured), else plain, as wide as the terminal or 80
    cells; width, in cells, overrides that. Widths are limited to 40 … 200. logits and everyday (the
    everyday label) add a column.
    """

    def __init__(
        self,
        stream: TextIO,
        *,
        width: int | None = None,
        logits: bool = False,
        everyday: bool = False,
    ) -> None:
        self._console = Console(file=stream, width=width, highlight=False, markup=False)
        # A latin-1 or ASCII terminal can show neither blocks nor most names.
        self._is_unicode = self._console.encoding.lower().startswith("utf")
        self._signs = _BLOCKS if self._is_unicode else _ASCII
        self._widths = _Widths.within(self._console.width, logits=logits, everyday=everyday)
        # A terminal shows the header again on each of its pages.
        self._page = max(10, self._console.height - 1) if self._console.is_terminal else 0
        self._lines = 0
        self._counts: Counter[str] = Counter()
        self._has_everyday = everyday

    def write(self, row: Classified) -> None:
        """Show one input: a line per prediction, or the error in red."""
        lines = self._error_lines(row) if row.error else self._prediction_lines(row)
        if not self._widths.path:
            width = self._widths.all
            path = _shorten_path(self._displayed(row.path), width, self._signs.dots)
            lines = [Text(_pad(path, width), "red" if row.error else ""), *lines]
        if not self._lines or (self._page and self._lines + len(lines) > self._page):
            lines = [*self._header(), *lines]
            self._lines = 0
        self._lines += len(lines)
        self._counts[self._main_label(row)] += 1
        self._print(lines)

    def finish(self, summary: Mapping[str, object]) -> None:
        """Sum up the labels of more than a few rows; the command prints the counts of errors."""
        if self._counts.total() > _FEW_ROWS:
            self._print(list(self._sums()))

    def _print(self, lines: Iterable[Text]) -> None:
        self._console.print(Text("\n").join(lines), soft_wrap=True)

    def _main_label(self, row: Classified) -> str:
        if row.error is not None:
            return "error"
        if self._has_everyday:
            return _NOT_SURE if row.sure is None else _display_name(row.sure.wnid, row.sure.label)
        if not row.predictions:
            return "no label"
        return _display_name(row.predictions[0].wnid, row.predictions[0].label)

    def _sums(self) -> Iterator[Text]:
        """Return a line for each of the commonest labels, with a bar for the images that have it."""
        width = self._widths.all
        bar = min(24, width // 4)
        label = min(40, width - bar - 2 * _GAP - 8)
        total, counts = self._counts.total(), self._counts.most_common(_SUMMED_LABELS)
        others = total - sum(count for _, count in counts)
        title = "Sure of" if self._has_everyday else "Label"
        yield Text()
        yield Text(f"{_pad(title, label)}{' ' * (bar + 2 * _GAP)}{'Images':>8}", "bold")
        yield Text(self._signs.rule * (label + bar + 2 * _GAP + 8), "dim")
        for name, count in counts:
            shown = _pad(_shorten(self._displayed(name), label, self._signs.dots), label)
            filled = _pad(_bar(count / total, bar, self._signs), bar)
            yield Text.assemble(shown, " " * _GAP, (filled, "green"), f"{count:{_GAP + 8},}")
        if others:
            rest = f"{len(self._counts) - len(counts):,} others"
            yield Text(f"{_pad(rest, label + bar + 2 * _GAP)}{others:8,}", "dim")
        yield Text()

    def _header(self) -> list[Text]:
        widths = self._widths
        titles = [_pad("Image", widths.path) if widths.path else ""]
        if widths.sure:
            titles.append(_pad("Sure of", widths.sure))
        titles.append(_pad("Label", widths.label))
        titles.append("Probability".rjust(widths.bar + _GAP + widths.percent))
        if widths.logit:
            titles.append("Logit".rjust(widths.logit))
        rule = self._signs.rule * widths.all
        above = [] if widths.path else [Text(_pad("Image", widths.all), "bold")]
        return [*above, Text((" " * _GAP).join(titles), "bold"), Text(rule, "dim")]

    def _prediction_lines(self, row: Classified) -> list[Text]:
        gap = " " * _GAP
        start = Text(self._path(row.path))
        if self._widths.sure:
            start = Text.assemble(start, gap, self._everyday(row.sure))
        if not row.predictions:
            return [Text.assemble(start, gap, ("nothing above the threshold", "dim"))]
        lines = []
        for prediction in row.predictions:
            lines.append(Text.assemble(start, gap, self._prediction(prediction)))
            start = Text(" " * start.cell_len)
        return lines

    def _everyday(self, sure: Everyday | None) -> Text:
        width = self._widths.sure
        if sure is None:
            return Text(_pad(_NOT_SURE, width), "dim")
        percent = f" {_percent(sure.probability)}"
        name = self._displayed(_display_name(sure.wnid, sure.label))
        if cell_len(name) + len(percent) > width:  # the name needs the space more
            percent = ""
        name = _shorten(name, width, self._signs.dots)
        return Text.assemble((name, "bold"), _pad(percent, width - cell_len(name)))

    def _prediction(self, prediction: Prediction) -> Text:
        widths, best = self._widths, prediction.rank == 1
        name = self._displayed(_display_name(prediction.wnid, prediction.label))
        label = _shorten(name, widths.label, self._signs.dots)
        bar = _pad(_bar(prediction.probability, widths.bar, self._signs), widths.bar)
        parts = [
            (_pad(label, widths.label), "bold" if best else ""),
            (bar, "green" if best else "cyan"),
            (_percent(prediction.probability).rjust(widths.percent), "bold" if best else ""),
        ]
        if widths.logit:
            logit = "" if prediction.logit is None else f"{prediction.logit:.3f}"
            parts.append((logit.rjust(widths.logit), ""))
        return Text(" " * _GAP).join(Text(*part) for part in parts)

    def _error_lines(self, row: Classified) -> list[Text]:
        assert row.error is not None
        message = Text(f"{row.error.kind}: {self._displayed(row.error.message)}")
        lines = list(message.wrap(self._console, self._widths.beside_path, overflow="fold"))
        if len(lines) > _MAX_MESSAGE_LINES:
            last = _MAX_MESSAGE_LINES - 1
            room = self._widths.beside_path - 1
            lines[last:] = [Text(_clip(lines[last].plain, room) + self._signs.dots)]
        starts = [self._path(row.path)] + [" " * self._widths.path] * (len(lines) - 1)
        return [
            Text(start + " " * _GAP + line.plain.rstrip(), "red")
            for start, line in zip(starts, lines, strict=True)
        ]

    def _path(self, path: str) -> str:
        width = self._widths.path
        if not width:
            return ""
        return _pad(_shorten_path(self._displayed(path), width, self._signs.dots), width)

    def _displayed(self, name: str) -> str:
        name = printable(name)
        if self._is_unicode:
            return name
        encoding = self._console.encoding
        return name.encode(encoding, "backslashreplace").decode(encoding)


def _display_name(wnid: str, label: str) -> str:
    # Two cranes are told apart here, where no id stands beside them.
    return load_hierarchy().display_name(wnid, label) if wnid else label


def _percent(probability: float) -> str:
    if not math.isfinite(probability):
        return "?"
    return "< 0.1 %" if 0 < probability < 0.0005 else f"{probability:.1%}".replace("%", " %")


def _bar(probability: float, cells: int, signs: _Signs) -> str:
    """Return a bar that fills the cells at 1; any probability over 0 shows. NaN has no bar."""
    steps = len(signs.eighths) + 1
    if not probability > 0:
        return ""
    full, part = divmod(max(1, round(min(probability, 1.0) * cells * steps)), steps)
    return signs.full * full + (signs.eighths[part - 1] if part else "")


def _pad(text: str, cells: int) -> str:
    return text + " " * (cells - cell_len(text))


def _shorten_path(path: str, cells: int, dots: str) -> str:
    """Return path within a number of cells; the file's name is kept."""
    folder, slash, name = path.rpartition("/")
    room = cells - cell_len(f"{dots}/{name}")
    if cell_len(path) <= cells:
        return path
    if slash and room >= 0:
        return f"{_clip(folder, room)}{dots}/{name}"
    return _shorten(name, cells, dots)


def _shorten(text: str, cells: int, dots: str) -> str:
    """Return text within a number of cells; its beginning and its end are kept."""
    if cell_len(text) <= cells:
        return text
    room = cells - cell_len(dots)
    return _clip(text, room - room // 2) + dots + _clip(text[::-1], room // 2)[::-1]


def _clip(text: str, cells: int) -> str:
    """Return the longest beginning of text within a number of cells."""
    text = text[: 4 * cells]
    while cell_len(text) > cells:
        text = text[:-1]
    return text
