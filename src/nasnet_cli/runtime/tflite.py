"""TensorFlow Lite's interpreter: runs TFLite files that compute in integers, as they were made to.

OpenVINO makes floats of their integers, and rounds otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from typing import Any

import numpy as np

from nasnet_cli.errors import ModelError, describe_error
from nasnet_cli.models.formats.openvino_file import output_index
from nasnet_cli.models.formats.tflite import OpenedLite
from nasnet_cli.models.values import factors
from nasnet_cli.quiet import litert, silence_errors
from nasnet_cli.runtime.base import Pending, Plan, Runtime


class TFLiteRuntime(Runtime):
    """A plan run by interpreters of one thread each, as many as there are threads."""

    name = "tflite"

    def __init__(self, plan: Plan, threads: int | None = None) -> None:
        if plan.precision != "f32":
            raise ModelError(
                f"TensorFlow Lite runs models as they are, not in {plan.precision}.",
                "Leave out --precision.",
            )
        super().__init__(plan, litert.VERSION, threads)
        assert isinstance(plan.model, OpenedLite)  # see OpenedModel.is_quantized
        self._model = plan.model
        self._idle: SimpleQueue[Any] = SimpleQueue()
        for _ in range(self.threads):
            self._idle.put(self._open())
        self._pool = ThreadPoolExecutor(self.threads, thread_name_prefix="tflite")
        self._table = None if plan.pixels == "float32" else self._values(_all_bytes())

    def submit(self, images: Sequence[np.ndarray]) -> Pending:
        """See Runtime.submit."""
        shape = (self.plan.request_size, *self.plan.size, 3)
        request = np.zeros(shape, self._model.images.dtype)
        for row, image in zip(request, images, strict=False):
            row[:] = self._values(image) if self._table is None else _looked_up(self._table, image)
        if self.plan.channels == "bgr":
            request = request[..., ::-1]
        if self._model.channels_first:
            request = request.transpose(0, 3, 1, 2)
        return self._pool.submit(self._compute, np.ascontiguousarray(request), len(images))

    def _open(self) -> Any:
        path = self.plan.model.path
        try:
            with silence_errors():  # it tells which delegate it has made
                interpreter = litert.Interpreter(model_path=str(path), num_threads=1)
                interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise ModelError(
                f"TensorFlow Lite cannot run {path}: {describe_error(error)}.",
                "Convert it again without custom operations and those of TensorFlow (SELECT_TF_OPS).",
            ) from error
        return interpreter

    def _compute(self, request: np.ndarray, count: int) -> dict[str, np.ndarray]:
        interpreter = self._idle.get()
        try:
            interpreter.set_tensor(interpreter.get_input_details()[0]["index"], request)
            interpreter.invoke()
            details = interpreter.get_output_details()
            return {
                name: _floats(interpreter, details[output_index(tensor)]).reshape(
                    self.plan.request_size, -1
                )[:count]
                for name, tensor in self.plan.outputs
            }
        except (ValueError, RuntimeError) as error:
            raise ModelError(
                f"TensorFlow Lite cannot run {self.plan.model.path}: {describe_error(error)}.",
                "Convert it again, or name the model that it was made from.",
            ) from error
        finally:
            self._idle.put(interpreter)

    def _values(self, pixels: np.ndarray) -> np.ndarray:
        """Return what the model takes for pixels [..., 3], of its input's type."""
        dtype = np.dtype(self._model.images.dtype)
        scaled = pixels.astype(np.float64) * (255.0 if pixels.dtype == np.float32 else 1.0)
        if self._model.takes_bytes(self.plan.input_range):
            return _rounded(scaled + np.iinfo(dtype).min, dtype)
        mean, std = factors(self.plan.input_range)
        values = (scaled - mean) / std
        quantization = self._model.input_quantization
        if quantization is None:
            return values.astype(dtype) if dtype.kind == "f" else _rounded(values, dtype)
        scale, zero_point = quantization
        return _rounded(values / scale, dtype, zero_point)


def _rounded(values: np.ndarray, dtype: np.dtype, zero_point: int = 0) -> np.ndarray:
    """Round as TensorFlow Lite does, halves away from zero, and clip."""
    away = np.copysign(np.floor(np.abs(values) + 0.5), values) + zero_point
    limits = np.iinfo(dtype)
    return np.asarray(np.clip(away, limits.min, limits.max).astype(dtype))


def _all_bytes() -> np.ndarray:
    """Return every byte in each channel, [256, 3]."""
    return np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, axis=1)


def _looked_up(table: np.ndarray, image: np.ndarray) -> np.ndarray:
    return np.asarray(table[image, np.arange(3)])


def _floats(interpreter: Any, detail: dict[str, Any]) -> np.ndarray:
    """Return an output's numbers, of which integers stand for them."""
    values: np.ndarray = interpreter.get_tensor(detail["index"])
    scale, zero_point = detail["quantization"]
    if values.dtype.kind in "iu" and scale:
        values = (values.astype(np.float32) - np.float32(zero_point)) * np.float32(scale)
    return values.astype(np.float32)
