"""Parquet files of a job, written in row groups so that memory stays flat."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from nasnet_cli.errors import NasnetError
from nasnet_cli.results.records import Classified, Embedded, Failure, recorded_path, row_members
from nasnet_cli.results.text import undecodable

if TYPE_CHECKING:
    import pyarrow as pa

    from nasnet_cli.results.npy import Shape

ROWS = 4096
"""Rows in a row group: fixed, so that the bytes are."""

META_KEY = "nasnet"
"""The key of the file's metadata that holds the content of OUT.meta.json."""


def require() -> None:
    """Raise NasnetError, with what to install, if pyarrow is missing."""
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError:
        raise NasnetError(
            "Parquet files need the package pyarrow, which is not installed.",
            "Install it with: pip install 'nasnet-cli[parquet]'.",
        ) from None


def write_labels(
    stream: BinaryIO, rows: Iterator[Classified], meta: bytes, *, logits: bool
) -> None:
    """Write a row for each input: path, path_bytes, status, error, predictions (best first), sure."""
    import pyarrow as pa

    schema = _labels_schema(meta, logits=logits, sure=True)
    with _writer(stream, schema) as writer:
        while block := list(islice(rows, ROWS)):
            values = [{**row.to_dict(), "path_bytes": undecodable(row.path)} for row in block]
            writer.write_table(pa.Table.from_pylist(values, schema), row_group_size=ROWS)


def write_vectors(stream: BinaryIO, rows: Iterator[Embedded], shape: Shape, meta: bytes) -> None:
    """Write a row for each input, its vector as a list of fixed size; null with an error."""
    import numpy as np
    import pyarrow as pa

    schema = _vectors_schema(meta, pa.from_numpy_dtype(shape.numbers), shape.depth)
    nothing = np.zeros(shape.depth, shape.numbers)
    with _writer(stream, schema) as writer:
        while block := list(islice(rows, ROWS)):
            numbers = np.concatenate([nothing if r.vector is None else r.vector for r in block])
            failed = pa.array([row.vector is None for row in block])
            vectors = pa.FixedSizeListArray.from_arrays(
                pa.array(numbers), type=schema.field("vector").type, mask=failed
            )
            values = [
                {**row_members(row.path, row.error), "path_bytes": undecodable(row.path)}
                for row in block
            ]
            table = pa.Table.from_pylist(values, _schema(meta))
            table = table.append_column(schema.field("vector"), vectors)
            writer.write_table(table, row_group_size=ROWS)


def join(stream: BinaryIO, files: Iterator[Path], meta: bytes) -> None:
    """Write the rows of files that were written here, with the bytes of one file of all rows."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    first = next(files)
    # Not the file's own schema: Parquet names the items of a list differently from Arrow.
    schema = _schema_like(pq.read_schema(first), meta)
    rest = schema.empty_table()
    with _writer(stream, schema) as writer:
        for file in chain([first], files):
            for rows in pq.ParquetFile(file).iter_batches(ROWS):
                rest = pa.concat_tables([rest, pa.Table.from_batches([rows]).cast(schema)])
                if rest.num_rows >= ROWS:
                    writer.write_table(rest.slice(0, ROWS), row_group_size=ROWS)
                    rest = rest.slice(ROWS)
        if rest.num_rows:
            writer.write_table(rest, row_group_size=ROWS)


def read_meta(path: str | os.PathLike[str]) -> bytes:
    """Return the description in a file that was written here.

    Raises OSError, ValueError or KeyError.
    """
    require()
    import pyarrow.parquet as pq

    meta: bytes = (pq.read_metadata(path).metadata or {})[META_KEY.encode()]
    return meta


def read_vectors(path: str | os.PathLike[str]) -> Iterator[Embedded]:
    """Yield the rows of a file of write_vectors. Raises OSError, ValueError or KeyError."""
    require()
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(ROWS):
            column = batch.column("vector")
            # Without the rows that have none.
            vectors = iter(column.flatten().to_numpy().reshape(-1, column.type.list_size))
            columns = (batch.column(name).to_pylist() for name in ("path", "path_bytes", "error"))
            for name, raw, error in zip(*columns, strict=True):
                shown = recorded_path({"path": name, "path_bytes": raw})
                if error is None:
                    yield Embedded(shown, next(vectors))
                else:
                    yield Embedded(shown, None, Failure(**error))


def _labels_schema(meta: bytes, *, logits: bool, sure: bool) -> pa.Schema:
    import pyarrow as pa

    everyday = {"wnid": pa.string(), "label": pa.string(), "probability": pa.float64()}
    prediction = {
        "rank": pa.int32(),
        "index": pa.int32(),
        **everyday,
        **({"logit": pa.float64()} if logits else {}),
    }
    fields = {"predictions": pa.list_(pa.struct(list(prediction.items())))}
    if sure:
        fields["sure"] = pa.struct(list(everyday.items()))
    return _schema(meta, **fields)


def _vectors_schema(meta: bytes, number: pa.DataType, depth: int) -> pa.Schema:
    import pyarrow as pa

    return _schema(meta, vector=pa.list_(number, depth))


def _schema_like(written: pa.Schema, meta: bytes) -> pa.Schema:
    """Return the Arrow schema that a file with this Parquet schema was written with."""
    if "vector" in written.names:
        kind = written.field("vector").type
        return _vectors_schema(meta, kind.value_type, kind.list_size)
    prediction = written.field("predictions").type.value_type
    logits = prediction.get_field_index("logit") >= 0
    # Files of earlier versions have no everyday labels.
    return _labels_schema(meta, logits=logits, sure="sure" in written.names)


def _schema(meta: bytes, **result: pa.DataType) -> pa.Schema:
    import pyarrow as pa

    fields: Mapping[str, pa.DataType] = {
        "path": pa.string(),
        "path_bytes": pa.binary(),
        "status": pa.string(),
        "error": pa.struct([("kind", pa.string()), ("message", pa.string())]),
        **result,
    }
    return pa.schema(list(fields.items()), metadata={META_KEY: meta})


def _writer(stream: BinaryIO, schema: pa.Schema) -> Any:
    import pyarrow.parquet as pq

    return pq.ParquetWriter(stream, schema, compression="zstd", version="2.6")
