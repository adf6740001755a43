"""The kind of a model's output, found by walking back through its graph."""

from __future__ import annotations

from collections.abc import Iterable

from nasnet_cli.models.card import Output

# Operations that only pass on their first input, in TensorFlow and in OpenVINO.
_PASSING = frozenset(
    ("Cast", "Convert", "ExpandDims", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze")
)

# LogSoftmax counts as logits: the softmax of logarithms of probabilities is the probabilities.
# Sigmoids are independent probabilities.
_KINDS: dict[str, Output] = {"Softmax": "probabilities", "Sigmoid": "probabilities"}

_MOST_STEPS = 1000


def output_kind(operations: Iterable[str]) -> Output:
    """Return what an output holds.

    operations are the types of the operations that compute it, the last one first, each followed by
    the one that gives its first input (openvino_graph.operations_before and
    savedmodel.graph.operations_before). They may go on forever, or end early where the graph cannot
    be followed.
    """
    for step, operation in enumerate(operations):
        if operation not in _PASSING or step == _MOST_STEPS:
            return _KINDS.get(operation, "logits")
    return "logits"
