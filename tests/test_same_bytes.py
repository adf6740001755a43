"""Files have the same bytes for any number of workers and any size of batches."""

from __future__ import annotations

import pytest

from nasnet_cli import load_model
from nasnet_cli.images.listing import list_sources
from nasnet_cli.images.source import SkipCounter
from nasnet_cli.jobs.outputs import Target
from nasnet_cli.jobs.run import run_to_files
from nasnet_cli.jobs.spec import JobSpec, RunOptions
from support.killing import contents, make_images


@pytest.fixture(scope="module")
def model(tiny_module, label_file):
    return load_model(tiny_module, labels=label_file)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """A folder of 90 images, one of them broken."""
    folder = tmp_path_factory.mktemp("photos")
    make_images(folder, 90)
    return folder


@pytest.mark.parametrize("labels", ["jsonl", "csv", "parquet", "sqlite"])
@pytest.mark.parametrize("vectors", ["npy", "parquet"])
def test_files_have_the_same_bytes(
    labels, vectors, model, photos, tiny_module, label_file, tmp_path
):
    if "parquet" in (labels, vectors):
        pytest.importorskip("pyarrow")
    work = JobSpec(("labels", "vectors"), model=str(tiny_module), labels=str(label_file), sure=0.3)

    def written(workers, batch_size):
        out = tmp_path / f"{workers}-{batch_size}"
        out.mkdir()
        targets = [
            Target("labels", labels, out / f"labels.{labels}"),
            Target("vectors", vectors, out / f"vectors.{vectors}"),
        ]
        sources = list_sources([str(photos)], skips=SkipCounter())
        options = RunOptions(workers=workers, batch_size=batch_size)
        assert run_to_files(work, model, sources, targets, options).ok == 89
        return contents(out)

    expected = written(1, 1)
    if labels not in ("parquet", "sqlite"):
        assert b"n02084071" in expected[f"labels.{labels}"]  # dog: some are sure of it
    for workers, batch_size in ((1, 64), (2, 7), (8, 1), (8, 64)):
        assert written(workers, batch_size) == expected
