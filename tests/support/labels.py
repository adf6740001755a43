"""Result files with labels that a test chooses, as nasnet classify writes them."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from nasnet_cli.results.atomic import open_outputs
from nasnet_cli.results.formats import FORMATS, Results, format_by_ending
from nasnet_cli.results.meta import SECTIONS, meta_document
from nasnet_cli.results.records import Classified, Everyday, Failure, Prediction, Summary
from nasnet_cli.wordnet import load_hierarchy

GOLDEN, LABRADOR, DOG = "n02099601", "n02099712", "n02084071"
TABBY, BANANA, ANIMAL = "n02123045", "n07753592", "n00015388"
BIRD_CRANE, MACHINE_CRANE = "n02012849", "n03126707"
ALL_FORMATS = ("jsonl", "json", "csv", "parquet", "sqlite")


def labelled(
    path: str | Path, sure: str | None, *predictions: tuple[str, float], probability: float = 0.9
) -> Classified:
    """A row with WordNet ids: the everyday label's, and those of predictions, the best first."""
    return Classified(
        os.fspath(path),
        tuple(
            Prediction(rank, rank * 7, wnid, name(wnid), value)
            for rank, (wnid, value) in enumerate(predictions or [(sure or BANANA, 0.3)], start=1)
        ),
        sure=None if sure is None else Everyday(sure, name(sure), probability),
    )


def failed(path: str | Path) -> Classified:
    """A row with an error."""
    return Classified(os.fspath(path), None, Failure("truncated", "It is cut short, = 1."))


def name(wnid: str) -> str:
    """The class's name in WordNet; for what has no id, itself."""
    hierarchy = load_hierarchy()
    return hierarchy[wnid].name if wnid in hierarchy else wnid


def write_results(file: Path, rows: Iterable[Classified], *, logits: bool = False) -> Path:
    """Write a result file in the format of its ending, without the OUT.meta.json beside it."""
    rows = list(rows)
    format_ = format_by_ending(file)
    assert format_ is not None
    summary = Summary(len(rows), sum(row.error is None for row in rows))
    meta = meta_document(**{section: {} for section in SECTIONS[:-1]}, summary=summary.counts())
    results = Results("labels", lambda: iter(rows), summary, meta, logits=logits)
    with open_outputs(file, overwrite=True) as streams:
        FORMATS[format_].write(results, streams)
    return file
