"""Parquet files of a job, written in blocks of rows so that memory stays flat."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any, BinaryIO

from nasnet_cli.errors import NasnetError

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

ROWS = 4096
"""Rows in a block (Parquet calls it a row group): fixed, so that the bytes are."""

META_KEY = "nasnet"
"""The key of the file's metadata that has what OUT.meta.json has beside other formats."""


def require() -> None:
    """Raises NasnetError, with what to install, when Parquet can't be written here."""
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError:
        raise NasnetError(
            "Parquet files need the package pyarrow, which is not installed.",
            "Install it with: pip install 'nasnet-cli[parquet]'.",
        ) from None


def write_labels(stream: BinaryIO, lines: Iterator[bytes], meta: bytes, *, logits: bool) -> None:
    """A row for each of classify's JSON lines: path, path_bytes, status, error and predictions."""
    import pyarrow as pa

    prediction = {
        "rank": pa.int32(),
        "index": pa.int32(),
        "wnid": pa.string(),
        "label": pa.string(),
        "probability": pa.float64(),
        **({"logit": pa.float64()} if logits else {}),
    }
    predictions = pa.list_(pa.struct(list(prediction.items())))
    schema = _schema(meta, predictions=predictions)
    with _writer(stream, schema) as writer:
        while block := [_row(line) for line in islice(lines, ROWS)]:
            writer.write_table(pa.Table.from_pylist(block, schema), row_group_size=ROWS)


def write_vectors(
    stream: BinaryIO, lines: Iterator[bytes], vectors: np.ndarray, meta: bytes
) -> None:
    """A row for each of embed's JSON lines, its vector a list of fixed size; null with an error.

    vectors [N, depth] has them in order; it may be mapped into memory.
    """
    import numpy as np
    import pyarrow as pa

    depth = vectors.shape[1]
    kind = pa.list_(pa.from_numpy_dtype(vectors.dtype), depth)
    schema = _schema(meta, vector=kind)
    done = 0
    with _writer(stream, schema) as writer:
        while block := [_row(line) for line in islice(lines, ROWS)]:
            failed = np.array([row["status"] != "ok" for row in block])
            values = np.zeros((len(block), depth), vectors.dtype)
            values[~failed] = vectors[done : done + len(block) - failed.sum()]
            done += len(block) - int(failed.sum())
            column = pa.FixedSizeListArray.from_arrays(
                pa.array(values.reshape(-1)), type=kind, mask=pa.array(failed)
            )
            columns: dict[str, Any] = {
                name: pa.array([row.get(name) for row in block], schema.field(name).type)
                for name in ("path", "path_bytes", "status", "error")
            }
            table = pa.table({**columns, "vector": column}, schema)
            writer.write_table(table, row_group_size=ROWS)


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


def _row(line: bytes) -> dict[str, Any]:
    row: dict[str, Any] = json.loads(line)
    if "path_bytes" in row:
        row["path_bytes"] = base64.b64decode(row["path_bytes"])
    return row
