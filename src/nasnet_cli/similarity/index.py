"""The file of vectors that embed wrote, and the lines beside it that name the images.

Memory is flat: blocks are copied from a memory map that is closed after each copy.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tokenize import TokenError
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nasnet_cli.errors import NasnetError
from nasnet_cli.kept_files import open_kept, parse_json, parse_object, read_kept
from nasnet_cli.results.meta import meta_path
from nasnet_cli.results.neighbours import Neighbour
from nasnet_cli.results.records import recorded_path
from nasnet_cli.results.text import json_text
from nasnet_cli.similarity.numbers import Rows, Vectors, lengths_of, pair_cosines

# The ends of an image's line as embed writes it: what is between them has no raw quotes.
_START, _END = b'{"path": "', b'", "status": "ok", "row": %d}\n'

# Rows in a block: enough that the product of two blocks runs at the processor's full speed, few
# enough that it takes less than 200 MB.
BLOCK = 4096
# Rows anywhere in the file that are copied from one map. The system maps up to 2 MB around each.
_MAPPED_ROWS = 32


@dataclass(frozen=True, eq=False)
class Index:
    """A file of vectors [rows, depth], float32 or float16, and the lines with their paths.

    open_index returns one. offsets are the positions of each row's line in the file of lines.
    """

    path: Path
    lines: Path
    rows: int
    depth: int
    offsets: NDArray[np.int64]

    def describe(self) -> dict[str, Any]:
        """Return the description of the index for a result."""
        return {"location": os.fspath(self.path), "rows": self.rows, "depth": self.depth}

    def block(self, start: int) -> Vectors:
        """Return the rows from start on, up to BLOCK of them, in the file's type."""
        return np.array(_mapped(self.path)[start : start + BLOCK])

    def view(self, start: int) -> Vectors:
        """Return block's rows as a view of the file, which is mapped until the view is dropped."""
        return _mapped(self.path)[start : self.end(start)]

    def take(self, rows: Rows) -> Vectors:
        """Return these rows, in the file's type."""
        parts = range(0, max(len(rows), 1), _MAPPED_ROWS)
        return np.concatenate([_mapped(self.path)[rows[i : i + _MAPPED_ROWS]] for i in parts])

    def end(self, start: int) -> int:
        """Return the end of the block that begins at start."""
        return min(start + BLOCK, self.rows)

    def starts(self) -> range:
        """Return the first rows of the blocks."""
        return range(0, self.rows, BLOCK)

    def paths(self, rows: Iterable[int]) -> Iterator[str]:
        """Yield the paths of these rows; bytes that are not UTF-8 are surrogate escapes."""
        with open_kept(self.lines, follow=True) as lines:
            for row in rows:
                lines.seek(self.offsets[row])
                yield self._parsed(lines.readline())[0]

    def find(self, paths: Sequence[str]) -> list[int] | None:
        """Return the first row of each path; None unless all of them are in the index."""
        parts = {path: json_text(path)[1:-1].encode() for path in paths}
        rows: dict[str, int] = {}
        with open_kept(self.lines, follow=True) as lines:
            for line in lines:
                for path, part in parts.items():
                    if part in line and path not in rows:
                        name, row = self._parsed(line)
                        if row is not None and name == path:
                            rows[path] = row
        return [rows[path] for path in paths] if len(rows) == len(parts) else None

    def _parsed(self, line: bytes) -> tuple[str, int | None]:
        """Return the path of a line and its row. Raises NasnetError."""
        try:
            found = parse_object(line, {"path": str})
            path, row = recorded_path(found), found.get("row")
            if row is None or (type(row) is int and 0 <= row < self.rows):
                return path, row
        except (ValueError, TypeError):
            pass
        raise NasnetError(f"{self.lines} is damaged.", _AGAIN)

    def neighbours(self, cosines: Sequence[tuple[int, float]]) -> Iterator[Neighbour]:
        """Yield the images of these rows and cosines, with their paths."""
        paths = self.paths(row for row, _ in cosines)
        for (row, cosine), path in zip(cosines, paths, strict=True):
            yield Neighbour(row, path, cosine)

    def cosines(self, rows: Rows, row: int) -> NDArray[np.float64]:
        """Return the exact cosines of these rows with another row."""
        (other,) = self.take(np.array([row]))
        parts = [rows[start : start + BLOCK] for start in range(0, len(rows), BLOCK)]
        return np.concatenate(
            [np.empty(0), *(pair_cosines(self.take(part), other[None]) for part in parts)]
        )

    def meta(self) -> dict[str, Any]:
        """Return the index's read_meta."""
        return read_meta(self.path)


_AGAIN = "Make the vectors again with nasnet embed."


