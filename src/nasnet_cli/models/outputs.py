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


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Operations that pass on values of their first input: in TensorFlow, in OpenVINO, in TFLite.
_PASSING = _names("""
    Bitcast Cast Convert Dequantize DequantizeLinear EnsureShape ExpandDims FakeQuantize
    FakeQuantWithMinMaxArgs FakeQuantWithMinMaxVars Flatten Gather GatherV2 Identity IdentityN Quantize
    QuantizeLinear QuantizeV2 Reshape Slice Snapshot Split SplitV Squeeze StopGradient StridedSlice
    Transpose Unsqueeze VariadicSplit
    """)
# They change no probability, but may make one of logits.
_CLIPPING = _names("Clamp Clip ClipByValue")
_HEADS = {
    "Softmax": Head("probabilities", "softmax"),
    "Sigmoid": Head("probabilities", "sigmoid"),
    "HardSigmoid": Head("probabilities", "sigmoid"),
    "HSigmoid": Head("probabilities", "sigmoid"),
    # The logarithms of probabilities are logits too.
    "LogSoftmax": Head("logits", "log_softmax"),
}
_PRODUCTS = _names("Mul Multiply")
_QUOTIENTS = _names("Div Divide RealDiv")
_DIFFERENCES = _names("Sub Subtract")
_SUMS = _names("ReduceSum Sum")
_POOLING = _names("AdaptiveAvgPool AdaptiveMaxPool AvgPool Max MaxPool Mean ReduceMax ReduceMean")
# Operations that make logits of logits, as do products with constants and quotients by them.
_ADDING = (
    _SUMS | _DIFFERENCES | _names("Add AddN AddV2 AccumulateNV2 BiasAdd Concat ConcatV2 Neg Pack")
)
# The layers of a network that give logits.
_LAYERS = _names("""
    BatchMatMul BatchMatMulV2 BatchMatMulV3 BatchNormInference Conv Conv2D Convolution DepthwiseConv
    DepthwiseConv2dNative Einsum FusedBatchNorm FusedBatchNormV2 FusedBatchNormV3 GroupConvolution
    MatMul _FusedConv2D _FusedMatMul
    """)
_SCALING = _PRODUCTS | _QUOTIENTS
_INPUTS = _names("Arg Parameter Placeholder _Arg")
_CONSTANTS = _names("Const Constant ReadVariableOp VariableV2")
_MOST_STEPS = 1000
_DEEPEST_CONSTANT = 8


class UnclearOutputError(ModelError):
    """An output whose kind cannot be told."""

    def __init__(self, kind: str) -> None:
        super().__init__(
            f"its output comes from the operation {kind}, and whether that gives logits or "
            "probabilities can't be told",
            "Use a model that ends in logits, a softmax or sigmoids, or say what it gives in a card.",
        )


def read_head(last: Operation | None) -> Head:
    """Return what an output holds that the operation last computes.

    Raises UnclearOutputError when it is neither logits nor probabilities.
    """
    operation, _ = _without_passing(last)
    if operation is None or not operation.kind:
        return Head()
    if operation.kind in _HEADS:
        return _HEADS[operation.kind]
    if (head := _spelled_out(operation)) is not None:
        return head
    if unclear := _unclear(last):
        raise UnclearOutputError(unclear)
    return Head()


def is_pooled(last: Operation | None) -> bool:
    """Tell whether an output is a network's pooled features: those of an activation, with no layer
    behind the pooling. Means of the images themselves are none."""
    operation, _ = _without_passing(last)
    if operation is None or operation.kind not in _POOLING:
        return False
    return _unclear(next(iter(operation.inputs()), None)) not in {"", *_INPUTS}


def _without_passing(operation: Operation | None) -> tuple[Operation | None, str]:
    """Return the operation before those that pass its values on, and one that clips them."""
    clipped = ""
    for _ in range(_MOST_STEPS):
        if operation is None or operation.kind not in _PASSING | _CLIPPING:
            return operation, clipped
        clipped = operation.kind if operation.kind in _CLIPPING else clipped
        operation = next(iter(operation.inputs()), None)
    return None, clipped


def _inputs(operation: Operation) -> list[Operation]:
    """Return the operations that compute the inputs of one."""
    before = (_without_passing(each)[0] for each in operation.inputs())
    return [each for each in before if each is not None]


def _spelled_out(operation: Operation) -> Head | None:
    """Return the head that several operations make together."""
    before = _inputs(operation)
    kinds = [each.kind for each in before]
    if operation.kind in _QUOTIENTS and kinds[:1] == ["Exp"] and kinds[-1] in _SUMS:
        is_softmax = [each.kind for each in _inputs(before[-1])][:1] == ["Exp"]
        return _HEADS["Softmax"] if is_softmax else None
    if operation.kind in _DIFFERENCES and _is_log_sum(before[-1:]):
        return _HEADS["LogSoftmax"]
    if operation.kind == "Exp" and kinds[:1] == ["LogSoftmax"]:
        return _HEADS["Softmax"]
    if operation.kind == "Log" and kinds[:1] == ["Softmax"]:
        return _HEADS["LogSoftmax"]
    return None


def _is_log_sum(operations: Sequence[Operation]) -> bool:
    """Tell whether one of the operations is a logarithm of a sum of powers, maybe plus a number."""
    for operation in operations:
        if operation.kind in ("Add", "AddV2") and _is_log_sum(_inputs(operation)):
            return True
        if operation.kind == "Log":
            sums = [each for each in _inputs(operation)[:1] if each.kind in _SUMS]
            return any(each.kind == "Exp" for sum_ in sums for each in _inputs(sum_)[:1])
    return False


def _unclear(last: Operation | None) -> str:
    """Return the operation that makes something other than logits; "" where there is none.

    The last layers that compute the output are sought, through sums and products with constants.
    Pooled values may come from any operation but one that gives probabilities.
    """
    waiting: list[tuple[Operation | None, bool]] = [(last, False)]
    for _ in range(_MOST_STEPS):
        if not waiting:
            break
        given, pooled = waiting.pop()
        operation, clipped = _without_passing(given)
        if operation is None or not operation.kind or operation.kind in _LAYERS:
            continue
        inputs = list(operation.inputs())
        computed = [each for each in inputs if not _is_constant(each)]
        is_pooling = operation.kind in _POOLING
        is_scaled = computed == inputs[:1] or (operation.kind in _PRODUCTS and len(computed) == 1)
        if operation.kind in _ADDING or is_pooling or (operation.kind in _SCALING and is_scaled):
            waiting += [(each, pooled or is_pooling) for each in computed]
        elif not pooled or operation.kind in _HEADS:
            return operation.kind
        if clipped and not pooled:
            return clipped
    return ""


def _is_constant(operation: Operation, depth: int = 0) -> bool:
    if operation.kind in _CONSTANTS:
        return True
    inputs = operation.inputs() if depth < _DEEPEST_CONSTANT else ()
    return bool(inputs) and all(_is_constant(each, depth + 1) for each in inputs)
