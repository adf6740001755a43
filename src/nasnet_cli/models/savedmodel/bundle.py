"""Read TensorFlow's checkpoints (tensor bundles) without TensorFlow.

A checkpoint PREFIX consists of PREFIX.index, a LevelDB table from tensor names to positions, and
the data files PREFIX.data-00000-of-00001 and so on. A SavedModel's prefix is variables/variables,
TF-Slim's is model.ckpt. Formats: LevelDB's doc/table_format.md, TensorFlow's tensor_bundle.proto.
The file may come from anywhere, so every number in it is checked before it is used.
"""

from __future__ import annotations

import contextlib
import math
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from nasnet_cli.errors import ModelError
from nasnet_cli.models.savedmodel import schema
from nasnet_cli.models.savedmodel.schema import read_varint

if TYPE_CHECKING:
    import numpy as np

_FOOTER = 48
_MAGIC = 0xDB4775248B80FB57
_BLOCK_TRAILER = 5  # one byte for the compression, four for the checksum
_STRING_CHECKSUM = 4  # bytes between the lengths of a tensor's strings and the strings
_MAX_INDEX = 256 * 2**20
# In pure Python a checksum takes a second for 10 MB; a network's index has some 100 kB.
_MAX_CHECKSUMMED = 256 * 2**10
# Keys share prefixes, so a small file can hold very long ones.
_MAX_NAME = 4096
_MAX_NAMES = 64 * 2**20
_MAX_SHARDS = 99_999
_FETCH_AGAIN = "Get all files of the checkpoint again."

_ITEM_SIZES = {"bool": 1} | {
    name: int(match[1]) // 8
    for name in schema.DTYPES.values()
    if (match := re.fullmatch(r"(?:u?int|b?float)(\d+)", name))
}


class Entry(NamedTuple):
    """The position of a tensor: offset and size in bytes in the data file with number shard.

    sliced is True for a variable that is stored in parts under other names. checksum is the masked
    crc32c of its bytes.
    """

    dtype: str
    shape: tuple[int, ...]
    shard: int
    offset: int
    size: int
    sliced: bool
    checksum: int


