"""What the numbers of a model's output are: found by walking back through its graph."""

from __future__ import annotations

from collections.abc import Iterable

from nasnet_cli.models.card import Output

# Operations that pass their first input on, of TensorFlow, TFLite, ONNX and OpenVINO.
_PASSING = frozenset(("Identity", "Reshape", "Squeeze", "Cast", "Convert", "Result"))

_KINDS: dict[str, Output] = {"Softmax": "probabilities"}

_MOST_STEPS = 1000


def output_kind(operations: Iterable[str]) -> Output:
    """Return what an output holds.

    operations are the types of the operations that compute it, the last one first, each followed by
    the one that gives its first input. They may go on forever, or end early where the graph cannot
    be followed.
    """
    for step, operation in enumerate(operations):
        if operation not in _PASSING or step == _MOST_STEPS:
            return _KINDS.get(operation, "logits")
    return "logits"
