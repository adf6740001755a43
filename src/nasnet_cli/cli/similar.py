"""nasnet similar: find the images of an index that are most similar to an image."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from nasnet_cli.cli import exits, neighbours, options, startup
from nasnet_cli.cli.console import Console
from nasnet_cli.cli.sections import command_with, gathered, option, path_option
from nasnet_cli.errors import NasnetError
from nasnet_cli.jobs.spec import JobSpec, RunOptions
from nasnet_cli.results.text import counted

if TYPE_CHECKING:
    from nasnet_cli.cli.run import Job
    from nasnet_cli.similarity.index import Index
    from nasnet_cli.similarity.numbers import Vectors


class Limits(NamedTuple):
    """The index, and which matches in it to show."""

    index_path: str
    top: int
    minimum: float


limit_options = gathered(
    "limits",
    Limits,
    path_option(
        "--index",
        "index_path",
        metavar="FILE",
        required=True,
        help="Index to search: FILE.npy of nasnet embed, with its .jsonl and .npy.meta.json.",
    ),
    option(
        "--top",
        type=options.COUNT,
        default=10,
        metavar="K",
        help="Number of matches per query.",
    ),
    option(
        "--min",
        "minimum",
        type=options.NumberRange(-1, 1),
        default=-1,
        metavar="C",
        help="Leave out matches with a lower cosine similarity.",
    ),
)


@command_with(
    "nasnet similar query.jpg --index vectors.npy",
    "nasnet similar queries/ --index vectors.npy --top 3 --out matches.csv",
    "nasnet similar other.npy --index vectors.npy --min 0.97",
)
@options.input_options
@limit_options
@options.output_options(neighbours.FORMATS)
@options.spec_options("vectors")
@options.speed_options
@options.console_options
def command(
    inputs: options.InputOptions,
    limits: Limits,
    output: options.OutputOptions,
    spec: JobSpec,
    run: RunOptions,
    console: Console,
) -> int:
    """Find the images most similar to an image.

    PATHS are the queries, named as in nasnet classify. Each is compared with every vector in the
    index by cosine similarity. The model must be the one that the index was made with; queries are
    preprocessed like its images. A query can also be the path of an image that is in the index but
    does not exist here, and PATHS can be one .npy file of vectors; then no model is run. Exit code:
    0 if every query has an answer, 3 if some have errors.
    """
    output.chosen_format(neighbours.FORMATS)  # a wrong one is reported before the work
    startup.limit_blas_threads()  # the search has threads of its own
    vectors = neighbours.named_vectors(inputs)
    from nasnet_cli.similarity.index import open_index

    index = open_index(limits.index_path)
    if vectors is not None:
        return _match_vectors(
            index, *_read_queries(vectors, index, console), limits, output, console
        )
    if not inputs.list_file and inputs.paths and not any(map(os.path.lexists, inputs.paths)):
        rows = index.find(inputs.paths)
        if rows is not None:
            import numpy as np

            neighbours.refuse_image_options(f"{inputs.paths[0]} is an image of {limits.index_path}")
            found = index.take(np.array(rows))
            return _match_vectors(index, found, inputs.paths, limits, output, console)
    return _match_images(index, limits, output, spec, inputs, run, console)


def _match_images(
    index: Index,
    limits: Limits,
    output: options.OutputOptions,
    spec: JobSpec,
    inputs: options.InputOptions,
    run: RunOptions,
    console: Console,
) -> int:
    """Write the matches of images, embedded as those of the index were; return the exit code."""
    from nasnet_cli.cli.run import Job
    from nasnet_cli.jobs.rows import embedded_rows
    from nasnet_cli.results.meta import meta_document
    from nasnet_cli.results.neighbours import MATCHED
    from nasnet_cli.similarity.nearest import similar

    index_meta = index.meta()
    made_with = index_meta["preprocessing"]
    settings = ("resize", "crop_fraction", "resample", "input_range", "channels")
    changes = {name: made_with[name] for name in settings if made_with.get(name) is not None}
    job = Job(spec._replace(preprocessing=changes), inputs, run, console)
    _check_same_model(job, index, index_meta)

    def meta() -> bytes:
        identity = job.spec.identity(job.model)
        identity["options"] = {**_settings(limits), "max_pixels": spec.max_pixels}
        return meta_document(**identity, summary=job.summary.counts())

    neighbours.write(
        MATCHED,
        similar(index, embedded_rows(job.rows(), job.spec), limits.top, limits.minimum),
        output,
        head={**job.model.head(), "index": index.describe()},
        summary=job.summary.counts,
        meta=meta,
    )
    return job.finish("looked up")


def _settings(limits: Limits) -> dict[str, object]:
    return {"index": limits.index_path, "top": limits.top, "min": limits.minimum}


def _match_vectors(
    index: Index,
    vectors: Vectors,
    names: Sequence[str],
    limits: Limits,
    output: options.OutputOptions,
    console: Console,
) -> int:
    """Write the matches of vectors [n, depth] with names; return the exit code."""
    from nasnet_cli import __version__
    from nasnet_cli.results.meta import meta_document
    from nasnet_cli.results.neighbours import MATCHED
    from nasnet_cli.results.records import Embedded
    from nasnet_cli.similarity.nearest import similar

    start = time.monotonic()
    head = {"index": index.describe()}
    summary = {"inputs": len(names), "ok": len(names), "failed": 0}
    tool = {"name": "nasnet", "version": __version__}
    neighbours.write(
        MATCHED,
        similar(index, map(Embedded, names, vectors), limits.top, limits.minimum),
        output,
        head=head,
        summary=lambda: summary,
        meta=lambda: meta_document(tool=tool, **head, options=_settings(limits), summary=summary),
    )
    seconds = time.monotonic() - start
    console.note(f"{counted(len(names), 'vector')} looked up; {seconds:.1f} s.")
    return exits.OK


def _read_queries(path: str, index: Index, console: Console) -> tuple[Vectors, list[str]]:
    """Return the vectors in a file and their names. Raises NasnetError for another model's."""
    from nasnet_cli.results.meta import meta_path
    from nasnet_cli.similarity.index import read_meta, read_vectors

    vectors, names = read_vectors(path)
    if vectors.shape[1] != index.depth:
        raise NasnetError(
            f"The vectors in {path} have {vectors.shape[1]:,} values, those in {index.path} "
            f"{index.depth:,}.",
            "Make both with the same model.",
        )
    if not meta_path(path).exists():
        console.note(f"{meta_path(path)} is missing: nothing says which model made {path}.")
        return vectors, names
    metas = [read_meta(path), index.meta()]
    for section in ("model", "preprocessing"):
        if metas[0][section]["digest"] != metas[1][section]["digest"]:
            raise NasnetError(
                f"{path} was made with another {section} than {index.path}.",
                "Make both with the same model and options.",
            )
    return vectors, names


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