@dataclass(frozen=True)
class Bundle:
    """A checkpoint and its tensors by name."""

    prefix: Path
    shards: int
    tensors: dict[str, Entry]

    def data_file(self, shard: int) -> Path:
        """Return the path of a data file."""
        return self.prefix.with_name(f"{self.prefix.name}.data-{shard:05}-of-{self.shards:05}")

    def check_complete(self) -> None:
        """Raise ModelError when a data file is missing or shorter than the index says."""
        expected = dict.fromkeys(range(self.shards), 0)
        for entry in self.tensors.values():
            expected[entry.shard] = max(expected[entry.shard], entry.offset + entry.size)
        for shard, size in expected.items():
            path = self.data_file(shard)
            try:
                actual = path.stat().st_size
            except OSError:
                raise ModelError(f"{path} is missing.", _FETCH_AGAIN) from None
            if actual < size:
                raise ModelError(
                    f"{path} is cut off: it has {actual} bytes of {size}.", _FETCH_AGAIN
                )

    def check_sums(self) -> None:
        """Raise ModelError, with its name, when a tensor's bytes are not those that were written."""
        for name, entry in self.tensors.items():
            if entry.dtype in _ITEM_SIZES and not entry.sliced:
                self._check_sum(name, entry, self._bytes(entry))

    def _check_sum(self, name: str, entry: Entry, data: bytes) -> None:
        if _masked(_crc32c(data)) != entry.checksum:
            raise ModelError(
                f"{self.data_file(entry.shard)} is damaged: the checksum of {name!r} is wrong.",
                _FETCH_AGAIN,
            )

    def read(self, name: str) -> np.ndarray:
        """Return a tensor's values as a new array of its dtype; bfloat16 becomes float32.

        Raises ModelError when there is no such tensor, when it holds strings or is sliced, and
        when its data is missing.
        """
        import numpy as np

        entry = self.tensors.get(name)
        if entry is None:
            raise ModelError(
                f"The checkpoint {self.prefix} has no tensor {name!r}.",
                "Check that the checkpoint belongs to this network.",
            )
        if entry.sliced or entry.dtype not in _ITEM_SIZES:
            problem = "is stored in slices" if entry.sliced else f"holds {entry.dtype}"
            raise ModelError(
                f"The tensor {name!r} of the checkpoint {self.prefix} {problem}, which nasnet "
                "does not read.",
                "Save the checkpoint again with unsliced numeric variables.",
            )
        stored = {"bfloat16": "uint16"}.get(entry.dtype, entry.dtype)
        data = self._bytes(entry)
        self._check_sum(name, entry, data)
        values = np.frombuffer(data, np.dtype(stored).newbyteorder("<"))
        if entry.dtype == "bfloat16":  # the upper half of a float32
            return (values.astype(np.uint32) << 16).view(np.float32).reshape(entry.shape)
        return values.astype(stored).reshape(entry.shape)

    def read_string(self, name: str) -> bytes:
        """Return the value of a tensor that is a single string.

        Raises ModelError when there is no such tensor or it is anything else.
        """
        entry = self.tensors.get(name)
        if entry is not None and entry.dtype == "string" and entry.shape == ():
            data = memoryview(self._bytes(entry))
            with contextlib.suppress(ValueError):
                length, at = read_varint(data, 0)
                text = data[at + _STRING_CHECKSUM :]
                if len(text) == length:
                    return bytes(text)
        raise ModelError(f"The checkpoint {self.prefix} has no string {name!r}.", _FETCH_AGAIN)

    def _bytes(self, entry: Entry) -> bytes:
        path = self.data_file(entry.shard)
        try:
            if path.stat().st_size >= entry.offset + entry.size:
                with path.open("rb") as file:
                    file.seek(entry.offset)
                    data = file.read(entry.size)
                if len(data) == entry.size:
                    return data
        except OSError as error:
            raise ModelError(f"Cannot read {path}: {error.strerror}.", _FETCH_AGAIN) from None
        raise ModelError(f"{path} is cut off.", _FETCH_AGAIN)


def read_bundle(prefix: Path) -> Bundle:
    """Read a checkpoint's index; prefix is its path without ".index".

    Raises ModelError when the index is missing, empty or damaged. Bundle.check_complete checks
    the data files.
    """
    path = prefix.with_name(prefix.name + ".index")
    try:
        size = path.stat().st_size
        if size > _MAX_INDEX:
            raise ModelError(
                f"{path} is over {_MAX_INDEX >> 20} MiB, more than any checkpoint's.", _FETCH_AGAIN
            )
        data = path.read_bytes()
    except OSError:
        raise ModelError(
            f"{path} is missing, so the variables cannot be read.",
            f"{_FETCH_AGAIN} A cleaner of temporary files may have removed it.",
        ) from None
    try:
        return _parse(prefix, data)
    except ValueError as error:
        raise ModelError(f"{path} is damaged: {error}.", _FETCH_AGAIN) from None


def _parse(prefix: Path, data: bytes) -> Bundle:
    rows = _table(data)
    key, value = next(rows, (None, b""))
    if key != b"":
        raise ValueError("it has no header")
    header = schema.parse("BundleHeaderProto", value)
    if header.endianness:
        raise ValueError("its numbers are big-endian")
    if not 1 <= header.num_shards <= _MAX_SHARDS:
        raise ValueError(f"it claims {header.num_shards} data files")
    tensors = {
        # The parts of sliced variables have keys that begin with a zero byte.
        key.decode("utf-8"): _entry(value, header.num_shards)
        for key, value in rows
        if not key.startswith(b"\0")
    }
    return Bundle(prefix, header.num_shards, tensors)


