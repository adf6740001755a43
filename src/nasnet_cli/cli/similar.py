"""nasnet similar: which pictures of an index are most like a picture."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from nasnet_cli.cli import neighbours, options
from nasnet_cli.cli.run import Job
from nasnet_cli.errors import NasnetError

if TYPE_CHECKING:
    from nasnet_cli.similarity import Index


@click.command()
@options.input_options
@click.option(
    "--index",
    type=click.Path(),
    metavar="FILE",
    required=True,
    help="Where to look: FILE.npy of nasnet embed, with its .jsonl and .npy.meta.json.",
)
@options.model_option
@click.option(
    "--top",
    type=click.IntRange(min=1),
    default=10,
    show_default=True,
    metavar="K",
    help="How many pictures for each query.",
)
@neighbours.format_option
@options.output_options
@options.runtime_options
@options.run_options
def command(paths: tuple[str, ...], **given: Any) -> int:
    """Find the pictures that are most like a picture.

    PATHS are the queries, named as in classify. Each is compared with every vector in the index,
    by the cosine. The model must be the one that the index was made with; queries are
    preprocessed as its pictures were. Exits with 0 when every query has an answer and with 3 when
    some have an error.
    """
    neighbours.chosen_format(given)  # a wrong one is known before the work
    from nasnet_cli.results.neighbours import MATCHED
    from nasnet_cli.similarity import open_index, similar

    index = open_index(given["index"])
    made_by = index.meta()
    how = {
        name: made_by["preprocessing"].get(name) for name in ("resize", "crop_fraction", "resample")
    }
    job = Job(paths, {**given, **how}, ("vectors",))
    _check(job, index, made_by)
    job.open_ahead()
    queries = job.model.embed_sources(job.inputs.sources(), **job.how)
    neighbours.write(
        MATCHED,
        job.tally(similar(index, queries, given["top"])),
        given,
        head={
            "model": job.model.describe(),
            "preprocessing": job.model.describe_preprocessing(),
            "index": index.describe(),
        },
        tail=lambda: {"summary": job.summary.counts()},
        meta=lambda: _meta(job),
    )
    return job.finish("looked up")


def _meta(job: Job) -> bytes:
    """What stands beside the answers in a file."""
    from nasnet_cli.results.meta import meta_document

    identity = job.work.identity(job.model)
    identity["options"] = {name: job.given[name] for name in ("index", "top", "max_pixels")}
    return meta_document(**identity, summary=job.summary.counts())


def _check(job: Job, index: Index, made_by: dict[str, Any]) -> None:
    """Raises NasnetError unless model and preprocessing are those that the index was made with."""
    if job.model.module.digest != made_by["model"]["digest"]:
        name = made_by["model"].get("location")
        raise NasnetError(
            f"{index.path} was made with another model: {name}.",
            "Name that one with --model, or make the vectors again with nasnet embed.",
        )
    try:
        is_same = job.model.describe_preprocessing()["digest"] == made_by["preprocessing"]["digest"]
    except ValueError:
        is_same = False
    if not is_same:
        raise NasnetError(
            f"{index.path} was made with a preprocessing that this version doesn't have.",
            "Make the vectors again with nasnet embed.",
        )
