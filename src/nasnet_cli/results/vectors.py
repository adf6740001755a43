"""Feature vectors on disk: a NumPy file that grows as it is written."""

from __future__ import annotations

from typing import BinaryIO, Literal

import numpy as np

from nasnet_cli.errors import OutputError

VectorType = Literal["float32", "float16"]

# Room for a count of twenty digits, so that the header can be written again when it is known.
_HEADER_BYTES = 128


class NpyWriter:
    """A .npy file of [N, depth] that `numpy.load(mmap_mode="r")` reads.

    The stream must be seekable: how many rows there are is known only at the end, and is written
    into the header then. Without a row, the array is [0, depth].
    """

    def __init__(self, stream: BinaryIO, depth: int, dtype: VectorType) -> None:
        if not stream.seekable():
            raise OutputError(
                "A .npy file can't be written to a pipe: its head is known only at the end.",
                "Write to a file.",
            )
        self._stream = stream
        self._depth = depth
        self._dtype = np.dtype(dtype).newbyteorder("<")
        self._rows = 0
        self._start = stream.tell()
        stream.write(self._header())

    def write(self, vector: np.ndarray) -> None:
        self._stream.write(vector.astype(self._dtype).tobytes())
        self._rows += 1

    def finish(self) -> None:
        end = self._stream.tell()
        self._stream.seek(self._start)
        self._stream.write(self._header())
        self._stream.seek(end)

    def _header(self) -> bytes:
        """NumPy's format 1.0: magic, version, length, and a dictionary padded to that length."""
        shape = (self._rows, self._depth)
        text = f"{{'descr': '{self._dtype.str}', 'fortran_order': False, 'shape': {shape}, }}"
        before = b"\x93NUMPY\x01\x00" + (_HEADER_BYTES - 10).to_bytes(2, "little")
        return before + text.ljust(_HEADER_BYTES - 11).encode() + b"\n"
