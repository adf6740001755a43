"""What we read of an ONNX file by ourselves: what it is, its metadata, its weights by name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from nasnet_cli.errors import ModelError

if TYPE_CHECKING:
    import numpy as np

METADATA_PREFIX = "nasnet/"
"""Keys of metadata_props: this and the file's name in a module's folder."""

_GRAPH, _OPERATION_SETS = 7, 8
_FLOAT = 1
_EXTERNAL = 1
_MOST_FIELDS = 10_000


def is_onnx(path: Path) -> bool:
    """Whether a file's fields are those of an ONNX model: it has a graph and operation sets.

    Only the fields' heads are read, so that a large file costs no more than a small one.
    """
    try:
        with path.open("rb") as file:
            numbers = dict.fromkeys(_fields(file, path.stat().st_size))
    except (OSError, ValueError):
        return False
    return next(iter(numbers), None) == 1 and {_GRAPH, _OPERATION_SETS} <= numbers.keys()


def read_onnx(path: Path) -> Any:
    """The OnnxModel message (protos) of a file. Raises ModelError when it is none.

    A file whose weights lie in other files is refused: where they lie is for the file to say, and
    it may say anything.
    """
    from nasnet_cli.models.savedmodel import schema

    try:
        model = schema.parse("OnnxModel", path.read_bytes())
    except ValueError:
        raise ModelError(
            f"{path} is broken: it ends early or is no ONNX.", "Get it again."
        ) from None
    if any(tensor.data_location == _EXTERNAL for tensor in _tensors(model)):
        raise ModelError(
            f"{path} has weights in other files, which are not read.",
            "Save it as one file: onnx.save(onnx.load(path), new_path).",
        )
    return model


def texts(model: Any) -> dict[str, str]:
    """The card and the labels that export put into the metadata, by their names in a module."""
    return {
        entry.key.removeprefix(METADATA_PREFIX): entry.value
        for entry in model.metadata_props
        if entry.key.startswith(METADATA_PREFIX)
    }


def weights(model: Any) -> dict[str, np.ndarray]:
    """The graph's float32 initializers by name, in TensorFlow's order of axes.

    ONNX has kernels as [out, in, height, width]; depthwise ones, [channels, 1, height, width], are
    told by their TF-Slim names.
    """
    import numpy as np

    found = {}
    for tensor in model.graph.initializer:
        if tensor.data_type != _FLOAT:
            continue
        data = tensor.raw_data
        values = np.frombuffer(data, "<f4") if data else np.array(tensor.float_data, np.float32)
        if values.size != np.prod(tensor.dims, dtype=np.int64):
            raise ModelError(f"The weight {tensor.name} in it is broken.", "Get the file again.")
        values = values.reshape(tuple(tensor.dims))
        if values.ndim == 4:
            is_depthwise = tensor.name.endswith("/depthwise_weights")
            values = values.transpose((2, 3, 0, 1) if is_depthwise else (2, 3, 1, 0))
        found[tensor.name] = np.ascontiguousarray(values)
    return found


def _tensors(model: Any) -> Iterator[Any]:
    """All tensors of a model, wherever they are. No recursion: it may be hostile."""
    waiting = [model]
    while waiting:
        for field, value in waiting.pop().ListFields():
            if field.message_type is None:
                continue
            messages = [value] if hasattr(value, "ListFields") else value
            if field.message_type.name == "OnnxTensor":
                yield from messages
            else:
                waiting.extend(messages)


def _fields(file: BinaryIO, size: int) -> Iterable[int]:
    """The numbers of a message's fields in their order. Raises ValueError when it is no message."""
    for _ in range(_MOST_FIELDS):
        if file.tell() >= size:
            return
        key = _varint(file)
        number, kind = key >> 3, key & 7
        if not number or kind not in (0, 1, 2, 5):
            raise ValueError("no message")
        if kind == 0:
            _varint(file)
        else:
            file.seek(_varint(file) if kind == 2 else 8 if kind == 1 else 4, 1)
        if file.tell() > size:
            raise ValueError("it ends early")
        yield number


def _varint(file: BinaryIO) -> int:
    value = 0
    for shift in range(0, 70, 7):
        byte = file.read(1)
        if not byte:
            raise ValueError("it ends early")
        value |= (byte[0] & 0x7F) << shift
        if byte[0] < 0x80:
            return value
    raise ValueError("no number")
