"""Selection of the runtime for a plan."""

from __future__ import annotations

from collections.abc import Callable

from nasnet_cli.errors import ModelError
from nasnet_cli.runtime.base import Plan, Runtime, RuntimeName


def open_runtime(
    plan: Plan,
    named: RuntimeName | None,
    note: Callable[[str], None],
    *,
    threads: int | None = None,
) -> Runtime:
    """Return the runtime of that name, ready for the plan; threads is for OpenVINO and
    TensorFlow Lite.

    Without a name it is OpenVINO, TensorFlow Lite for what computes in integers, or TensorFlow for
    a module that OpenVINO cannot read; note then receives a sentence about it. The model must be
    safe to run. Raises ModelError when the runtime cannot read it.
    """
    if plan.model.is_quantized:
        if named is not None:
            raise ModelError(
                f"{plan.model.path} computes in integers, which TensorFlow Lite's interpreter runs.",
                "Leave out --runtime.",
            )
        from nasnet_cli.runtime.tflite import TFLiteRuntime

        return TFLiteRuntime(plan, threads)
    if named == "tensorflow":
        if not plan.model.runs_on_tensorflow:
            raise ModelError(
                f"TensorFlow doesn't run {plan.model.path}, which is not a SavedModel.",
                "Leave out --runtime, or name the model that it was made from.",
            )
        return _open_tensorflow(plan)
    from nasnet_cli.runtime.openvino import OpenVINORuntime, UnreadableError

    try:
        return OpenVINORuntime(plan, threads)
    except UnreadableError as error:
        if named is not None or not plan.model.runs_on_tensorflow:
            raise
        note(f"{error.problem} TensorFlow runs it instead, which is slower to start.")
        return _open_tensorflow(plan)


def _open_tensorflow(plan: Plan) -> Runtime:
    from nasnet_cli.runtime.tensorflow import TensorFlowRuntime

    return TensorFlowRuntime(plan)
