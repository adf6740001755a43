"""nasnet embed: turn images into feature vectors."""

from __future__ import annotations

from nasnet_cli.cli import large_options, options
from nasnet_cli.cli.console import Console
from nasnet_cli.cli.sections import command_with
from nasnet_cli.jobs.spec import JobSpec, RunOptions
from nasnet_cli.results.formats import formats_of

FORMATS = formats_of("vectors")


@command_with(
    "nasnet embed photos/ --out vectors.npy",
    "nasnet embed photos/ --out vectors.parquet --normalize --dtype float16",
    "nasnet embed photos/ --out vectors/ --shards 100",
)
@options.input_options
@options.output_options(
    FORMATS,
    "Write to FILE: .npy, .npz or .parquet. Files appear only when complete.",
    default_format="from FILE's extension; with shards, npy",
    required=True,
)
@options.spec_options("vectors", *options.vector_options, *options.preprocessing_options)
@large_options.run_options
@large_options.shard_options
@options.console_options
def command(
    inputs: options.InputOptions,
    output: options.OutputOptions,
    spec: JobSpec,
    run: RunOptions,
    shards: large_options.ShardOptions,
    console: Console,
) -> int:
    """Turn images into feature vectors.

    PATHS are as in nasnet classify. The result is an array [N, depth]. FILE.npy can be
    memory-mapped by numpy.load; FILE.jsonl beside it has a line for each input with its path,
    status and row. An input with an error has a line but no row. FILE.npz holds the arrays vectors
    and paths. FILE.parquet has a row for each input, with the vector as a list of fixed size. Exit
    code: 0 if every input has a vector, 3 if some have errors.
    """
    from nasnet_cli.cli.run import Job, vector_target

    job = Job(spec, inputs, run, console)
    if shards.wanted:
        from nasnet_cli.cli.sharded import run_sharded

        return run_sharded(job, output, shards)
    assert output.out is not None  # it is required
    vectors_target = vector_target(output.out, output.named_format(FORMATS))
    job.write([vectors_target], overwrite=output.overwrite)
    return job.finish("embedded")
