"""nasnet similar: find the images of an index that are most similar to an image."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from nasnet_cli.cli import neighbours, options
from nasnet_cli.cli.console import Console
from nasnet_cli.cli.run import Job
from nasnet_cli.cli.sections import command_with, option
from nasnet_cli.errors import NasnetError
from nasnet_cli.jobs.run import RunOptions
from nasnet_cli.jobs.spec import JobSpec

if TYPE_CHECKING:
    from nasnet_cli.similarity import Index


@command_with(
    "nasnet similar query.jpg --index vectors.npy",
    "nasnet similar queries/ --index vectors.npy --top 3 --out matches.csv",
    "nasnet similar query.jpg --index vectors.npy --model imagenet-mobile",
)
@options.input_options
@option(
    "--index",
    "index_path",
    type=click.Path(),
    metavar="FILE",
    required=True,
    help="Index to search: FILE.npy of nasnet embed, with its .jsonl and .npy.meta.json.",
)
@option(
    "--top",
    type=options.COUNT,
    default=10,
    metavar="K",
    help="Number of matches per query.",
)
@options.output_options(neighbours.FORMATS)
@options.spec_options("vectors")
@options.speed_options
@options.console_options
def command(
    inputs: options.InputOptions,
    index_path: str,
    top: int,
    output: options.OutputOptions,
    spec: JobSpec,
    run: RunOptions,
    console: Console,
) -> int:
    """Find the images most similar to an image.

    PATHS are the queries, named as in nasnet classify. Each is compared with every vector in the
    index by cosine similarity. The model must be the one that the index was made with; queries are
    preprocessed like its images. Exit code: 0 if every query has an answer, 3 if some have errors.
    """
    output.chosen_format(neighbours.FORMATS)  # a wrong one is reported before the work
    from nasnet_cli.jobs.rows import embedded_rows
    from nasnet_cli.results.meta import meta_document
    from nasnet_cli.results.neighbours import MATCHED
    from nasnet_cli.similarity import open_index, similar

    index = open_index(index_path)
    index_meta = index.meta()
    made_with = index_meta["preprocessing"]
    settings = ("resize", "crop_fraction", "resample")
    changes = {name: made_with[name] for name in settings if made_with.get(name) is not None}
    job = Job(replace(spec, preprocessing=changes, top=top), inputs, run, console)
    _check_same_model(job, index, index_meta)

    def meta() -> bytes:
        identity = job.spec.identity(job.model)
        identity["options"] = {"index": index_path, "top": top, "max_pixels": spec.max_pixels}
        return meta_document(**identity, summary=job.summary.counts())

    neighbours.write(
        MATCHED,
        similar(index, embedded_rows(job.rows(), job.spec), top),
        output,
        head={**job.model.head(), "index": index.describe()},
        summary=job.summary.counts,
        meta=meta,
    )
    return job.finish("looked up")


def _check_same_model(job: Job, index: Index, index_meta: dict[str, Any]) -> None:
    """Raise NasnetError unless model and preprocessing are those of the index."""
    if job.model.module.digest != index_meta["model"]["digest"]:
        name = index_meta["model"].get("location")
        raise NasnetError(
            f"{index.path} was made with another model: {name}.",
            "Name that one with --model, or make the vectors again with nasnet embed.",
        )
    try:
        digest = job.model.describe_preprocessing()["digest"]
    except ValueError:
        digest = None
    if digest != index_meta["preprocessing"]["digest"]:
        raise NasnetError(
            f"{index.path} was made with a preprocessing that this version does not have.",
            "Make the vectors again with nasnet embed.",
        )
