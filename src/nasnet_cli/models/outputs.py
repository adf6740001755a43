"""Kinds of outputs, found by walking back through its graph, whatever its format."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from nasnet_cli.errors import ModelError
from nasnet_cli.models.card import Activation, Output


class Operation(NamedTuple):
    """An operation of a graph: its type, and a function that gives those of its inputs.

    Where the graph cannot be followed, there are no inputs.
    """

    kind: str
    inputs: Callable[[], Sequence[Operation]]


class Head(NamedTuple):
    """The kind of an output, and the activation that makes or has made probabilities of it."""

    output: Output = "logits"
    activation: Activation = "softmax"


# Operations that pass on values of their first input: in TensorFlow, in OpenVINO, in TFLite.
_PASSING = frozenset(
    [
        "Bitcast",
        "Cast",
        "Clamp",
        "Clip",
        "ClipByValue",
        "Convert",
        "Dequantize",
        "DequantizeLinear",
        "EnsureShape",
        "ExpandDims",
        "FakeQuantize",
        "FakeQuantWithMinMaxArgs",
        "FakeQuantWithMinMaxVars",
        "Flatten",
        "Gather",
        "GatherV2",
        "Identity",
        "IdentityN",
        "Quantize",
        "QuantizeLinear",
        "QuantizeV2",
        "Reshape",
        "Slice",
        "Snapshot",
        "Split",
        "SplitV",
        "Squeeze",
        "StopGradient",
        "StridedSlice",
        "Transpose",
        "Unsqueeze",
        "VariadicSplit",
    ]
)
_HEADS = {
    "Softmax": Head("probabilities", "softmax"),
    "Sigmoid": Head("probabilities", "sigmoid"),
    "HardSigmoid": Head("probabilities", "sigmoid"),
    "HSigmoid": Head("probabilities", "sigmoid"),
    # The logarithms of probabilities are logits too.
    "LogSoftmax": Head("logits", "log_softmax"),
}
# What gives no scores of classes, or in a range that no activation explains.
_REFUSED = frozenset(("ArgMax", "ArgMin", "NonMaxSuppression", "OneHot", "Tanh", "TopK", "TopKV2"))
_SUMS = frozenset(("ReduceSum", "Sum"))
_QUOTIENTS = frozenset(("Div", "Divide", "RealDiv"))
# What may mix probabilities with something else.
_MIXING = _QUOTIENTS | frozenset(
    [
        "Add",
        "AddN",
        "AddV2",
        "AccumulateNV2",
        "Concat",
        "ConcatV2",
        "Exp",
        "Log",
        "Max",
        "Maximum",
        "Mean",
        "Min",
        "Minimum",
        "Mul",
        "Multiply",
        "Neg",
        "Pack",
        "Pow",
        "Power",
        "Prod",
        "ReduceMax",
        "ReduceMean",
        "ReduceMin",
        "ReduceSum",
        "Sqrt",
        "Square",
        "Sub",
        "Subtract",
        "Sum",
    ]
)
_PRODUCTS = frozenset(("Mul", "Multiply"))
_MOST_STEPS = 1000


class UnclearOutputError(ModelError):
    """An output whose kind cannot be told."""

    def __init__(self, kind: str) -> None:
        super().__init__(
            f"the operation {kind} makes it, of which it can't be told whether it gives logits or "
            "probabilities",
            "Use a model that ends in logits, a softmax or sigmoids, or say what it gives in a card.",
        )


def read_head(last: Operation | None) -> Head:
    """Return what an output holds that the operation last computes.

    Raises UnclearOutputError when it is neither logits nor probabilities.
    """
    operation = _without_passing(last)
    if operation is None:
        return Head()
    if operation.kind in _HEADS:
        return _HEADS[operation.kind]
    before = [_without_passing(each) for each in operation.inputs()]
    kinds = [each.kind for each in before if each is not None]
    if operation.kind in _QUOTIENTS and kinds[:1] == ["Exp"] and kinds[-1] in _SUMS:
        return Head("probabilities", "softmax")
    if operation.kind == "Exp" and kinds[:1] == ["LogSoftmax"]:
        return Head("probabilities", "softmax")
    if operation.kind == "Log" and kinds[:1] == ["Softmax"]:
        return Head("logits", "log_softmax")
    if operation.kind in _REFUSED or _mixes_probabilities(operation):
        raise UnclearOutputError(operation.kind)
    return Head()


def _without_passing(operation: Operation | None) -> Operation | None:
    """Return the operation before those that pass its values on."""
    for _ in range(_MOST_STEPS):
        if operation is None or operation.kind not in _PASSING:
            return operation
        operation = next(iter(operation.inputs()), None)
    return None


def _mixes_probabilities(operation: Operation) -> bool:
    """Tell whether an output is made of probabilities, without a layer between."""
    waiting = [operation]
    for _ in range(_MOST_STEPS):
        if not waiting:
            return False
        operation = waiting.pop()
        if operation.kind not in _MIXING:
            continue
        before = [each for each in map(_without_passing, operation.inputs()) if each is not None]
        kinds = {each.kind for each in before}
        # x * sigmoid(x) is an activation within a network.
        is_swish = (
            operation.kind in _PRODUCTS
            and "Sigmoid" in kinds
            and not kinds <= _HEADS.keys() | {"Const", "Constant"}
        )
        if kinds & _HEADS.keys() and not is_swish:
            return True
        waiting += before
    return False
