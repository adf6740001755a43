"""Feature vectors on disk: NumPy's .npy and .npz, and the lines that say which input each is of."""

from __future__ import annotations

import ast
import itertools
import os
import zipfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, BinaryIO, Literal

import numpy as np

from nasnet_cli.errors import ERROR_KINDS
from nasnet_cli.kept_files import check_fields, parse_object
from nasnet_cli.results.records import Embedded, Failure, recorded_path
from nasnet_cli.results.text import readable
from nasnet_cli.results.writers import json_vector_row

VectorType = Literal["float32", "float16"]

NPY_HEAD_BYTES = 128
"""The length of every .npy header written here; the numbers follow it."""


@dataclass(frozen=True, slots=True)
class Shape:
    """The shape [rows, depth] of an array of vectors, and the type of its numbers."""

    rows: int
    depth: int
    dtype: VectorType

    @property
    def numbers(self) -> np.dtype[np.generic]:
        """Return NumPy's type of the numbers."""
        return numbers_of(self.dtype)


def numbers_of(dtype: VectorType) -> np.dtype[np.generic]:
    """Return NumPy's type of that name, little-endian on every machine."""
    return np.dtype(dtype).newbyteorder("<")


def npy_head(shape: Shape) -> bytes:
    """Return the header of a .npy file."""
    return _head(shape.numbers.str, (shape.rows, shape.depth))


def npy_shape(head: bytes) -> Shape:
    """Return the shape in a header that npy_head wrote. Raises ValueError for another."""
    header = ast.literal_eval(head[10:NPY_HEAD_BYTES].decode("ascii"))
    rows, depth = header["shape"]
    return Shape(rows, depth, np.dtype(header["descr"]).name)


def write_npy(stream: BinaryIO, rows: Iterable[Embedded], shape: Shape) -> None:
    """Write the vectors of the rows that have one as a .npy file, which may be memory-mapped."""
    stream.write(npy_head(shape))
    for row in rows:
        if row.vector is not None:
            stream.write(row.vector.astype(shape.numbers).tobytes())


def write_lines(stream: BinaryIO, rows: Iterable[Embedded]) -> None:
    """Write a line of JSON for each row: its path, its status and the number of its vector."""
    number = 0
    for row in rows:
        stream.write(f"{json_vector_row(row.path, row.error, number)}\n".encode())
        number += row.error is None


def write_stream(
    stream: BinaryIO, lines: BinaryIO, rows: Iterable[Embedded], depth: int, dtype: VectorType
) -> int:
    """Write a .npy file and its lines, as write_npy and write_lines do, while the rows arrive.

    Return the number of vectors. stream must be seekable: the header comes last.
    """
    numbers = numbers_of(dtype)
    stream.write(bytes(NPY_HEAD_BYTES))
    number = 0
    for row in rows:
        lines.write(f"{json_vector_row(row.path, row.error, number)}\n".encode())
        if row.vector is not None:
            stream.write(row.vector.astype(numbers).tobytes())
            number += 1
    stream.seek(0)
    stream.write(npy_head(Shape(number, depth, dtype)))
    return number


def write_npz(
    stream: BinaryIO, rows: Callable[[], Iterator[Embedded]], shape: Shape, meta: bytes
) -> None:
    """Write an archive that numpy.load reads: the arrays vectors and paths of the rows that have
    a vector, in order; rows.jsonl as write_lines writes it; meta.json.

    rows returns the rows at each call, so that none is kept in memory.
    """
    with zipfile.ZipFile(stream, "w") as archive:
        with _member(archive, "vectors.npy") as member:
            write_npy(member, rows(), shape)
        with _member(archive, "paths.npy", zipfile.ZIP_DEFLATED) as member:
            _write_paths(member, rows, shape.rows)
        with _member(archive, "rows.jsonl", zipfile.ZIP_DEFLATED) as member:
            write_lines(member, rows())
        with _member(archive, "meta.json") as member:
            member.write(meta)


def read_npz_meta(path: str | os.PathLike[str]) -> bytes:
    """Return the meta.json in a file of write_npz. Raises OSError, ValueError or KeyError."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.read("meta.json")
    except zipfile.BadZipFile as error:
        raise ValueError(str(error)) from error


def read_npy(path: str | os.PathLike[str]) -> Iterator[Embedded]:
    """Yield the rows of a file of write_npy with the lines of write_lines beside it.

    Raises OSError, or ValueError or KeyError where they are not what was written.
    """
    vectors, lines = Path(path), Path(path).with_suffix(".jsonl")
    with vectors.open("rb") as stream, lines.open("rb") as beside:
        yield from _rows(stream, beside)


def read_npz(path: str | os.PathLike[str]) -> Iterator[Embedded]:
    """Yield the rows of a file of write_npz. Raises as read_npy does."""
    try:
        with (
            zipfile.ZipFile(path) as archive,
            archive.open("vectors.npy") as vectors,
            archive.open("rows.jsonl") as lines,
        ):
            yield from _rows(vectors, lines)
    except zipfile.BadZipFile as error:
        raise ValueError(str(error)) from error


def _rows(vectors: IO[bytes], lines: IO[bytes]) -> Iterator[Embedded]:
    shape = npy_shape(vectors.read(NPY_HEAD_BYTES))
    numbers, counter = shape.numbers, itertools.count()
    for line in lines:
        row = parse_object(line, {"path": str, "status": str})
        name = recorded_path(row)
        if row["status"] == "error":
            error = check_fields(row.get("error"), {"kind": str, "message": str})
            if error["kind"] not in ERROR_KINDS:
                raise ValueError("an error is of no known kind")
            yield Embedded(name, None, Failure(error["kind"], error["message"]))
            continue
        vector = np.frombuffer(vectors.read(shape.depth * numbers.itemsize), numbers)
        if row.get("row") != next(counter) or len(vector) != shape.depth:
            raise ValueError("a vector is missing")
        yield Embedded(name, vector)
    if vectors.read(1) or next(counter) != shape.rows:
        raise ValueError("there are more vectors than lines")


def _write_paths(stream: BinaryIO, rows: Callable[[], Iterator[Embedded]], count: int) -> None:
    """Write paths as NumPy's strings: all as wide as the longest, shorter ones end in zeros."""

    def paths() -> Iterator[bytes]:
        return (readable(r.path).encode("utf-32-le") for r in rows() if r.vector is not None)

    width = max(map(len, paths()), default=4)
    stream.write(_head(f"<U{width // 4}", (count,)))
    for path in paths():
        stream.write(path.ljust(width, b"\0"))


def _member(archive: zipfile.ZipFile, name: str, compression: int = zipfile.ZIP_STORED) -> BinaryIO:
    # The earliest time of the format: two runs write the same bytes.
    entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
    entry.compress_type = compression
    entry.external_attr = 0o644 << 16
    return archive.open(entry, "w", force_zip64=True)  # type: ignore[return-value]


def _head(type_: str, shape: tuple[int, ...]) -> bytes:
    """Return a header of NumPy's format 1.0: magic, version, length, and a padded dictionary."""
    text = f"{{'descr': '{type_}', 'fortran_order': False, 'shape': {shape}, }}"
    before = b"\x93NUMPY\x01\x00" + (NPY_HEAD_BYTES - 10).to_bytes(2, "little")
    return before + text.ljust(NPY_HEAD_BYTES - 11).encode() + b"\n"
