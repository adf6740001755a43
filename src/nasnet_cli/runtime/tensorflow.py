"""Runs modules with TensorFlow itself: for what OpenVINO can't read, and to compare with it.

Whoever makes one must have seen to it that the module's operations are safe: TensorFlow does
whatever a module says.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from nasnet_cli.errors import ModelError, describe_error
from nasnet_cli.models.formats.saved_model import OpenedSavedModel
from nasnet_cli.models.savedmodel.extract import signature_with
from nasnet_cli.models.savedmodel.signatures import image_input
from nasnet_cli.quiet import hub, tf
from nasnet_cli.runtime.base import (
    Pending,
    Plan,
    Precision,
    Runtime,
    available_cores,
)
from nasnet_cli.runtime.cpu import instruction_set


class TensorFlowRuntime(Runtime):
    """A plan traced once, for requests of one size, on the processor.

    An operation runs in one thread, as the number of threads decides how sums are rounded; several
    requests at once use the cores. Graphics cards are left alone. Both hold for all that the
    process does with TensorFlow after; in one that has computed with it before, its settings stand,
    and results may differ in the last digits.
    """

    name = "tensorflow"

    def __init__(self, plan: Plan, threads: int | None = None) -> None:
        if plan.precision != "f32":
            raise ModelError(
                f"TensorFlow runs models in f32, not in {plan.precision}.",
                "Leave out --precision, or use a model that OpenVINO reads.",
            )
        self.plan = plan
        self.precision: Precision = plan.precision
        self.version = str(tf.__version__)
        self.instruction_set = instruction_set()
        self.threads = threads or available_cores()
        _settle(self.threads)
        self._pool = ThreadPoolExecutor(self.threads, thread_name_prefix="tensorflow")
        try:
            with tf.device("CPU:0"):
                self._function = self._trace()
        except (ModelError, MemoryError):
            raise
        except Exception as error:  # whatever stops TensorFlow, it is the module
            raise ModelError(
                f"TensorFlow can't load the model in {plan.model.path}: {describe_error(error)}.",
                "Get it again, or save it anew with a current TensorFlow.",
            ) from error

    def submit(self, pictures: Sequence[np.ndarray]) -> Pending:
        """See Runtime.submit."""
        request = np.zeros((self.plan.request_size, *self.plan.size, 3), self.plan.pixels)
        for row, picture in zip(request, pictures, strict=False):
            row[:] = picture
        return self._pool.submit(self._compute, request, len(pictures))

    def _compute(self, request: np.ndarray, count: int) -> dict[str, np.ndarray]:
        try:
            with tf.device("CPU:0"):
                outputs = self._function(tf.constant(request))
        except tf.errors.OpError as error:
            raise ModelError(
                f"TensorFlow can't run the model in {self.plan.model.path}: {describe_error(error)}.",
                "Get it again, or save it anew with a current TensorFlow.",
            ) from error
        return {
            name: np.array(values[:count])
            for (name, _), values in zip(self.plan.outputs, outputs, strict=True)
        }

    def _trace(self) -> Any:
        """The function from a request's pictures to a list of the plan's outputs."""
        module = self.plan.model
        assert isinstance(module, OpenedSavedModel)  # see OpenedModel.runs_on_tensorflow
        loaded = hub.load(str(module.path), tags=list(module.model.inference.tags))
        found = [signature_with(module.model, tensor) for tensor in self.plan.tensors]

        def outputs(pictures: Any) -> list[Any]:
            values = pictures
            if self.plan.pixels == "uint8":
                values = tf.cast(pictures, tf.float32) / 255.0
            results = []
            for signature, key in found:
                picture = image_input(signature)
                assert picture is not None  # or no plan would have named the signature
                given = loaded.signatures[signature.name](**{picture.key: values})
                results.append(tf.cast(given[key], tf.float32))
            return results

        shape = (self.plan.request_size, *self.plan.size, 3)
        function = tf.function(outputs, autograph=False)
        # The loaded module goes when nothing holds it, and its variables with it.
        self._loaded = loaded
        return function.get_concrete_function(tf.TensorSpec(shape, self.plan.pixels))


def _settle(requests: int) -> None:
    """Decides what TensorFlow computes on, as far as results depend on it."""
    # Too late, and an error, once TensorFlow has computed anything in this process.
    with contextlib.suppress(RuntimeError):
        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.config.threading.set_inter_op_parallelism_threads(requests)
        tf.config.set_visible_devices([], "GPU")
