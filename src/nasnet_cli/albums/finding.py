"""Find the images that show what a word stands for, in the labels of a finished run."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from nasnet_cli.errors import NasnetError
from nasnet_cli.results.reading import LabelFile
from nasnet_cli.search import Word

if TYPE_CHECKING:
    import sqlite3


class Hit(NamedTuple):
    """An image that shows the word with at least the probability asked for.

    sure has the fields of its everyday label, None without one.
    """

    path: str
    probability: float
    sure: tuple[str, str, float] | None


@dataclass
class Search:
    """A search for a word among the rows of a file; minimum in (0, 1] is the least probability.

    rows counts the file's rows, once all hits have been taken.
    """

    file: LabelFile
    word: Word
    minimum: float
    rows: int = 0
    _labels: set[tuple[str, str]] = field(default_factory=set)

    def hits(self) -> Iterator[Hit]:
        """Yield the hits in the order of the rows.

        Raises NasnetError, after the last row, for a word that is in no label.
        """
        found = self._select() if self.file.format == "sqlite" else self._scan()
        yield from found
        if self.word.is_known:
            return
        if not any(self.word.matches(wnid, label) for label, wnid in self._labels):
            raise self._unknown()

    def _scan(self) -> Iterator[Hit]:
        is_known = self.word.is_known
        for row in self.file.rows():
            self.rows += 1
            predictions = row.predictions or ()
            if not is_known:
                self._labels.update((found.label, found.wnid) for found in predictions)
                if row.sure:
                    self._labels.add((row.sure.label, row.sure.wnid))
            probability = self.word.probability(row.sure, predictions)
            if probability >= self.minimum:
                sure = row.sure
                own = None if sure is None else (sure.wnid, sure.label, sure.probability)
                yield Hit(row.path, probability, own)

    def _select(self) -> Iterator[Hit]:
        from nasnet_cli.results.sqlite import open_labels

        with self.file.errors(), open_labels(self.file.path) as database:
            (self.rows,) = database.execute("SELECT count(*) FROM images").fetchone()
            database.execute("CREATE TEMP TABLE wanted (label TEXT, wnid TEXT)")
            names = {*_pairs(database, "predictions"), *_pairs(database, "images", "sure_")}
            self._labels.update(names)
            wanted = [pair for pair in sorted(names) if self.word.matches(pair[1], pair[0])]
            database.executemany("INSERT INTO temp.wanted VALUES (?, ?)", wanted)
            for path, raw, found, *sure in database.execute(_HITS, {"min": self.minimum}):
                name = path if raw is None else os.fsdecode(raw)
                yield Hit(name, found, None if sure[0] is None else tuple(sure))

    def _unknown(self) -> NasnetError:
        nearest = ", ".join(self.word.nearest(label for label, _ in self._labels))
        return NasnetError(
            f"No label is called {self.word.word!r}.",
            f"The nearest: {nearest}." if nearest else "Try a more general word.",
        )


# CROSS JOIN keeps the order of the tables: the few wanted labels first, by the index.
_HITS = """
WITH known AS (
    SELECT image_id AS id, round(sum(probability), 6) AS found
    FROM temp.wanted CROSS JOIN predictions USING (label, wnid)
    GROUP BY image_id HAVING found >= :min
), sure AS (
    SELECT id, sure_probability AS found
    FROM temp.wanted CROSS JOIN images ON sure_label = label AND sure_wnid = wnid
    WHERE sure_probability >= :min
), best AS (
    SELECT id, max(found) AS found
    FROM (SELECT * FROM known UNION ALL SELECT * FROM sure) GROUP BY id
)
SELECT path, path_bytes, found, sure_wnid, sure_label, sure_probability
FROM best CROSS JOIN images USING (id) ORDER BY id
"""


def _pairs(database: sqlite3.Connection, table: str, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield the different pairs of a label and its WordNet id in a table.

    Each is looked up in the index behind the one before: SELECT DISTINCT would read all rows.
    """
    label, wnid = f"{prefix}label", f"{prefix}wnid"
    select, order = (
        f"SELECT {label}, {wnid} FROM {table} WHERE",
        f"ORDER BY {label}, {wnid} LIMIT 1",
    )
    same = f"{select} {label} = ? AND {wnid} > ? {order}"
    following = f"{select} {label} > ? {order}"
    pair = database.execute(f"{select} {label} IS NOT NULL {order}").fetchone()
    while pair is not None:
        yield pair
        pair = (
            database.execute(same, pair).fetchone()
            or database.execute(following, pair[:1]).fetchone()
        )
