"""The OpenVINO runtime: runs models of every format, without TensorFlow."""

from __future__ import annotations

import hashlib
import io
import json
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nasnet_cli import cache
from nasnet_cli.errors import ModelError, NasnetError, describe_error, exhaustion
from nasnet_cli.quiet import openvino
from nasnet_cli.runtime import openvino_passes
from nasnet_cli.runtime.base import Pending, Plan, Runtime
from nasnet_cli.runtime.cpu import fingerprint

_SLICE_MILLISECONDS = 200


class UnreadableError(ModelError):
    """OpenVINO cannot read the model; TensorFlow may."""


class OpenVINORuntime(Runtime):
    """A plan compiled for this CPU.

    The compiled model is cached by the plan, the model's digest, OpenVINO's version and the CPU,
    since compiling takes several times as long as reading it back. Each thread runs requests of its
    own: results don't depend on their number, which is the number of CPU cores by default, but
    opening takes longer with more threads.
    """

    name = "openvino"

    def __init__(self, plan: Plan, threads: int | None = None) -> None:
        super().__init__(plan, str(openvino.get_version()), threads)
        # The bytes that the compiled model was read from, and uses as long as it lives.
        self._blob: Any = None
        core = openvino.Core()
        if plan.precision == "bf16" and not _has_bf16(core):
            raise ModelError(
                "This CPU does not support bf16.", "Leave out --precision, or use f32."
            )
        self._compiled = self._from_cache(core) or self._compile(core)
        self._idle: deque[Any] = deque()

    def submit(self, images: Sequence[np.ndarray]) -> Pending:
        """See Runtime.submit."""
        try:
            request = self._idle.pop()
        except IndexError:  # as many exist as were ever pending at once
            request = self._compiled.create_infer_request()
        tensor = request.get_input_tensor().data
        for row, image in zip(tensor, images, strict=False):
            row[:] = image
        tensor[len(images) :] = 0
        request.start_async()
        return _Pending(self, request, len(images))

    def finish(self, request: Any, count: int) -> dict[str, np.ndarray]:
        """Wait for a request of count images, and keep it for reuse."""
        request.wait()
        outputs: dict[str, np.ndarray] = {
            name: request.get_output_tensor(i)
            .data.reshape(self.plan.request_size, -1)[:count]
            .copy()
            for i, (name, _) in enumerate(self.plan.outputs)
        }
        self._idle.append(request)
        return outputs

    def failure(self, verb: str, error: Exception) -> NasnetError:
        """Return the error for what OpenVINO raised when it was to read or run the model."""
        if exhausted := exhaustion(error):
            return exhausted
        remedy = "Try it with --runtime tensorflow."
        if not self.plan.model.runs_on_tensorflow:
            remedy = "Name the model that it was made from."
        return UnreadableError(
            f"OpenVINO cannot {verb} the model in {self.plan.model.path}: {describe_error(error, -1)}.",
            remedy,
        )

    def _settings(self) -> dict[str, Any]:
        return {
            "INFERENCE_PRECISION_HINT": self.plan.precision,
            "INFERENCE_NUM_THREADS": self.threads,
            # One thread per stream: requests run in parallel, and none waits for another's threads.
            "NUM_STREAMS": self.threads,
        }

    def _cache_file(self) -> Path:
        key = {
            "digest": self.plan.model.digest,
            "outputs": self.plan.outputs,
            "size": self.plan.size,
            "pixels": self.plan.pixels,
            "request": self.plan.request_size,
            "precision": self.plan.precision,
            "openvino": self.version,
            "processor": fingerprint(),
            "passes": openvino_passes.VERSION,
        }
        if (self.plan.input_range, self.plan.channels) != ("0..1", "rgb"):
            key["values"] = [self.plan.input_range, self.plan.channels]
        name = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
        return cache.subfolder("compiled") / f"{name}.blob"

    def _from_cache(self, core: Any) -> Any:
        blob = cache.load(self._cache_file())
        if not blob:
            return None
        shared = openvino.Tensor(np.frombuffer(blob, np.uint8), shared_memory=True)
        try:
            compiled = core.import_model(shared, "CPU", self._settings())
        except Exception:
            # Complete, but this build cannot read it: compiling again replaces it. OpenVINO's own
            # exceptions share no base but Exception.
            return None
        self._blob = shared
        return compiled

    def _compile(self, core: Any) -> Any:
        try:
            with self.plan.model.openvino_model(self.plan.tensors) as network:
                model = self._prepare(network)
                compiled = core.compile_model(model, "CPU", self._settings())
        except Exception as error:  # OpenVINO's own exceptions share no base
            raise self.failure("read", error) from error
        blob = io.BytesIO()
        compiled.export_model(blob)
        cache.store(self._cache_file(), blob.getvalue())
        return compiled

    def _prepare(self, model: Any) -> Any:
        """Make the model take images as they are decoded, and return floats, for one request size."""
        from openvino.preprocess import PrePostProcessor

        if len(model.inputs) != 1:
            raise RuntimeError(f"it has {len(model.inputs)} inputs")
        steps = PrePostProcessor(model)
        images = steps.input(0)
        images.tensor().set_layout(openvino.Layout("NHWC"))
        channels_first = self.plan.model.channels_first
        images.model().set_layout(openvino.Layout("NCHW" if channels_first else "NHWC"))
        images.tensor().set_element_type(
            openvino.Type.u8 if self.plan.pixels == "uint8" else openvino.Type.f32
        )
        self._add_values(images.preprocess(), model.inputs[0].get_element_type().is_integral())
        for i in range(len(model.outputs)):
            steps.output(i).tensor().set_element_type(openvino.Type.f32)
        model = steps.build()
        model.reshape([self.plan.request_size, *self.plan.size, 3])
        for output in model.outputs:
            # A model may have its number of images as a constant in it.
            shape = output.get_partial_shape()
            if (
                shape.rank.is_static
                and shape.rank.get_length()
                and shape[0] != self.plan.request_size
            ):
                raise RuntimeError(
                    f"it gives {shape[0]} results for {self.plan.request_size} images"
                )
        openvino_passes.rewrite(model)
        return model

    def _add_values(self, steps: Any, to_integers: bool) -> None:
        """Add the steps from pixels to the values that the model takes."""
        is_unit = self.plan.pixels == "float32"
        if to_integers:  # bytes as they are
            if is_unit:
                steps.scale(1 / 255.0).custom(lambda port: openvino.opset13.round(port, "half_up"))
        elif self.plan.input_range == "0..1":
            if not is_unit:
                steps.convert_element_type(openvino.Type.f32).scale(255.0)
        else:
            from nasnet_cli.models.values import factors

            mean, std = (list(numbers) for numbers in factors(self.plan.input_range))
            if is_unit:
                steps.scale(1 / 255.0)
            steps.convert_element_type(openvino.Type.f32).mean(mean).scale(std)
        if self.plan.channels == "bgr":
            steps.reverse_channels()


def _has_bf16(core: Any) -> bool:
    return "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")


@dataclass(frozen=True, slots=True)
class _Pending:
    """See Pending."""

    runtime: OpenVINORuntime
    request: Any
    count: int

    def result(self, timeout: float | None = None) -> dict[str, np.ndarray]:
        try:
            if timeout is not None and not self.request.wait_for(int(1000 * timeout)):
                raise TimeoutError
            # In slices: Python handles a signal between them, and a model may never end.
            while not self.request.wait_for(_SLICE_MILLISECONDS):
                pass
            return self.runtime.finish(self.request, self.count)
        except (RuntimeError, ValueError) as error:  # of shapes that depend on the images
            raise self.runtime.failure("run", error) from error