def _entry(value: bytes, shards: int) -> Entry:
    proto = schema.parse("BundleEntryProto", value)
    entry = Entry(
        schema.dtype_name(proto.dtype),
        tuple(dim.size for dim in proto.shape.dim),
        proto.shard_id,
        proto.offset,
        proto.size,
        bool(proto.slices),
        proto.crc32c,
    )
    if not 0 <= entry.shard < shards or entry.offset < 0 or entry.size < 0:
        raise ValueError("a tensor is outside the data")
    if any(size < 0 for size in entry.shape) or proto.shape.unknown_rank or len(entry.shape) > 254:
        raise ValueError("a tensor has an invalid shape")
    item = _ITEM_SIZES.get(entry.dtype)
    if item and not entry.sliced and math.prod(entry.shape) * item != entry.size:
        raise ValueError("a tensor's size does not match its shape")
    return entry


def _table(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the rows of a LevelDB table, in order. Raises ValueError when it is not one."""
    if len(data) < _FOOTER:
        raise ValueError("it is empty" if not data else "it is cut off")
    footer = memoryview(data)[-_FOOTER:]
    if struct.unpack_from("<Q", footer, 40)[0] != _MAGIC:
        raise ValueError("it is not an index, or it is cut off")
    _, at = _handle(footer[:40], 0)  # of the metaindex, which TensorFlow leaves empty
    index, _ = _handle(footer[:40], at)
    verify = len(data) <= _MAX_CHECKSUMMED
    end = names = 0
    previous: bytes | None = None
    for _, place in _rows(_block(data, index, verify)):
        handle, _ = _handle(memoryview(place), 0)
        if handle[0] < end:  # blocks are in sequence; this also prevents endless loops
            raise ValueError("its blocks overlap")
        end = sum(handle)
        for key, value in _rows(_block(data, handle, verify)):
            if previous is not None and key <= previous:
                raise ValueError("its names are not in order")
            names += len(key)
            if names > _MAX_NAMES:
                raise ValueError("its names are too long")
            previous = key
            yield key, value


def _rows(block: memoryview) -> Iterator[tuple[bytes, bytes]]:
    """Yield the rows of a block, whose keys omit the prefix shared with the key before."""
    if len(block) < 4:
        raise ValueError("a block is too short")
    restarts = struct.unpack_from("<I", block, len(block) - 4)[0]
    end = len(block) - 4 * (restarts + 1)
    if end < 0:
        raise ValueError("a block is too short")
    key = b""
    at = 0
    while at < end:
        shared, at = read_varint(block, at)
        unshared, at = read_varint(block, at)
        length, at = read_varint(block, at)
        if shared > len(key) or at + unshared + length > end or shared + unshared > _MAX_NAME:
            raise ValueError("a row exceeds its block")
        key = key[:shared] + bytes(block[at : at + unshared])
        at += unshared
        yield key, bytes(block[at : at + length])
        at += length


def _block(data: bytes, handle: tuple[int, int], verify: bool) -> memoryview:
    offset, size = handle
    end = offset + size
    if end + _BLOCK_TRAILER > len(data) - _FOOTER:
        raise ValueError("a block is outside the file")
    kind, stored = struct.unpack_from("<BI", data, end)
    if kind:
        raise ValueError("it is compressed, which TensorFlow never does")
    if verify and _masked(_crc32c(data[offset : end + 1])) != stored:
        raise ValueError("a checksum is wrong")
    return memoryview(data)[offset:end]


def _handle(data: memoryview, at: int) -> tuple[tuple[int, int], int]:
    offset, at = read_varint(data, at)
    size, at = read_varint(data, at)
    return (offset, size), at


def _crc32c(data: bytes) -> int:
    from google_crc32c import value

    return int(value(data))


def _masked(crc: int) -> int:
    """Return a checksum in the form in which LevelDB stores it."""
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
