"""The TensorFlow runtime: for modules that OpenVINO cannot read, and for comparison.

The caller checks that the module's operations are safe: TensorFlow does whatever a module says.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from nasnet_cli.errors import ModelError, describe_error, exhaustion
from nasnet_cli.models.formats.saved_model import OpenedSavedModel
from nasnet_cli.models.savedmodel.extract import find_signature
from nasnet_cli.models.savedmodel.signatures import image_input
from nasnet_cli.models.values import factors
from nasnet_cli.quiet import hub, tf
from nasnet_cli.runtime.base import Pending, Plan, Runtime


class TensorFlowRuntime(Runtime):
    """A plan traced once, for requests of one size, on the CPU.

    An operation runs in one thread, as the number of threads decides how sums are rounded; requests
    run in parallel. GPUs are not used. Both hold for everything that the process does with
    TensorFlow later; in a process that has used it before, its settings stay, and results may
    differ in the last digits.
    """

    name = "tensorflow"

    def __init__(self, plan: Plan, threads: int | None = None) -> None:
        if plan.precision != "f32":
            raise ModelError(
                f"TensorFlow runs models in f32, not in {plan.precision}.",
                "Leave out --precision, or use a model that OpenVINO reads.",
            )
        super().__init__(plan, str(tf.__version__), threads)
        _configure(self.threads)
        self._pool = ThreadPoolExecutor(self.threads, thread_name_prefix="tensorflow")
        try:
            with tf.device("CPU:0"):
                self._function = self._trace()
        except ModelError:
            raise
        except Exception as error:  # TensorFlow raises errors of all kinds
            if exhausted := exhaustion(error):
                raise exhausted from error
            raise ModelError(
                f"TensorFlow cannot load the model in {plan.model.path}: {describe_error(error)}.",
                "Get it again, or save it again with a current TensorFlow.",
            ) from error

    def submit(self, images: Sequence[np.ndarray]) -> Pending:
        """See Runtime.submit."""
        request = np.zeros((self.plan.request_size, *self.plan.size, 3), self.plan.pixels)
        for row, image in zip(request, images, strict=False):
            row[:] = image
        return self._pool.submit(self._compute, request, len(images))

    def _compute(self, request: np.ndarray, count: int) -> dict[str, np.ndarray]:
        try:
            with tf.device("CPU:0"):
                outputs = self._function(tf.constant(request))
        except tf.errors.OpError as error:
            raise ModelError(
                f"TensorFlow cannot run the model in {self.plan.model.path}: {describe_error(error)}.",
                "Get it again, or save it again with a current TensorFlow.",
            ) from error
        return {
            name: np.array(values[:count])
            for (name, _), values in zip(self.plan.outputs, outputs, strict=True)
        }

    def _trace(self) -> Any:
        """Return the function from a request's images to a list of the plan's outputs."""
        module = self.plan.model
        assert isinstance(module, OpenedSavedModel)  # see OpenedModel.runs_on_tensorflow
        loaded = hub.load(str(module.path), tags=list(module.model.inference.tags))
        sources = [find_signature(module.model, tensor) for tensor in self.plan.tensors]

        shape = (self.plan.request_size, *self.plan.size, 3)

        def outputs(images: Any) -> list[Any]:
            results = []
            for signature, key in sources:
                argument = image_input(signature)
                assert argument is not None  # or no plan would have named the signature
                values = self._values(images, argument.dtype)
                tensors = loaded.signatures[signature.name](**{argument.key: values})
                results.append(tf.reshape(tf.cast(tensors[key], tf.float32), (shape[0], -1)))
            return results

        function = tf.function(outputs, autograph=False)
        # The variables live as long as the loaded module.
        self._loaded = loaded
        return function.get_concrete_function(tf.TensorSpec(shape, self.plan.pixels))

    def _values(self, images: Any, dtype: str) -> Any:
        """Return the values that the module takes for the pixels of images, of its dtype."""
        wanted = tf.as_dtype(dtype)
        if self.plan.pixels == "uint8":
            unit, values = tf.constant(255.0), tf.cast(images, tf.float32)
        else:
            unit, values = tf.constant(1.0), images
        if wanted.is_integer:  # bytes as they are
            values = tf.round(values * (255.0 / unit))
        elif self.plan.input_range == "0..1":
            values = values / unit
        else:
            mean, std = factors(self.plan.input_range)
            values = (values * (255.0 / unit) - tf.constant(mean)) / tf.constant(std)
        if self.plan.channels == "bgr":
            values = values[..., ::-1]
        return tf.cast(values, wanted)


def _configure(requests: int) -> None:
    """Set the threads and devices that results depend on."""
    # An error once TensorFlow has computed anything in this process.
    with contextlib.suppress(RuntimeError):
        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.config.threading.set_inter_op_parallelism_threads(requests)
        tf.config.set_visible_devices([], "GPU")