def read_meta(vectors: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the OUT.meta.json of embed, with digests of the model and the preprocessing.

    Raises NasnetError if it is missing or damaged.
    """
    path = meta_path(vectors)
    problem = f"{path} does not say which model made the vectors."
    try:
        meta: dict[str, Any] = parse_json(read_kept(path, follow=True))
        if all(isinstance(meta[name]["digest"], str) for name in ("model", "preprocessing")):
            return meta
    except OSError as error:
        problem = (
            f"{path}, which says which model made the vectors, cannot be read: {error.strerror}."
        )
    except (ValueError, KeyError, TypeError):
        pass
    raise NasnetError(problem, "Make the vectors again with nasnet embed.")


def lines_path(vectors: str | os.PathLike[str]) -> Path:
    """Return the file of lines beside vectors.npy: vectors.jsonl."""
    return Path(vectors).with_suffix(".jsonl")


def open_index(path: str | os.PathLike[str], lines: Path | None = None) -> Index:
    """Open the vectors in a .npy file of embed, with the lines beside it or in the file lines.

    Raises NasnetError if one of them is damaged.
    """
    path = Path(path)
    lines = lines or lines_path(path)
    vectors = _mapped(path)
    if vectors.ndim != 2 or vectors.dtype not in (np.float32, np.float16):
        raise NasnetError(
            f"{path} holds {vectors.dtype} {list(vectors.shape)}, not vectors [N, depth] of "
            "float32 or float16.",
            "Name a file that nasnet embed wrote.",
        )
    rows, depth = vectors.shape
    return Index(path, lines, rows, depth, _offsets(path, lines, rows))


def read_vectors(path: str | os.PathLike[str]) -> tuple[Vectors, list[str]]:
    """Return the vectors [n, depth] in a .npy file and their names, with or without lines beside it.

    A file without lines may be any NumPy array of floats, also of one vector [depth]; its vectors
    are called by the file's name and their number. Raises NasnetError.
    """
    if lines_path(path).exists():
        index = open_index(path)
        return index.take(np.arange(index.rows)), list(index.paths(range(index.rows)))
    name = os.fspath(path)
    vectors = np.array(_mapped(Path(path)))
    if vectors.ndim not in (1, 2) or not np.issubdtype(vectors.dtype, np.floating):
        raise NasnetError(
            f"{name} holds {vectors.dtype} {list(vectors.shape)}, not vectors [depth] or [N, depth].",
            "Name a file that nasnet embed wrote.",
        )
    if vectors.ndim == 1:
        return vectors[None], [name]
    return vectors, [f"{name}#{row}" for row in range(len(vectors))]


def _mapped(path: Path) -> Vectors:
    try:
        with open_kept(path, follow=True) as stream:
            is_npy = stream.read(6) == b"\x93NUMPY"
        if not is_npy:
            raise NasnetError(f"{path} is not a .npy file.", "Name a file that nasnet embed wrote.")
        mapped: Vectors = np.load(path, mmap_mode="r", allow_pickle=False)
    except OSError as error:
        raise NasnetError(
            f"{path} cannot be read: {error.strerror or error}.",
            "Name a file that nasnet embed wrote.",
        ) from error
    # A damaged header, of which NumPy raises many kinds, or one of more rows than the file has.
    except (ValueError, SyntaxError, TokenError, TypeError, OverflowError, RecursionError) as error:
        raise NasnetError(
            f"{path} is damaged or cut short.", "Make it again with nasnet embed."
        ) from error
    return mapped


def _offsets(path: Path, lines: Path, rows: int) -> NDArray[np.int64]:
    """Return the position of each row's line; lines of failed inputs have no row."""
    offsets = np.zeros(rows, np.int64)
    count = position = 0
    try:
        with open_kept(lines, follow=True) as stream:
            for line in stream:
                # A million lines as embed writes them take three seconds to parse.
                is_next = line.startswith(_START) and line.endswith(_END % count)
                row = count if is_next else parse_json(line).get("row")
                if row is not None:
                    if type(row) is not int or row != count or count == rows:
                        raise ValueError
                    offsets[row] = position
                    count += 1
                position += len(line)
        if count != rows:
            raise ValueError
    except OSError as error:
        raise NasnetError(
            f"{lines}, which names the images of the vectors, cannot be read: {error.strerror}.",
            f"It must be beside {path.name}, where nasnet embed writes it.",
        ) from error
    except (ValueError, AttributeError) as error:
        raise NasnetError(
            f"{lines} does not belong to {path}: their rows differ.",
            "Make both again with nasnet embed.",
        ) from error
    return offsets


def without_direction(index: Index) -> int:
    """Return how many vectors are zero or not finite."""
    return sum(int(np.isnan(lengths_of(index.block(start))).sum()) for start in index.starts())
